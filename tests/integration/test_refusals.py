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

from pathlib import Path

import pytest
from bundle_runs import TINY, workflow

from scripts.errors import root_cause


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
