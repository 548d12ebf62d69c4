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

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from geometries import OBLIQUE, affine
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, ResizeWithPadOrCrop, Spacing
from tiny_networks import shipped

from scripts.data.crop_warning import CropWarningd, outside_crop_percent, warn_of_crop
from scripts.registration.pair import load_subject

WINDOW = {"intensity": "window", "intensity_range": [0, 100], "spatial_size": [8, 8, 8]}


def bar(length: int, matrix: torch.Tensor | None = None) -> MetaTensor:
    """Bright from the first voxel of the first axis on, in air."""
    image = torch.zeros(1, 20, 8, 8)
    image[0, :length, 2:6, 2:6] = 100
    return MetaTensor(image, torch.eye(4, dtype=torch.float64) if matrix is None else matrix)


@pytest.mark.parametrize(("length", "percent"), [(20, 60), (10, 60), (6, 100), (14, 100 * 6 / 14)])
@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAR"])
def test_what_is_bright_and_outside_of_the_crop_is_measured_in_any_orientation(length, percent, axes):
    image = bar(length)  # the crop keeps 6..13 of 20
    seen = ResizeWithPadOrCrop(8)(Orientation(axcodes=axes, labels=None)(image))
    assert outside_crop_percent(image, seen) == pytest.approx(percent, abs=1e-3)


def test_air_does_not_count_and_padding_loses_nothing():
    image = bar(4)
    assert outside_crop_percent(image, ResizeWithPadOrCrop((30, 16, 16))(image)) == 0
    middle = MetaTensor(image.roll(8, dims=1), image.affine)
    assert outside_crop_percent(middle, ResizeWithPadOrCrop(8)(middle)) == 0


@pytest.mark.parametrize("matrix", OBLIQUE)
def test_resampling_loses_nothing_that_lies_inside(matrix):
    image = MetaTensor(bar(20, matrix).roll(2, dims=1), matrix)
    seen = Compose([Orientation(axcodes="RAS", labels=None), Spacing(1.5), ResizeWithPadOrCrop(40)])(image)
    assert outside_crop_percent(image, seen) == 0


def test_of_a_large_file_a_sample_of_voxels_is_enough():
    image = torch.zeros(1, 200, 160, 160)
    image[0, 40:, 20:140, 20:140] = 100
    image = MetaTensor(image, affine((0.5, 0.7, 1), (10, 0, 5)))
    seen = ResizeWithPadOrCrop((100, 160, 160))(image)  # keeps 50..149: 100 of the 160 bright planes
    assert outside_crop_percent(image, seen) == pytest.approx(100 * 60 / 160, abs=1)


@pytest.fixture
def long_and_short(tmp_path, write_volume):
    """Files of a bar of which the crop takes 60 %, and of one that fits."""
    return [
        str(write_volume(tmp_path / f"{name}.nii.gz", image[0].numpy()))
        for name, image in {"long": bar(20), "short": bar(20)[:, :8]}.items()
    ]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_subject_knows_what_the_networks_do_not_see_and_warns_once(long_and_short, caplog):
    preprocessing = shipped("register.yaml", "preprocessing", **WINDOW)
    percents = [load_subject({"image": path}, preprocessing, [1]).outside_crop_percent for path in long_and_short * 2]
    assert percents == pytest.approx([60, 0, 60, 0], abs=1e-3)
    (text,) = warnings(caplog)
    assert text.startswith("case 'long': 60 % of what is bright in the image lies outside of the 8 x 8 x 8 voxels")


def test_inferring_warns_before_it_crops_and_its_volume_is_inverted_as_before(long_and_short, caplog):
    preprocessing = shipped("inference.yaml", "preprocessing", **WINDOW)
    for path in long_and_short:
        image = preprocessing({"image": path})["image"]
        back = preprocessing.inverse({"image": image})["image"]
        assert image.shape == (1, 8, 8, 8)
        assert back.shape[1:] == ((20, 8, 8) if "long" in path else (8, 8, 8))
    (text,) = warnings(caplog)
    assert text.startswith("case 'long': 60 % of what is bright")


@pytest.mark.parametrize(("percent", "warned"), [(17.0, False), (20.0, False), (20.5, True)])
def test_good_crops_are_not_warned_of(percent, warned, tmp_path, caplog):
    warn_of_crop(str(tmp_path / "a.nii.gz"), percent, (8, 8, 8))
    assert bool(warnings(caplog)) is warned


def test_the_transform_changes_nothing_and_may_miss_its_key():
    image = bar(20)
    data = {"image": image, "other": 1}
    assert CropWarningd("image", 8)(data) == data
    assert CropWarningd("label", 8, allow_missing_keys=True)(data) == data
    assert np.array_equal(data["image"], bar(20))
