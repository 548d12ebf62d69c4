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
"""What is refused because it would destroy or mistake something: a second training, weights of another network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_runs import TINY, workflow

from scripts.files.errors import root_cause


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with workflow(["train.yaml"], dataset_dir=str(phantoms), output_dir=str(folder), **TINY) as training:
        training.run()
    return folder


def refusal(configs: list[str], **entries) -> str:
    with pytest.raises(RuntimeError) as stopped, workflow(configs, **entries) as refused:  # raised by MONAI
        refused.run()
    return str(root_cause(stopped.value))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", [None, "train_state.pt"])
def test_a_second_training_into_a_folder_damages_nothing(lost, trained, phantoms, tmp_path):
    folder = tmp_path / "out"
    for name, content in contents(trained).items():
        if name != lost:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    before = contents(folder)
    message = refusal(["train.yaml"], dataset_dir=str(phantoms), output_dir=str(folder), **TINY | {"max_epochs": 2})
    assert str(folder) in message and "choose another `--output_dir`" in message.replace("Choose", "choose")
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before


def test_weights_of_another_network_are_refused_with_what_to_do(trained, phantoms, tmp_path):
    entries = {"num_labeled": 2, "ckpt_dir": str(trained), "run_id": "evaluating"}
    message = refusal(["train.yaml", "evaluate.yaml"], dataset_dir=str(phantoms), output_dir=str(tmp_path), **entries)
    assert str(trained) in message and "Add the `model.yaml` that training wrote beside them" in message


def test_evaluating_without_weights_says_where_they_were_looked_for(phantoms, tmp_path):
    message = refusal(
        ["train.yaml", "evaluate.yaml"],
        dataset_dir=str(phantoms),
        output_dir=str(tmp_path / "out"),
        ckpt_dir=str(tmp_path),
        run_id="evaluating",
        **TINY,
    )
    assert f"no weights '{tmp_path}/model" in message and "`--ckpt_dir`" in message


def test_label_maps_by_the_weights_of_another_network_are_refused_with_what_to_do(trained, phantoms, tmp_path):
    entries = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path)}
    with pytest.raises(RuntimeError) as stopped, workflow(["inference.yaml"], "infer", **entries) as inference:
        inference.parser["ckpt_dir"] = str(trained)
        inference.run()
    assert "Add the `model.yaml` that training wrote beside them" in str(root_cause(stopped.value))


def test_a_training_is_not_resumed_by_another_recipe(trained, phantoms):
    before = contents(trained)
    entries = {"dataset_dir": str(phantoms), "output_dir": str(trained), "resume": True, "max_epochs": 2}
    message = refusal(["train.yaml", "recipes/cps.yaml"], **TINY | entries)
    assert "of a training with other networks or updates" in message and "second_segmentation" in message
    assert "choose another `--output_dir`" in message
    after = contents(trained)
    assert all(after[name] == content for name, content in before.items() if name.endswith(".pt"))


@pytest.mark.parametrize(
    "other", [{"num_labeled": 1}, {"num_labeled": 1, "fold": 1}, {"datalist": "turned.json"}, {"num_unlabeled": 2}]
)
def test_a_training_is_not_resumed_with_other_cases(other, trained, phantoms, tmp_path):
    if "datalist" in other:  # the labelled cases have become those of the test
        lists = json.loads((phantoms / "datalist.json").read_text())
        for case in (case for cases in lists.values() if isinstance(cases, list) for case in cases):
            case |= {key: str(phantoms / case[key]) for key in ("image", "label") if key in case}
        lists["labeled"], lists["test"] = lists["test"], lists["labeled"]
        other = {"datalist": str(tmp_path / "turned.json")}
        Path(other["datalist"]).write_text(json.dumps(lists))
    before = contents(trained)
    entries = TINY | {"num_labeled": 2, "dataset_dir": str(phantoms), "output_dir": str(trained), "resume": True}
    message = refusal(["train.yaml"], **entries | {"max_epochs": 2} | other)
    assert "of a training with other cases" in message and "`config.yaml` beside it" in message
    assert ("  unlabeled: no longer" if "num_unlabeled" in other else "  labeled: no longer") in message
    after = contents(trained)
    assert all(after[name] == content for name, content in before.items() if name.endswith((".pt", ".yaml")))


@pytest.mark.parametrize("word", ["yes", "TRUE", 1])
def test_more_epochs_with_the_same_cases_are_no_other_training(word, trained, phantoms, tmp_path):
    for name, content in contents(trained).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    entries = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "resume": word, "max_epochs": 2}
    with workflow(["train.yaml"], **TINY | entries) as training:
        training.run()
        assert training.parser.get_parsed_content("train::trainer").state.iteration == 4


def test_a_word_that_is_neither_true_nor_false_is_refused(phantoms, tmp_path):
    entries = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "resume": "perhaps"}
    message = refusal(["train.yaml"], **TINY | entries)
    assert message == "resume: expected true or false (or yes, no, 1, 0), found 'perhaps'."


def test_a_network_that_replaces_the_one_of_a_recipe_is_refused_with_the_order_of_files(phantoms, tmp_path):
    narrow = {"_target_": "scripts.networks.VoxelMorph2", "encoder_channels": [4, 4], "decoder_channels": [4, 4, 4]}
    entries = {key: value for key, value in TINY.items() if not key.startswith("registration_def")}
    entries |= {"registration_def": narrow | {"half_resolution": True}}
    entries |= {"dataset_dir": str(phantoms), "output_dir": str(tmp_path)}
    message = refusal(["train.yaml", "recipes/best.yaml"], **entries)
    assert "shows it 8 channels of each image, and it was made for 1" in message
    assert "put that file before the recipe" in message


@pytest.mark.parametrize("config", ["inference.yaml", "register.yaml"])
def test_a_size_that_the_networks_cannot_halve_is_refused_before_a_volume_is_read(config, tmp_path):
    entries = {"spatial_size": [40, 57, 40], "output_dir": str(tmp_path), "dataset_dir": str(tmp_path / "no")}
    entries = entries if config == "inference.yaml" else entries | {"moving": "no.nii.gz", "fixed": "no.nii.gz"}
    message = refusal([config], **entries)
    assert message.startswith("spatial_size: every side of a volume must be a multiple of")
    assert "Set `spatial_size` to [40, " in message
