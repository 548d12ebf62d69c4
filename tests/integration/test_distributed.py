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
"""Training, evaluation and registration in two processes that torchrun starts, on the CPU."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import run_bundle, succeed, tiny, workflow, write_overlay
from test_resume import same

TRAINING = "configs/train.yaml"
TOGETHER = "configs/multi_gpu_train.yaml"
NETWORKS = {"registration": "registration", "segmentation": "network", "discriminator": "discriminator"}

#: Nothing is drawn but pairs, and steps follow gradients: RMSprop and Adam enlarge rounding where a gradient
#: would be zero without it, as that of a bias before instance norm.
EXACT = {
    "max_epochs": 2,
    "iterations_per_epoch": 3,
    "sampling": {"_target_": "scripts.joint.Identity"},
    "discriminator_def::noise_std": 0.0,
    **{
        f"updates::{name}::optimizer": {
            "_target_": "torch.optim.SGD",
            "params": f"$@{network}.parameters()",
            "lr": 0.02,
            "momentum": 0.9,
        }
        for name, network in NETWORKS.items()
    },
}


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def overlay(tmp_path_factory):
    return write_overlay(tmp_path_factory.mktemp("overlay") / "exact.yaml", **EXACT)


@pytest.fixture(scope="module")
def joint(phantoms, tmp_path_factory):
    """One process, batches of two pairs."""
    folder = tmp_path_factory.mktemp("joint")
    entries = tiny(["train.yaml"]) | EXACT | {"batch_size": 2}
    with workflow(["train.yaml"], dataset_dir=str(phantoms), output_dir=str(folder), **entries) as training:
        training.run()
    return folder


@pytest.fixture(scope="module")
def shared(phantoms, overlay, tmp_path_factory):
    """Two processes, a pair in each."""
    folder, configs = tmp_path_factory.mktemp("shared"), [TRAINING, overlay, TOGETHER]
    succeed("training", configs, processes=2, dataset_dir=phantoms, output_dir=folder)
    return folder


def test_two_processes_take_the_steps_that_one_takes_on_the_joint_batch(joint, shared):
    states = [torch.load(folder / "train_state.pt", weights_only=True) for folder in (shared, joint)]
    assert [state["iteration"] for state in states] == [6, 6]
    for network in NETWORKS:
        together, alone = (state["networks"][network] for state in states)
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    together, alone = (rows_of(folder / "history.csv") for folder in (shared, joint))
    assert [(row["epoch"], row["name"]) for row in together] == [(row["epoch"], row["name"]) for row in alone]
    assert {"registration/region", "segmentation/weak", "validation/registration_dice"} <= {r["name"] for r in alone}
    values = [[float(row["value"]) for row in rows] for rows in (together, alone)]
    np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5)


def test_one_process_writes(joint, shared):
    assert {path.name for path in shared.iterdir()} == {path.name for path in joint.iterdir()}
    written_by = {path.name.split(".")[-2] for path in (shared / "tensorboard").iterdir()}  # numbers of processes
    assert len(written_by) == 1


@pytest.mark.slow
def test_a_shared_evaluation_gives_the_figures_of_one_process(phantoms, overlay, joint, tmp_path):
    options = {"dataset_dir": str(phantoms), "ckpt_dir": str(joint)}
    alone, together = tmp_path / "alone", tmp_path / "together"
    with workflow(["train.yaml", str(overlay), "evaluate.yaml"], output_dir=str(alone), **options) as evaluating:
        evaluating.run()
    configs = [TRAINING, overlay, "configs/evaluate.yaml", TOGETHER]
    succeed("evaluating", configs, processes=2, output_dir=together, **options)
    for task, structures in (("segmentation", 3 * 7), ("registration", 6 * 7)):
        tables = [rows_of(folder / f"{task}.csv") for folder in (together, alone)]
        assert len(tables[0]) == structures
        assert [row | {"seconds": 0} for row in tables[0]] == [row | {"seconds": 0} for row in tables[1]]
        for rank in ("worst", "median", "best"):
            name = f"examples/{task}_{rank}.npz"
            one, other = (dict(np.load(folder / name)) for folder in (together, alone))
            assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (together, alone)]
    for each in figures:
        del each["registration"]["seconds"]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_a_shared_sequence_registers_every_pair_and_ends_in_failure_where_one_could_not_be(phantoms, joint, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in (3, 4, 5):
        path = phantoms / "images" / f"phantom_00{number}.nii.gz"
        (images / path.name).symlink_to(path)
    (images / "phantom_broken.nii.gz").write_bytes(b"no volume")
    configs = ["configs/register.yaml", joint / "model.yaml", "configs/sequence.yaml", TOGETHER]
    moving = phantoms / "images" / "phantom_000.nii.gz"
    options = {"moving": moving, "fixed": images, "output_dir": tmp_path / "out"}
    done = run_bundle("registering", configs, processes=2, **options)
    assert done.returncode != 0 and "1 of 4 pairs could not be registered" in done.stdout
    rows = rows_of(tmp_path / "out" / "summary.csv")
    assert [Path(row["fixed"]).name for row in rows] == sorted(path.name for path in images.iterdir())
    assert [bool(row["fault"]) for row in rows] == [False, False, False, True]
    for row in rows[:3]:
        assert (tmp_path / "out" / row["name"] / "warped.nii.gz").is_file()


@pytest.mark.slow
def test_a_shared_training_that_is_resumed_equals_one_that_is_not(phantoms, tmp_path):
    # with all that is drawn at random; the length of the whole training, also where it is stopped after an epoch
    options = {"max_epochs": 2, "iterations_per_epoch": 4, "total_iterations": 8}
    configs = [TRAINING, write_overlay(tmp_path / "tiny.yaml", **options), TOGETHER]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = {"processes": 2, "dataset_dir": phantoms}
    succeed("training", configs, output_dir=whole, **options)
    succeed("training", configs, output_dir=broken, max_epochs=1, **options)
    succeed("training", configs, output_dir=broken, resume="true", **options)
    assert (broken / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("model.pt", "model_registration.pt", "model_discriminator.pt"):
        resumed, uninterrupted = (torch.load(folder / name, weights_only=True) for folder in (broken, whole))
        assert same(resumed, uninterrupted), name
