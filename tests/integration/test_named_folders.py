# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Rules for names reach the commands, and an evaluation has those of its training."""

from __future__ import annotations

import json

import pytest
import yaml
from bundle_runs import CONFIGS, STRUCTURES, names_in, tiny, workflow
from monai.bundle import ConfigParser

from deeprs.declared import config_files
from deeprs.plans import Plan, base
from scripts.files.errors import root_cause

RULES = {"image_name": "*_T1w.nii.gz", "label_name": "*_dseg.nii.gz"}


@pytest.fixture(scope="module")
def named(phantoms, tmp_path_factory):
    """The phantoms as ``images/NAME_T1w.nii.gz`` and ``labels/NAME_dseg.nii.gz``, without names of ids."""
    folder = tmp_path_factory.mktemp("named")
    lists = json.loads((phantoms / "datalist.json").read_text())
    for kind, ending in (("image", "T1w"), ("label", "dseg")):
        (folder / f"{kind}s").mkdir()
        for entry in (entry for key in ("labeled", "validation", "test", "unlabeled") for entry in lists[key]):
            if isinstance(entry, dict) and kind in entry:
                path = phantoms / entry[kind]
                name = path.name.removesuffix(".nii.gz")
                (folder / f"{kind}s" / f"{name}_{ending}.nii.gz").symlink_to(path)
    return folder


def test_checking_refuses_names_that_differ_and_takes_the_rules_that_it_names(named):
    with (
        pytest.raises(Exception) as stopped,
        workflow(["train.yaml"], dataset_dir=str(named), **tiny(["train.yaml"])) as run,
    ):
        run.parser.get_parsed_content("cases")
    message = str(root_cause(stopped.value))
    assert "0 pairs" in message and '--image_name "*_T1w.nii.gz" --label_name "*_dseg.nii.gz"' in message
    with workflow(["train.yaml"], dataset_dir=str(named), **tiny(["train.yaml"]), **RULES) as run:
        cases = run.parser.get_parsed_content("cases")
        run.parser.get_parsed_content("data_check").run()
    assert cases.labels == {i: str(i) for i in STRUCTURES} and len(cases.labeled) == 2


def test_an_evaluation_has_the_rules_of_its_training(named, tmp_path):
    out = tmp_path / "out"
    with workflow(["train.yaml"], dataset_dir=str(named), output_dir=str(out), **tiny(["train.yaml"]), **RULES) as run:
        run.run()
        trained = run.parser.get_parsed_content("cases")
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert {name: config[name] for name in RULES} == RULES
    files = [*base("train"), out / "config.yaml", *base("evaluate")]
    with config_files(Plan("evaluating", files, declared=out / "config.yaml")) as declared:
        parser = ConfigParser(ConfigParser.load_config_files(declared))
    parser["output_dir"] = str(tmp_path / "evaluation")
    assert parser.get_parsed_content("cases") == trained


def test_segmenting_names_its_results_after_what_the_star_stands_for(named, tmp_path):
    network = {"_target_": "tiny_networks.ByBrightness", "num_classes": 3}
    known = {"network_def": network, "inferer": {"_target_": "SimpleInferer"}, "handlers": []}
    known |= {"intensity": "window", "intensity_range": [-300, 600], "spatial_size": [16, 16, 16]}
    folders = {"dataset_dir": str(named / "images"), "output_dir": str(tmp_path)}
    with workflow(["inference.yaml"], "infer", image_name="*_T1w.nii.gz", **folders, **known) as run:
        run.run()
    images = {path.name.replace("_T1w", "_seg") for path in (named / "images").iterdir()}
    assert names_in(tmp_path) == images | {"review.csv"}


@pytest.mark.parametrize("command", ["train", "prepare", "inference"])
def test_the_rules_are_entries_of_every_command_that_reads_a_data_set(command):
    config = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
    assert config["image_name"] is None and config["cases"]["image_name"] == "@image_name"
    assert command == "inference" or config["cases"]["label_name"] == "@label_name"
