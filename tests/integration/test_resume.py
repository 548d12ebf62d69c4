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
"""A training that is killed and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import csv
import signal
import time
from pathlib import Path

import torch
from bundle_runs import run_bundle, succeed, write_overlay

EPOCHS = 6
MOVED = {
    "_target_": "RandAffined",
    "keys": ["moving_image", "fixed_image", "moving_label"],
    "prob": 1.0,
    "rotate_range": [0.2, 0.2, 0.2],
    "mode": ["bilinear", "bilinear", "nearest"],
    "padding_mode": "border",
    "allow_missing_keys": True,
}


def epochs_done(folder: Path) -> int:
    if not (folder / "history.csv").is_file():
        return 0
    with open(folder / "history.csv", newline="") as file:
        return max((int(row["epoch"]) for row in csv.DictReader(file)), default=0)


def same(first: object, second: object) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_a_training_that_is_killed_and_resumed_equals_one_that_is_not(phantoms, tmp_path):
    options = {"max_epochs": EPOCHS, "iterations_per_epoch": 4, "augmentation": MOVED}
    configs = ["configs/train.yaml", write_overlay(tmp_path / "tiny.yaml", **options)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    succeed("training", configs, dataset_dir=phantoms, output_dir=whole)

    running = run_bundle("training", configs, wait=False, dataset_dir=phantoms, output_dir=broken)
    deadline = time.monotonic() + 300
    while running.poll() is None and epochs_done(broken) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL and 2 <= epochs_done(broken) < EPOCHS
    succeed("training", configs, dataset_dir=phantoms, output_dir=broken, resume="true")

    assert (broken / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("model.pt", "model_registration.pt", "model_discriminator.pt", "train_state.pt"):
        resumed, uninterrupted = (torch.load(folder / name, weights_only=True) for folder in (broken, whole))
        assert same(resumed, uninterrupted), name
