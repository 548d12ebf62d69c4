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
"""The mean local correlation: what it is of images whose correlation is known, and its gradient."""

from __future__ import annotations

import pytest
import torch

from scripts.losses.correlation import LocalCorrelation, window_sum

SHAPE = (2, 1, 7, 9, 8)


def images(seed=0, shape=SHAPE):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def everywhere(image):
    return torch.ones_like(image)


@pytest.mark.parametrize("window", [3, 5, 9])
def test_a_window_sum_is_that_of_the_cube_cut_at_the_border(window):
    image, radius = images(), window // 2
    for d, h, w in ((0, 0, 0), (3, 4, 4), (6, 8, 7), (1, 8, 3)):
        cube = image[(..., *(slice(max(0, i - radius), i + radius + 1) for i in (d, h, w)))]
        torch.testing.assert_close(window_sum(image, window)[:, :, d, h, w], cube.sum(dim=(2, 3, 4)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, 0.0),
        (lambda x: 0.3 * x + 0.2, 0.0),
        (lambda x: 1 - x, 2.0),
        (lambda x: torch.full_like(x, 0.4), 1.0),
    ],
    ids=["the same", "other brightness and contrast", "inverted", "flat"],
)
def test_the_loss_of_images_whose_correlation_is_known(change, expected):
    fixed = images()
    loss = LocalCorrelation(fixed, everywhere(fixed), eps=1e-8)(change(fixed))
    torch.testing.assert_close(loss, torch.full((2,), expected), atol=2e-3, rtol=0)


def test_only_the_region_counts():
    fixed, region = images(), torch.zeros(SHAPE)
    region[:, :, :3] = 1
    elsewhere = fixed.clone()
    elsewhere[:, :, 5:] = images(1)[:, :, 5:]  # beyond the windows of the region
    loss = LocalCorrelation(fixed, region, window=3)
    assert torch.equal(loss(elsewhere), loss(fixed))
    assert (LocalCorrelation(fixed, everywhere(fixed), window=3)(elsewhere) > loss(elsewhere) + 0.05).all()


def test_the_gradient_is_that_of_finite_differences():
    fixed, region = images(shape=(1, 1, 4, 5, 4)).double(), (images(2, (1, 1, 4, 5, 4)) > 0.3).double()
    warped = images(1, (1, 1, 4, 5, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(LocalCorrelation(fixed, region, window=3), (warped,))
