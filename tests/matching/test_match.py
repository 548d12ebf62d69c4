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
"""Pairs whose field is known are found by their images alone."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from scripts.fields.metrics import folding_percent
from scripts.fields.warping import sample_voxels
from scripts.matching.affine import Affine, match_affine
from scripts.matching.match import Match, Matching
from scripts.matching.scan import Scan, grid_points

SIZE = (36, 40, 34)


def blobs(points, seed=0, number=40):
    """A smooth scene at points (..., 3) in voxels: bright balls of different sizes on a dark ground."""
    rng = torch.Generator().manual_seed(seed)
    centers = 9 + torch.rand(number, 3, generator=rng) * (torch.tensor(SIZE) - 18)
    widths, lights = 1.2 + 1.5 * torch.rand(number, generator=rng), 0.3 + torch.rand(number, generator=rng)
    distances = (points[..., None, :] - centers).square().sum(-1)
    image = (lights * torch.exp(-distances / (2 * widths**2))).sum(-1)
    return torch.where(image > 0.02, image, 0).clamp(max=1)[None, None]


def rotation(degrees, axis=2):
    a, b = [i for i in range(3) if i != axis]
    matrix, angle = torch.eye(3), math.radians(degrees)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def apart(found, truth, fixed):
    """Mean distance of points in voxels, where the scene is."""
    return float((found - truth).norm(dim=-1)[fixed[0, 0] > 0.05].mean())


@pytest.mark.parametrize("degrees", [0, 10, 30])
def test_an_affine_of_scenes_far_apart_and_turned_is_found(degrees):
    points = grid_points(SIZE, 1, torch.device("cpu"))
    middle, matrix = (torch.tensor(SIZE) - 1) / 2, rotation(degrees) @ torch.diag(torch.tensor([1.05, 0.95, 1.0]))
    truth = (points - middle) @ matrix.T + middle + torch.tensor([40.0, 0.0, 0.0])  # at 2 mm: 80 mm
    fixed = blobs(points)
    larger = grid_points((90, 44, 40), 1, torch.device("cpu"))
    moving = blobs((larger - middle - torch.tensor([40.0, 0.0, 0.0])) @ torch.linalg.inv(matrix).T + middle)
    affine = match_affine(Scan(moving), Scan(fixed))
    assert apart(points, truth, fixed) > 39
    assert apart(affine(points)[0], truth, fixed) < 0.5


def test_a_smooth_field_is_found_without_a_fold():
    points = grid_points(SIZE, 1, torch.device("cpu"))
    waves = torch.stack(
        [torch.sin(points[..., 1] / 7), torch.cos(points[..., 2] / 6), torch.sin(points[..., 0] / 8)], -1
    )
    truth = points + 2 * waves
    moving = blobs(points)
    fixed = sample_voxels(moving, truth[None])
    ddf = Matching()(moving, fixed)
    assert ddf.shape == (1, 3, *SIZE) and not ddf.requires_grad
    assert apart(points, truth, fixed) > 1.5
    assert apart(points + ddf[0].movedim(0, -1), truth, fixed) < 0.5
    assert float(folding_percent(ddf)) == 0.0


def test_the_same_image_twice_hardly_moves():
    image = blobs(grid_points(SIZE, 1, torch.device("cpu")))
    ddf = Matching()(image, image)
    assert float(ddf.norm(dim=1)[image[0] > 0.05].max()) < 0.4


def test_without_levels_the_field_is_the_affine():
    points = grid_points(SIZE, 1, torch.device("cpu"))
    moving, fixed = blobs(points + torch.tensor([3.0, -2.0, 1.0])), blobs(points)
    ddf = Matching(levels=())(moving, fixed)
    second = ddf.diff(n=2, dim=2)
    assert float(second.abs().max()) < 1e-3
    torch.testing.assert_close(ddf.mean(dim=(2, 3, 4))[0], torch.tensor([-3.0, 2.0, -1.0]), atol=0.3, rtol=0)


def test_a_background_is_recognised_and_a_cut_out_goes_on():
    scene = blobs(grid_points(SIZE, 1, torch.device("cpu")))
    assert Scan(scene).has_background and Scan(scene).padding_mode == "zeros"
    textured = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    assert not Scan(textured).has_background
    assert torch.allclose(Scan(textured).center, (torch.tensor(SIZE) - 1) / 2)
    assert Scan(textured).size == (36, 40, 36) and Scan(textured).region.sum() == textured.numel()


def test_a_pair_is_matched_in_inference_mode_as_anywhere():
    image = blobs(grid_points(SIZE, 1, torch.device("cpu")))
    matching = Matching(levels=[[4, 2, 2]])
    expected = matching(image, image.flip(2))
    with torch.inference_mode():
        found = matching(image.clone(), MetaTensor(image.flip(2)))
    assert torch.equal(found, expected)


def test_an_affine_of_images_that_have_nothing_in_common_is_not_to_be_trusted(caplog):
    image = blobs(grid_points(SIZE, 1, torch.device("cpu")))
    noise = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    Matching(levels=())(image, image)
    assert "cannot be trusted" not in caplog.text
    Matching(levels=())(noise, noise.flip(2))
    assert "the affine cannot be trusted: after it the images are hardly alike" in caplog.text


def test_where_a_field_would_fold_it_is_smoothed(monkeypatch):
    points = grid_points(SIZE, 1, torch.device("cpu"))
    pair = blobs(points, seed=0), blobs(points, seed=1)  # nothing in common: what optimisation makes of it is wild
    rough = {"levels": [[2, 1, 30]], "smoothness": 0.0, "affine": False}
    found = Matching(**rough)(*pair)
    assert float(folding_percent(found)) == 0.0
    monkeypatch.setattr("scripts.matching.velocity.SMOOTHINGS", 0)
    folded = Matching(**rough)(*pair)
    assert float(folding_percent(folded)) > 0.1
    assert float((found - folded).norm(dim=1).mean()) < 0.5 * float(folded.norm(dim=1).mean())


def waves(amplitude, stride):
    """A smooth velocity on every ``stride``-th voxel of 48, in voxels, which is zero at the border."""
    d, h, w = torch.meshgrid(*(torch.linspace(0, math.pi, 48 // stride) for _ in range(3)), indexing="ij")
    ending = torch.sin(d) * torch.sin(h) * torch.sin(w)
    return amplitude * (ending * torch.stack([torch.cos(h), torch.sin(2 * w), torch.ones_like(d)]))[None]


def there_and_back(match, moving_size):
    """How far voxels that lie in the moving image are from where they come to there and back, in voxels."""
    points = grid_points(match.size, 1, torch.device("cpu"))
    there = points + match.ddf[0].movedim(0, -1)
    inside = ((there >= 0) & (there <= torch.tensor(moving_size) - 1)).all(dim=-1)
    back = there + sample_voxels(match.inverse(moving_size), there[None], padding_mode="border")[0].movedim(0, -1)
    assert inside.float().mean() > 0.3
    return (back - points).norm(dim=-1)[inside]


TURNED = Affine(
    (rotation(12) @ torch.diag(torch.tensor([1.1, 0.9, 1.0])))[None],
    torch.tensor([[23.0, 24.0, 22.0]]),
    torch.tensor([[30.0, 25.0, 20.0]]),
)


def test_the_inverse_of_an_affine_is_exact():
    match = Match(TURNED, (45, 48, 46))
    assert float(match.ddf.abs().max()) > 5
    assert float(there_and_back(match, (60, 52, 40)).max()) < 1e-4


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_inverse_of_a_smooth_velocity_and_an_affine_takes_every_voxel_back(stride):
    match = Match(TURNED, (45, 48, 46), waves(2.2, stride), stride)
    assert float(match.integral().norm(dim=1).max()) > 2
    residual = there_and_back(match, (60, 52, 40))
    assert float(residual.mean()) < 0.02 and float(residual.max()) < 0.1


def test_a_constant_velocity_leads_back_by_itself():
    shift = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)
    nowhere = Affine(torch.eye(3)[None], torch.zeros(1, 3), torch.zeros(1, 3))
    match = Match(nowhere, (10, 11, 12), shift.expand(1, 3, 6, 6, 6), 2)
    torch.testing.assert_close(match.ddf, shift.expand(1, 3, 10, 11, 12), atol=1e-5, rtol=0)
    torch.testing.assert_close(match.inverse((9, 9, 9)), -shift.expand(1, 3, 9, 9, 9), atol=1e-5, rtol=0)
