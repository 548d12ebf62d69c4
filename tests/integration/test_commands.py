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
"""The commands of the README, each a process of its own, from the repository's root and from the bundle."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from bundle_runs import CONFIGS, PLACES, STRUCTURES, names_in, succeed, write_overlay

#: the configs of this folder and the run id of each; the overlays in its subfolders are tested one by one elsewhere
COMMANDS = {
    "train.yaml": "training",
    "multi_gpu_train.yaml": "training",  # test_distributed.py
    "plan.yaml": "planning",  # tests/planning
    "evaluate.yaml": "evaluating",
    "inference.yaml": "inferring",
    "register.yaml": "registering",
    "apply.yaml": "applying",  # tests/test_apply.py
    "report.yaml": "reporting",
    "prepare.yaml": "preparing",  # tests/test_prepare.py
    "prepare_mmwhs.yaml": "preparing",  # tests/test_mmwhs.py
    "sequence.yaml": "registering",  # tests/test_sequence.py
    "label.yaml": "labeling",  # tests/test_label_bundle.py
}
WEIGHTS = {"model.pt", "model_registration.pt", "model_discriminator.pt"}


@dataclass
class Trained:
    """A training that was made by a command, and the place it was typed in."""

    place: Path
    overlay: Path
    data: Path
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.yaml"


@pytest.fixture(scope="module", params=PLACES)
def trained(request, phantoms, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    overlay = write_overlay(folder / "tiny.yaml")
    place, out = PLACES[request.param], folder / "out"
    succeed("training", ["configs/train.yaml", overlay], place, dataset_dir=phantoms, output_dir=out)
    return Trained(place, overlay, phantoms, out)


def test_every_config_beside_the_overlays_has_its_command_here():
    assert {path.name for path in CONFIGS.glob("*.yaml")} == set(COMMANDS)


def test_training_leaves_weights_curves_and_the_merged_config(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert names == WEIGHTS | {
        "train_state.pt",
        "history.csv",
        "config.yaml",
        "model.yaml",
        "model.json",
        "review.json",
        "tensorboard",
        "pictures",
    }
    for name in WEIGHTS:
        state = torch.load(trained.folder / name, weights_only=True)
        assert state and all(isinstance(value, torch.Tensor) for value in state.values())
    config = yaml.safe_load((trained.folder / "config.yaml").read_text())
    assert config["spatial_size"] == [16, 16, 16] and config["dataset_dir"] == str(trained.data)
    model = yaml.safe_load(trained.model.read_text())
    assert model["labels"] == {str(label_id): name for label_id, name in STRUCTURES.items()}


def test_checking_prints_a_row_for_each_case(trained):
    said = succeed("checking", ["configs/train.yaml", trained.overlay], trained.place, dataset_dir=trained.data)
    rows = [line.split() for line in said.splitlines() if line.startswith("phantom_")]
    assert [row[1] for row in rows] == ["labeled"] * 2 + ["unlabeled"] * 3 + ["validation"] * 2 + ["test"] * 3
    assert all(row[-1] == "ok" for row in rows)


def test_evaluating_needs_a_test_list_only_and_reporting_makes_the_page_of_it(trained, tmp_path):
    cases = json.loads((trained.data / "datalist.json").read_text())
    for case in cases["test"]:
        case.update({key: str(trained.data / case[key]) for key in ("image", "label")})
    datalist, out = tmp_path / "datalist.json", tmp_path / "out"
    datalist.write_text(json.dumps({"labels": cases["labels"], "test": cases["test"]}))
    configs = ["configs/train.yaml", trained.overlay, "configs/evaluate.yaml"]
    options = {"dataset_dir": tmp_path, "datalist": datalist, "ckpt_dir": trained.folder, "max_pairs": 4}
    said = succeed("evaluating", configs, trained.place, output_dir=out, **options)
    metrics = json.loads((out / "metrics.json").read_text())
    assert [metrics[task]["n"] for task in ("segmentation", "registration", "identity")] == [3, 4, 4]
    assert f"{metrics['identity']['dice']['mean']:.3f} +- {metrics['identity']['dice']['std']:.3f}" in said
    for task, rows in (("segmentation", 3), ("registration", 4)):
        with open(out / f"{task}.csv", newline="") as file:
            assert len(list(csv.reader(file))) == 1 + rows * len(STRUCTURES)
    assert not (out / "report.html").exists()
    succeed("reporting", ["configs/report.yaml"], trained.place, output_dir=out, title="Tiny phantoms")
    assert "Tiny phantoms" in (out / "report.html").read_text()


def test_inferring_segments_every_image_on_its_own_grid(trained, tmp_path):
    configs = ["configs/inference.yaml", trained.model]
    succeed("inferring", configs, trained.place, dataset_dir=trained.data, output_dir=tmp_path)
    images = sorted((trained.data / "images").iterdir())
    assert len(images) == 10
    for image in map(nib.load, images):
        written = nib.load(tmp_path / Path(image.get_filename()).name.replace(".nii.gz", "_seg.nii.gz"))
        assert written.shape == image.shape and written.get_data_dtype() == np.int16
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
        assert set(np.unique(written.dataobj)) <= {0, *STRUCTURES}


def test_registering_takes_two_files_and_a_label(trained, tmp_path):
    moving, fixed = (trained.data / "images" / f"phantom_00{number}.nii.gz" for number in (0, 3))
    files = {"moving": moving, "fixed": fixed, "moving_label": trained.data / "labels" / moving.name}
    relative = {key: os.path.relpath(path, trained.place) for key, path in files.items()}
    configs = ["configs/register.yaml", trained.model]
    succeed("registering", configs, trained.place, output_dir=tmp_path / "out", **relative)
    volumes = ("confidence", "jacobian", "phantom_000_to_phantom_003_warp", "warped", "warped_label")
    others = {"phantom_000_to_phantom_003_transform.h5", "picture.png", "summary.json"}
    names = {f"{name}.nii.gz" for name in volumes} | others
    assert names_in(tmp_path / "out") == names
    for name in volumes:
        shape = nib.load(tmp_path / "out" / f"{name}.nii.gz").shape[:3]
        assert shape == nib.load(fixed).shape or name.endswith("_warp")  # that one is in voxels of the networks
