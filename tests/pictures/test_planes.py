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

import numpy as np
import pytest

from scripts.pictures.orientation import Frame
from scripts.pictures.planes import focus, label_center, planes_through

SHAPE = (4, 5, 6)


@pytest.mark.parametrize(
    ("number", "name", "across", "up"), [(0, "axial", 0, 1), (1, "coronal", 0, 2), (2, "sagittal", 1, 2)]
)
def test_a_plane_shows_two_axes_to_the_right_and_upwards(number, name, across, up):
    plane = planes_through((1, 2, 3))[number]
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    picture = plane.take(volume)
    voxel = [1, 2, 3]
    voxel[across], voxel[up] = 3, 2
    assert plane.name == name
    assert picture.shape == (SHAPE[up], SHAPE[across])
    assert picture[2, 3] == volume[tuple(voxel)]


def test_a_plane_is_measured_in_millimetres_from_voxel_edge_to_voxel_edge():
    coronal = planes_through((0, 0, 0), Frame((0.5, 9.0, 2.0)))[1]
    assert coronal.extent(SHAPE) == (-0.25, 1.75, -1.0, 11.0)
    across, up = coronal.millimetres(SHAPE)
    np.testing.assert_allclose(across, [0, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(up, [0, 2, 4, 6, 8, 10])


def test_slices_go_through_the_centre_of_all_structures():
    label = np.zeros((20, 20, 20), np.uint8)
    label[2:5, 6:9, 10:13] = 1
    label[6:9, 6:9, 14:17] = 2
    assert label_center(label, label.shape) == (5, 7, 13)


@pytest.mark.parametrize("label", [None, np.zeros(SHAPE, np.uint8)])
def test_without_structures_slices_go_through_the_middle(label):
    assert label_center(label, SHAPE) == (2, 2, 3)


def test_the_view_holds_every_structure_with_a_margin_inside_the_volume():
    first, second = np.zeros((2, 40, 40, 40), np.uint8)
    first[10:20, 15, 1] = 1
    second[12, 15:20, 1] = 3
    assert focus([first, second], margin=0.2) == (slice(8, 22), slice(13, 22), slice(0, 4))


def test_the_view_of_empty_labels_is_the_whole_volume():
    assert focus([np.zeros(SHAPE)]) == (slice(0, 4), slice(0, 5), slice(0, 6))
