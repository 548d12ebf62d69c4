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
"""What is told of a segmentation without its label, on volumes small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.data.review import estimated_dice, measured_shapes, overlaps, touching


def test_a_certain_segmentation_is_estimated_to_be_right_and_one_that_is_nowhere_to_be_wrong():
    classes = torch.tensor([[[0, 1, 1, 0]]])
    prob = torch.nn.functional.one_hot(classes, 3).movedim(-1, 0).double()
    assert estimated_dice(prob, classes) == pytest.approx([1.0, 0.0])


def test_the_estimate_is_twice_the_mass_within_over_both_masses():
    foreground = torch.tensor([[[0.8, 0.6, 0.3, 0.1]]])
    prob = torch.stack([1 - foreground, foreground])
    assert estimated_dice(prob, prob.argmax(dim=0)) == pytest.approx([2 * 1.4 / (2 + 1.8)])


def test_where_probabilities_are_right_the_estimate_is_the_mean_dice_of_what_may_be_true():
    torch.manual_seed(0)
    foreground = torch.rand(20, 20, 20) ** 2
    prob = torch.stack([1 - foreground, foreground])
    classes = prob.argmax(dim=0)
    truths = [(torch.rand_like(foreground) < foreground).long() for _ in range(20)]
    dice = np.mean([overlaps(classes, truth, 2)[0] for truth in truths])
    assert estimated_dice(prob, classes)[0] == pytest.approx(dice, abs=0.003)


def test_two_segmentations_overlap_as_counted_and_nothing_is_said_of_what_neither_has():
    first, second = torch.tensor([0, 1, 1, 2, 2]), torch.tensor([1, 1, 0, 2, 2])
    assert overlaps(first, second, 4) == [0.5, 1.0, None]


def test_a_class_touches_any_of_the_six_faces_and_no_other_plane():
    for axis in range(3):
        for end in (0, -1):
            classes = torch.zeros(5, 6, 7, dtype=torch.long)
            classes[2, 2, 2] = 1
            classes.movedim(axis, 0)[end, 3, 3] = 2
            assert touching(classes, 4) == [False, True, False]


def test_volume_is_that_of_the_voxels_pieces_are_apart_and_the_border_is_that_of_the_file():
    label = np.zeros((8, 8, 8), np.int16)
    label[1:3, 1:3, 1:3] = 205
    label[3, 3, 3] = 205  # joined at a corner
    label[6, 6, 6] = 205
    label[0, 4, 4] = 850
    turned = np.array([[0, 2, 0, 5], [-3, 0, 0, 5], [0, 0, 4, 5], [0, 0, 0, 1.0]])
    first, second, third = measured_shapes(label, turned, [205, 850, 1000])
    assert [first.pop("elongation") > 1, second.pop("elongation"), third.pop("elongation")] == [True, 2, None]
    assert first == {"volume_ml": pytest.approx(10 * 0.024), "pieces": 2, "touches_border": False}
    assert second == {"volume_ml": pytest.approx(0.024), "pieces": 1, "touches_border": True}
    assert third == {"volume_ml": 0, "pieces": 0, "touches_border": False}


def test_elongation_is_that_of_a_box_in_mm_however_it_lies():
    label = np.zeros((10, 10, 10), np.uint8)
    label[2:8, 3:5, 3:4] = 1  # 6 x 2 x 1 voxels
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.5, 4.0])
    (shape,) = measured_shapes(label, affine, [1])
    assert shape["elongation"] == pytest.approx(6 / 3)
