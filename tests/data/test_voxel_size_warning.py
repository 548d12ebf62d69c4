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


"""Images with other voxels than the training had are told, by the commands that meet them without a data check."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import yaml
from bundle_runs import TINY, workflow
from tiny_networks import shipped

from scripts.registration.pair import load_subject

PERMUTED = np.array([[0, 0, 2.2, 0], [0.5, 0, 0, 0], [0, -1.3, 0, 0], [0, 0, 0, 1]])  # RAS: 2.2 x 0.5 x 1.3 mm


@pytest.fixture
def volume(tmp_path, write_volume):
    """``volume(affine, name)``: the path of a noisy image of 20 voxels a side."""
    image = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    return lambda matrix, name="a": str(write_volume(tmp_path / f"{name}.nii.gz", image, matrix))


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_segmenting_voxels_of_another_size_warns_in_the_order_of_the_networks_axes(volume, caplog):
    shipped("inference.yaml", "preprocessing", spatial_size=[48, 48, 48])({"image": volume(PERMUTED)})
    (text,) = warnings(caplog)
    assert text == (
        "case 'a': voxels of 2.2 x 0.5 x 1.3 mm, where the networks were trained on voxels of 1 x 1 x 1 mm and count "
        'in voxels. Resample by --pixdim "[1,1,1]".'
    )


def test_registering_voxels_of_another_size_warns_once_for_each_image(volume, caplog):
    preprocessing = shipped("register.yaml", "preprocessing", spatial_size=[48, 48, 48], voxel_size=[2.2, 0.5, 1.9])
    for path in (volume(PERMUTED, "b"), volume(PERMUTED, "c")) * 2:
        load_subject({"image": path}, preprocessing, [1])
    assert [text.split(":")[0] for text in warnings(caplog)] == ["case 'b'", "case 'c'"]


@pytest.mark.parametrize(
    "settings", [{"pixdim": [1, 1, 1]}, {"voxel_size": None}, {"voxel_size": [2.5, 0.5, 1.1]}], ids=str
)
def test_nothing_is_said_of_resampled_images_of_unknown_sizes_and_of_similar_ones(settings, volume, caplog):
    preprocessing = shipped("inference.yaml", "preprocessing", spatial_size=[48, 48, 48], **settings)
    preprocessing({"image": volume(PERMUTED, "d")})
    assert warnings(caplog) == []


def test_training_leaves_the_size_of_its_voxels_for_those_who_use_the_weights(phantoms, tmp_path):
    entries = TINY | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "iterations_per_epoch": 1}
    with workflow(["train.yaml"], **entries) as training:
        training.run()
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["voxel_size"] == [9.0, 9.0, 9.0]
