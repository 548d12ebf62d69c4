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
"""Facts about the self-similarity context (MIND-SSC)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from scripts.fields.warping import warp
from scripts.losses import MINDSSC


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blobs(size: int = 20) -> torch.Tensor:
    """Smooth texture without a period, in [0, 1]."""
    axis = torch.arange(size, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    image = torch.sin(0.5 * x + 0.03 * y * y) + torch.cos(0.6 * y - 0.02 * z * x) + torch.sin(0.4 * z + 0.05 * x)
    return ((image - image.min()) / (image.max() - image.min()))[None, None]


def by_definition(image: torch.Tensor, at: tuple[int, int, int], radius: int, dilation: int) -> list[float]:
    """The channels of one voxel far from the border, in no order, patch by patch."""
    directions = [sign * torch.eye(3, dtype=torch.long)[axis] * dilation for axis in range(3) for sign in (1, -1)]
    pairs = [(a, b) for a, b in itertools.combinations(directions, 2) if int(a @ b) == 0]

    def patch(offset: torch.Tensor) -> torch.Tensor:
        lows = (torch.tensor(at) + offset - radius).tolist()
        return image[0, 0][tuple(slice(low, low + 2 * radius + 1) for low in lows)]

    distances = [float((patch(a) - patch(b)).square().mean()) for a, b in pairs]
    assert len(distances) == 12
    return [math.exp(-distance / (sum(distances) / 12)) for distance in distances]


@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (1, 2), (2, 2), (2, 3)])
def test_a_voxel_is_described_by_the_twelve_distances_of_the_definition(radius, dilation):
    image = noise(1, 1, 14, 13, 12)
    found = MINDSSC(radius, dilation).describe(image)
    assert found.shape == (1, 12, 14, 13, 12)
    for at in [(6, 6, 6), (7, 6, 5)]:
        expected = by_definition(image, at, radius, dilation)
        torch.testing.assert_close(found[(0, slice(None), *at)].sort()[0], torch.tensor(sorted(expected)).double())


def test_a_slope_along_one_axis_has_the_values_of_the_formula():
    # neighbours x +- d along the slope differ by d from the others, which do not differ among themselves: D is d^2 in
    # eight pairs and 0 in four, V = 2 d^2 / 3
    image = torch.arange(16.0)[None, None, :, None, None].expand(1, 1, 16, 9, 9)
    channels = MINDSSC(radius=1, dilation=2).describe(image)[0, :, 8, 4, 4].sort()[0]
    torch.testing.assert_close(channels, torch.tensor([math.exp(-1.5)] * 8 + [1.0] * 4))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.01, 5.0), (40.0, -7.0), (-1.0, 1.0), (-300.0, 20.0)])
def test_brightness_contrast_and_inversion_cost_nothing(gain, offset):
    image = noise(2, 1, 9, 8, 10)
    assert MINDSSC()(gain * image + offset, image) < 1e-20
    assert MINDSSC()(noise(2, 1, 9, 8, 10, seed=1), image) > 0.01


def test_flat_images_cost_nothing_and_have_a_finite_gradient():
    image = torch.full((1, 1, 8, 8, 8), 0.3, requires_grad=True)
    loss = MINDSSC()(image, torch.zeros(1, 1, 8, 8, 8))
    loss.backward()
    assert loss == 0 and image.grad.isfinite().all()


@pytest.mark.parametrize("contrast", [lambda x: x, lambda x: 1 - x, lambda x: (2 * x - 0.7).abs()])
def test_it_is_least_where_images_of_different_contrast_are_aligned(contrast):
    image, loss = blobs(), MINDSSC()
    inner = (..., *[slice(5, -5)] * 3)
    shifts = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    values = []
    for shift in shifts:
        ddf = torch.zeros(1, 3, 20, 20, 20, dtype=torch.float64)
        ddf[:, 1] = shift
        described = loss.describe(warp(image, ddf)), loss.describe(contrast(image))
        values.append(float((described[0] - described[1])[inner].square().mean()))
    assert values[:4] == sorted(values[:4], reverse=True) and values[3:] == sorted(values[3:])


def test_the_gradient_equals_finite_differences():
    inputs = [noise(1, 2, 4, 3, 5, seed=seed).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(MINDSSC(1, 1), inputs)


def test_a_step_down_the_gradient_moves_an_inverted_image_into_place():
    fixed = 1 - blobs()
    shift = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    for _ in range(40):
        ddf = torch.zeros(1, 3, 20, 20, 20, dtype=torch.float64)
        ddf = torch.cat([ddf[:, :1] + shift, ddf[:, 1:]], dim=1)
        (slope,) = torch.autograd.grad(MINDSSC()(warp(blobs(), ddf, padding_mode="border"), fixed), shift)
        shift = (shift - 0.05 * slope.sign()).detach().requires_grad_()
    assert abs(float(shift)) < 0.06


def test_it_is_computed_in_float32_under_autocast():
    first, second = noise(1, 1, 9, 9, 9, dtype=torch.float32), noise(1, 1, 9, 9, 9, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = MINDSSC()(first.bfloat16(), second.bfloat16())
    assert value.dtype == torch.float32
    assert value == MINDSSC()(first.bfloat16().float(), second.bfloat16().float())


@pytest.mark.parametrize("arguments", [{"radius": 0}, {"dilation": 1.5}, {"radius": True}])
def test_a_wrong_argument_is_refused_by_name(arguments):
    with pytest.raises(ValueError, match=f"MINDSSC: {next(iter(arguments))} must be a whole number"):
        MINDSSC(**arguments)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="MINDSSC: warped and fixed must have one shape"):
        MINDSSC()(noise(1, 1, 8, 8, 8), noise(1, 1, 8, 8, 9))
    with pytest.raises(ValueError, match="must be"):
        MINDSSC()(noise(1, 8, 8, 8), noise(1, 8, 8, 8))
