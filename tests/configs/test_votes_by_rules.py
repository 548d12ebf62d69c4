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
"""A data set that votes may have names by rules, as one that is trained on has."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import yaml
from bundle_runs import CONFIGS, STRUCTURES, tiny, workflow

RULES = {"image_name": "*_T1w.nii.gz", "label_name": "*_dseg.nii.gz"}


def test_a_vote_reads_its_cases_by_the_rules(phantoms, tmp_path, caplog):
    configs = ["train.yaml", "recipes/votes.yaml"]
    with workflow(configs, dataset_dir=str(phantoms), output_dir=str(tmp_path / "t"), **tiny(configs)) as training:
        training.run()
    first = json.loads((phantoms / "datalist.json").read_text())["labeled"][0]
    for kind, ending in (("image", "T1w"), ("label", "dseg")):
        (tmp_path / "vote" / f"{kind}s").mkdir(parents=True)
        (tmp_path / "vote" / f"{kind}s" / f"one_{ending}.nii.gz").symlink_to(phantoms / first[kind])
    (tmp_path / "in").mkdir()
    image = sorted((phantoms / "images").iterdir())[-1]
    (tmp_path / "in" / "other_T1w.nii.gz").symlink_to(image)
    entries = {"dataset_dir": str(tmp_path / "in"), "vote": str(tmp_path / "vote"), "ckpt_dir": str(tmp_path / "t")}
    model = str(tmp_path / "t" / "model.yaml")
    with (
        caplog.at_level(logging.INFO),
        workflow(
            ["inference.yaml", model],
            "infer",
            run_id="inferring",
            properties_path=None,
            output_dir=str(tmp_path / "out"),
            **entries,
            **RULES,
        ) as command,
    ):
        command.run()
    assert "labelled cases vote on each image" in caplog.text and caplog.text.count(": one\n") == 1
    found = nib.load(tmp_path / "out" / "other_seg.nii.gz")
    assert set(np.unique(found.dataobj)) <= {0, *STRUCTURES}


def test_the_rules_reach_every_vote():
    for command, place in (
        ("inference", ["voted"]),
        ("register", ["networks"]),
        ("evaluate", ["evaluation", "networks"]),
    ):
        found = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
        for key in place:
            found = found[key]
        assert (found["image_name"], found["label_name"]) == ("@image_name", "@label_name")
