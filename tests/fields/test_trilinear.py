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

import pytest
import torch

from scripts.fields import trilinear
from scripts.fields.warping import warp

SHAPE = (7, 9, 6)


def image_and_field(dtype=torch.float64, shape=SHAPE, reach=2.5):
    """Two images of three channels and fields that leave the volume; no point is at a voxel centre."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, *shape, dtype=dtype, generator=generator)
    ddf = reach * torch.randn(2, 3, *shape, dtype=dtype, generator=generator)
    return image, ddf.where((ddf - ddf.round()).abs() > 1e-3, 0.5)


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_grid_sample(padding_mode, dtype, atol, monkeypatch):
    image, ddf = image_and_field(dtype)
    ddf.requires_grad_()
    weights = torch.rand_like(image)
    results = []
    for largest in (trilinear.LARGEST, 0):
        monkeypatch.setattr(trilinear, "LARGEST", largest)
        assert trilinear.applies(image, ddf) == (largest > 0)
        warped = warp(image, ddf, padding_mode=padding_mode)
        results.append((warped.detach(), *torch.autograd.grad((weights * warped).sum(), ddf)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_a_field_of_zeros_and_of_whole_voxels_gives_the_very_voxels(padding_mode):
    image = torch.rand(1, 2, *SHAPE)
    ddf = torch.zeros(1, 3, *SHAPE)
    assert torch.equal(trilinear.sample(image, ddf, padding_mode), image)
    ddf[:, 1] = 2
    assert torch.equal(trilinear.sample(image, ddf, padding_mode)[:, :, :, :-2], image[:, :, :, 2:])


def test_the_gradient_at_a_voxel_centre_is_the_slope_to_the_next_voxel():
    image = torch.tensor([0.0, 1.0, 5.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2).contiguous()
    ddf = torch.zeros(1, 3, 3, 2, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(trilinear.sample(image, ddf).sum(), ddf)
    assert grad[0, 0, :, 0, 0].tolist() == [1.0, 4.0, -5.0]  # beyond the volume there is 0


def test_where_the_field_is_not_a_number_the_image_is_none_and_nowhere_else():
    image, ddf = image_and_field()
    ddf[0, 1, 2, 3, 4] = torch.nan
    lost = trilinear.sample(image, ddf).isnan()
    assert lost[0, :, 2, 3, 4].all() and lost.sum() == 3


def test_it_is_used_for_fields_that_learn_on_small_volumes_of_images_that_do_not():
    image, ddf = image_and_field()
    assert not trilinear.applies(image, ddf)
    ddf.requires_grad_()
    assert trilinear.applies(image, ddf)
    assert not trilinear.applies(image.clone().requires_grad_(), ddf)
    assert not trilinear.applies(image[:, :, :1], ddf[:, :, :1])  # one voxel along an axis
    with torch.no_grad():
        assert not trilinear.applies(image, ddf)


def test_places_read_what_grid_sample_reads():
    torch.manual_seed(0)
    image, ddf = torch.rand(2, 3, 5, 6, 4), 3 * torch.randn(1, 3, 5, 6, 4)
    axes = torch.meshgrid(*(torch.arange(side) for side in image.shape[2:]), indexing="ij")
    found = trilinear.Places(torch.stack(axes) + ddf[0]).read(image)
    expected = warp(image, ddf.expand(2, -1, -1, -1, -1), padding_mode="border")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [(0, 1, 3, 4, 2), (0, 2, 3, 4, 1), (0, 1, 4, 3, 2), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_how_an_image_lies_in_memory_does_not_matter(order, padding_mode):
    image, ddf = image_and_field()
    elsewhere = image.permute(order).contiguous().permute([order.index(axis) for axis in range(5)])
    assert torch.equal(trilinear.sample(elsewhere, ddf, padding_mode), trilinear.sample(image, ddf, padding_mode))
