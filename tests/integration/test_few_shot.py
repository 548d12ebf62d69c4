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
"""What training may read, and what it may do without."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from bundle_runs import TINY, workflow

WEIGHTS = {"model.pt", "model_registration.pt", "model_discriminator.pt"}


@pytest.fixture
def copied(phantoms, tmp_path):
    """A copy of the phantoms that a test may spoil, and its datalist."""
    shutil.copytree(phantoms, tmp_path / "data")
    return tmp_path / "data", json.loads((phantoms / "datalist.json").read_text())


def train(data: Path, out: Path, **entries) -> dict[str, torch.Tensor]:
    with workflow(["train.yaml"], dataset_dir=str(data), output_dir=str(out), **TINY | entries) as training:
        training.run()
    return torch.load(out / "model.pt", weights_only=True)


def test_labels_of_unlabelled_cases_are_never_opened(copied, tmp_path):
    data, datalist = copied
    expected = train(data, tmp_path / "without")
    for case in datalist["unlabeled"]:
        case["label"] = case["image"].replace("images", "labels")
        (data / case["label"]).write_bytes(b"not a volume: reading this fails")
    (data / "datalist.json").write_text(json.dumps(datalist))
    weights = train(data, tmp_path / "with")
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_labels_of_labelled_cases_outside_the_few_are_never_opened(copied, tmp_path):
    data, datalist = copied
    (data / datalist["labeled"][1]["label"]).write_bytes(b"not a volume: reading this fails")
    assert train(data, tmp_path / "out", num_labeled=1)
    with pytest.raises(RuntimeError) as stopped:  # by MONAI, from the error of the data check
        train(data, tmp_path / "both", num_labeled=2)
    assert "the label cannot be read" in str(stopped.value.__cause__)


def test_without_validation_cases_the_latest_weights_are_kept(copied, tmp_path):
    data, datalist = copied
    del datalist["validation"], datalist["test"]
    (data / "datalist.json").write_text(json.dumps(datalist))
    train(data, tmp_path / "out", max_epochs=2)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= WEIGHTS
    latest = torch.load(tmp_path / "out" / "train_state.pt", weights_only=True)
    assert latest["epoch"] == 2
    saved = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert all(torch.equal(saved[key], value) for key, value in latest["networks"]["segmentation"].items())
    with open(tmp_path / "out" / "history.csv", newline="") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert not any(name.startswith("validation/") for name in names)
    assert {"training/field_length_voxels", "training/folding_percent"} <= names
    pictures = sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == ["epoch_0001.png", "epoch_0002.png"]


def test_a_folder_of_images_and_a_few_labels_is_enough(copied, tmp_path):
    data, datalist = copied
    (data / "datalist.json").unlink()
    names = {key: value for key, value in datalist["labels"].items() if key != "0"}
    assert train(data, tmp_path / "out", labels=names, num_labeled=2)
