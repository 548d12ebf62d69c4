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

"""Of the folder of a model, commands take what it declares; a config in it is run when it is given by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from door_calls import deeprs

from deeprs.declared import config_files
from deeprs.mistakes import Mistake
from deeprs.plans import Plan


def scores(folder: Path) -> dict:
    """What an evaluation found, without when and how fast."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(each) for key, each in value.items() if key not in ("seconds", "config", "created")}
        return value

    return kept(json.loads((folder / "metrics.json").read_text()))


@pytest.fixture
def foreign(pc_reg, tmp_path) -> tuple[Path, Path]:
    """A model whose model.yaml and config.yaml would make a file; and that file."""
    folder, trace = tmp_path / "foreign", tmp_path / "trace"
    shutil.copytree(pc_reg, folder)
    for name in ("model.yaml", "config.yaml"):
        content = yaml.safe_load((folder / name).read_text())
        content["network_def"] = f"$open({str(trace)!r}, 'w')"
        (folder / name).write_text(yaml.safe_dump(content))
    return folder, trace


def test_nothing_of_a_folder_is_run_and_its_scores_are_those_of_the_config_by_name(phantoms, pc_reg, foreign, tmp_path):
    folder, trace = foreign
    image = phantoms / "images" / "phantom_005.nii.gz"
    options = ("--max_pairs", "2", "--report", "false")
    for words in (
        ("segment", image, "--out", tmp_path / "segs"),
        ("evaluate", *options, "--out", tmp_path / "by_folder"),
    ):
        done = deeprs(*words, "--model", folder)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not trace.exists()
    done = deeprs("evaluate", *options, "--model", pc_reg / "config.yaml", "--out", tmp_path / "by_name")
    assert done.returncode == 0, done.stderr[-2000:]
    assert scores(tmp_path / "by_folder") == scores(tmp_path / "by_name")


def test_a_config_that_needs_more_than_it_declares_is_to_be_given_by_name(foreign):
    folder, trace = foreign
    config = folder / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["preprocessing"] = {"_target_": "Compose", "transforms": [{"_target_": "my.own.Step"}]}
    config.write_text(yaml.safe_dump(content))
    with (
        pytest.raises(Mistake, match=r"`preprocessing` is not that of train.yaml(.|\n)*by name: --model .*config.yaml"),
        config_files(Plan("evaluating", [config], declared=config)),
    ):
        pass
    assert not trace.exists()


def test_what_was_declared_stands_in_the_place_of_the_file_and_holds_no_expression(foreign):
    folder, _ = foreign
    first, last = Path("first.yaml"), Path("last.yaml")
    config = folder / "config.yaml"
    with config_files(Plan("evaluating", [first, config, last], declared=config)) as files:
        assert [files[0], files[2]] == ["first.yaml", "last.yaml"]
        entries = json.loads(Path(files[1]).read_text())
    assert {"dataset_dir", "num_labeled", "labels", "state", "spatial_size"} <= entries.keys()

    def texts(value):
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    assert not [text for text in texts(entries) if text[:1] in ("$", "@", "%")]
