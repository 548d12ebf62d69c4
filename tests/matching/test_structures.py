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
"""What classes say of a pair, against known affines and overlaps."""

from __future__ import annotations

import pytest
import torch
from test_match import apart, rotation

from scripts.matching.match import Matching
from scripts.matching.scan import grid_points
from scripts.matching.structures import overlap_loss, structure_affine

SIZE = (40, 44, 36)
CENTERS = torch.tensor([[12.0, 12, 10], [28, 14, 12], [14, 30, 14], [26, 30, 24], [20, 22, 28]])


def structures(points, count=5):
    """Probabilities (1, C, *size) of soft balls at points (..., 3)."""
    distances = (points[..., None, :] - CENTERS[:count]).norm(dim=-1)
    inside = torch.sigmoid(5 - distances).movedim(-1, 0)[None]
    inside = inside / inside.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.cat([1 - inside.sum(dim=1, keepdim=True), inside], dim=1)


def moved(degrees=20, shift=(6.0, -4.0, 3.0)):
    """Points of the moving from points of the fixed image."""
    points = grid_points(SIZE, 1, torch.device("cpu"))
    middle, matrix = (torch.tensor(SIZE) - 1) / 2, rotation(degrees) @ torch.diag(torch.tensor([1.1, 0.95, 1.0]))
    return points, (points - middle) @ matrix.T + middle + torch.tensor(shift)


def test_an_affine_of_structures_is_found_in_closed_form_and_some_steps():
    points, truth = moved()
    moving, fixed = structures(points), structures(truth)
    affine, trusted = structure_affine(moving, fixed)
    brightness = fixed[:, 1:].sum(dim=1, keepdim=True)
    assert bool(trusted.all()) and apart(points, truth, brightness) > 6
    assert apart(affine(points)[0], truth, brightness) < 0.7


def test_the_affine_of_a_batch_is_that_of_each_pair():
    points, truth = moved()
    other = points + torch.tensor([3.0, 2.0, -2.0])
    moving, fixed = structures(points), torch.cat([structures(truth), structures(other)])
    together, _ = structure_affine(moving.repeat(2, 1, 1, 1, 1), fixed)
    for i in range(2):
        alone, _ = structure_affine(moving, fixed[i, None])
        torch.testing.assert_close(together.matrix[i], alone.matrix[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(together.moving_point[i], alone.moving_point[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("count", "expected"), [(2, False), (3, True)])
def test_fewer_than_three_structures_are_not_trusted(count, expected):
    points, truth = moved(degrees=5)
    _, trusted = structure_affine(structures(points, count), structures(truth, count))
    assert trusted.tolist() == [expected]


def test_without_enough_structures_the_images_make_the_affine():
    points, truth = moved(degrees=0, shift=(2.0, 0.0, 0.0))
    moving, fixed = structures(points), structures(truth)
    images = [prob[:, 1:].sum(dim=1, keepdim=True).clamp(0, 1) for prob in (moving, fixed)]
    by_images = Matching(levels=())(*images)
    assert torch.equal(Matching(levels=())(*images, structures(points, 2), structures(truth, 2)), by_images)


def test_structures_that_lead_astray_give_way_to_the_images():
    points, _ = moved()
    right, wrong = structures(points), structures(points + torch.tensor([30.0, 0.0, 0.0]))
    image = torch.nn.functional.avg_pool3d(
        torch.rand(1, 1, *(side + 4 for side in SIZE), generator=torch.Generator().manual_seed(0)), 5, stride=1
    )
    assert float((structure_affine(wrong, right)[0](points) - points).norm(dim=-1).mean()) > 10
    assert float(Matching(levels=())(image, image, wrong, right).norm(dim=1).mean()) < 1


def test_the_overlap_of_structures_is_soft_dice():
    points = grid_points(SIZE, 1, torch.device("cpu"))
    prob = structures(points)
    hard = torch.nn.functional.one_hot(prob.argmax(dim=1), 6).movedim(-1, 1).float()
    assert float(overlap_loss(hard[:, 1:], hard[:, 1:])) == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros_like(hard)
    sizes = hard[0, 1:].sum(dim=(1, 2, 3))
    assert float(overlap_loss(nothing[:, 1:], hard[:, 1:])) == pytest.approx(
        float((1 - 1 / (sizes + 1)).mean()), abs=1e-6
    )


def test_a_field_follows_structures_that_the_images_do_not_show():
    points, truth = moved(degrees=0, shift=(0.0, 0.0, 0.0))
    waves = 2 * torch.stack([torch.sin(points[..., 1] / 7), torch.cos(points[..., 2] / 6), torch.zeros(SIZE)], -1)
    moving, fixed = structures(points), structures(points + waves)
    flat = 0.5 + 0.01 * torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    inside = fixed[:, 1:].sum(dim=1, keepdim=True)
    ddf = Matching(overlap=1.0, similarity=0.0, affine=False)(flat, flat, moving, fixed)
    assert apart(points, points + waves, inside) > 1.5
    assert apart(points + ddf[0].movedim(0, -1), points + waves, inside) < 0.8
