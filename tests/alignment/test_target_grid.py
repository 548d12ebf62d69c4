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

"""The grid that a reference gives: its own, or cut, turned and divided as the options say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.alignment.target_grid import TargetGrid
from scripts.data.original import read_original


@pytest.fixture
def cube(write_volume, tmp_path):
    """10 x 12 x 8 voxels of 2 mm with a structure from voxel (2, 3, 4) to (5, 7, 5)."""
    label = np.zeros((10, 12, 8), np.int16)
    label[2:6, 3:8, 4:6] = 1
    affine = np.diag([2.0, 2, 2, 1])
    files = {key: str(write_volume(tmp_path / f"{key}.nii.gz", label, affine)) for key in ("image", "label")}
    return read_original({"case": "cube", **files})


def test_without_options_the_grid_is_that_of_the_reference(cube):
    shape, affine = TargetGrid().of(cube)
    assert shape == (10, 12, 8)
    assert np.allclose(affine, np.diag([2, 2, 2, 1]))


@pytest.mark.parametrize("region", ["label", "foreground"])
def test_a_region_is_a_box_with_a_margin_within_the_volume(cube, region):
    shape, affine = TargetGrid(region=region, margin=3.0).of(
        cube
    )  # two voxels; on the last axis there is room for them
    assert shape == (8, 9, 6)
    assert np.allclose(affine[:3, 3], [0, 2, 4])


@pytest.mark.parametrize(("pixdim", "shape"), [(1, (20, 24, 16)), ([4, 3, 2], (5, 8, 8)), (2.5, (8, 10, 7))])
def test_at_another_voxel_size_the_first_faces_stay_where_they_are(cube, pixdim, shape):
    found, affine = TargetGrid(pixdim=pixdim).of(cube)
    assert found == shape
    assert np.allclose(np.diag(affine)[:3], pixdim)
    assert np.allclose(affine @ torch.tensor([-0.5, -0.5, -0.5, 1.0], dtype=torch.float64), [-1, -1, -1, 1])


def test_a_size_divides_the_region_and_both_of_its_faces_stay_where_they_are(cube):
    shape, affine = TargetGrid(size=[16, 5, 4], region="label").of(cube)
    assert shape == (16, 5, 4)
    assert np.allclose(np.diag(affine)[:3], [0.5, 2, 1])  # 8, 10 and 4 mm
    faces = torch.tensor([[-0.5, -0.5, -0.5, 1.0], [15.5, 4.5, 3.5, 1]], dtype=torch.float64) @ affine.T
    assert np.allclose(faces[:, :3], [[3, 5, 7], [11, 15, 11]])


def test_an_orientation_turns_the_axes_before_sizes_are_counted(cube):
    shape, affine = TargetGrid(orientation="SLA", size=[4, 8, 6]).of(cube)
    assert shape == (4, 8, 6)
    axes = affine[:3, :3].numpy()
    assert np.allclose(axes, [[0, -2.5, 0], [0, 0, 4], [4, 0, 0]])  # up; to the left; to the front
    box = torch.tensor([[-0.5, -0.5, -0.5, 1.0], [3.5, 7.5, 5.5, 1]], dtype=torch.float64) @ affine.T
    assert np.allclose(box[:, :3], [[19, -1, -1], [-1, 23, 15]])  # the same box of the world, from its other corner


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixdim": [1, 0, 1]}, "`pixdim`"),
        ({"size": [16, 16]}, "`size`"),
        ({"size": [16, 16, 0]}, "`size`"),
        ({"pixdim": 1, "size": [16, 16, 16]}, "set one of them to null"),
        ({"region": "head"}, "`region`"),
    ],
)
def test_options_that_make_no_grid_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TargetGrid(**options)


def test_an_empty_region_is_refused(cube):
    cube.label[:] = 0
    with pytest.raises(ValueError, match="'cube', the reference, has no label"):
        TargetGrid(region="label").of(cube)
