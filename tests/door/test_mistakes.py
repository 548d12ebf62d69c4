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

"""Mistakes of the caller: told at once, in a message alone, with status 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from door_calls import answers

#: words -> parts of the message
CALLS: dict[str, tuple[str, ...]] = {
    "trian mydata": ("no command `trian`", "Did you mean `train`?"),
    "train nothere": ("--dataset_dir nothere", "no such folder"),
    "train": ("the data are missing", "deeprs train DATA"),
    "train mydata --max_epoch 3": ("--max_epoch", "Did you mean `max_epochs`?"),
    "train mydata --max-epoch 3 --fodl 1": ("2 mistakes", "`max_epochs`", "`fold`"),
    "train mydata --max_epochs many": ("--max_epochs: expected a whole number of at least 1 (epochs), found 'many'",),
    "train mydata --max_epochs 2.5": ("expected a whole number of at least 1 (epochs), found 2.5",),
    "train mydata --max_epochs null": ("expected a whole number of at least 1 (epochs), found None",),
    "train mydata --learning_rate fast": ("expected a number of at least 0, found 'fast'",),
    "train mydata --amp perhaps": ("too many words: `perhaps`",),
    "train mydata --amp=perhaps": ("expected true or false (or yes, no, 1, 0), found 'perhaps'",),
    "train mydata --spatial_size big": ("expected three whole numbers of at least 1 (voxels), found 'big'",),
    "train mydata --max_epochs": ("--max_epochs needs a value", "default is 50"),
    "train mydata --seed 1 --seed 2": ("--seed is given 2 times",),
    "train mydata --config mydta.yaml": ("--config mydta.yaml: no such file",),
    "train mydata --config light_augmentatoin": ("Did you mean `light_augmentation`?",),
    "train mydata --recipe bets": ("Did you mean `best`?", "deeprs recipes"),
    "train mydata --recipe": ("--recipe needs a name",),
    "train mydata --config broken.yaml": ("broken.yaml, line 3", "no YAML"),
    "train mydata --config list.yaml": ("list.yaml: expected entries", "found list"),
    "train mydata --config misplaced.yaml": ("misplaced.yaml", "`network_deff::channels`"),
    "train mydata --train::trianer::amp true": (
        "--train::trianer::amp",
        "no such entry",
        "Did you mean `train::trainer",
    ),
    "train mydata --model mydata": ("--model is for evaluate, segment, register",),
    "train mydata -x 3": ("two hyphens",),
    "train moved --config moved.yaml --datalist lost.json": ("--datalist lost.json: no such file",),
    "train --config moved.yaml": ("dataset_dir /no/such/data", "no such folder"),
    "segment": ("the data are missing", "deeprs segment IMAGES"),
    "segment mydata --model nowhere": ("--model nowhere: no such file", "deeprs train --out"),
    "evaluate --model only_model": ("no ", "only_model/config.yaml"),
    "evaluate mydata --model listed": ("--datalist", "elsewhere.json"),
    "register a.nii.gz": ("MOVING and FIXED",),
    "register a.nii.gz aa.nii.gz": ("--fixed aa.nii.gz: no such file", "Did you mean `a.nii.gz`?"),
    "register a.nii.gz a.nii.gz a.nii.gz": ("too many words",),
    "register --movin a.nii.gz --fixed a.nii.gz": ("--movin", "Did you mean `moving`?"),
    "apply": ("expected a TRANSFORM",),
    "report": ("expected the folder of an evaluation",),
    "report mydata mydata": ("name it with --out",),
    "label": ("expected APP",),
    "demo --max_epochs few": ("expected a whole number",),
}


@pytest.fixture(scope="module")
def replies(tmp_path_factory) -> tuple[dict[str, tuple[int, str, str, float]], list[str]]:
    place: Path = tmp_path_factory.mktemp("mistakes")
    for folder in ("mydata", "only_model", "listed", "moved"):
        (place / folder).mkdir()
    (place / "a.nii.gz").touch()
    (place / "broken.yaml").write_text("seed: 1\nfold: [1,\n")
    (place / "list.yaml").write_text("- 1\n")
    (place / "misplaced.yaml").write_text("network_deff::channels: [4]\n")
    (place / "moved.yaml").write_text("dataset_dir: /no/such/data\n")
    (place / "only_model" / "model.yaml").write_text("labels: {}\n")
    (place / "listed" / "model.yaml").write_text("labels: {}\n")
    (place / "listed" / "config.yaml").write_text("dataset_dir: /elsewhere\ndatalist: /elsewhere.json\n")
    found, imported = answers([call.split() for call in CALLS], place)
    return dict(zip(CALLS, found, strict=True)), imported


@pytest.mark.parametrize("call", CALLS)
def test_a_mistake_ends_in_its_message_and_status_2(call, replies):
    status, out, message, _ = replies[0][call]
    assert status == 2 and out == ""
    for part in CALLS[call]:
        assert part in message
    assert message.startswith("deeprs") and "Traceback" not in message
    assert len(message.splitlines()) <= 5


def test_no_mistake_needs_pytorch_or_a_second(replies):
    assert replies[1] == []
    assert max(seconds for _, _, _, seconds in replies[0].values()) < 1.0
