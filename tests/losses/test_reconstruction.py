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
from torch.distributions import Normal, kl_divergence

from scripts.losses.reconstruction import AttentionReconstruction, StandardNormalDivergence


def volume(channels, seed=0):
    return torch.rand(2, channels, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_maps_of_each_class_s_part_cost_nothing_and_add_up_to_the_image():
    image = volume(1)
    classes = torch.nn.functional.one_hot(volume(3).argmax(dim=1), 3).movedim(-1, 1).float()
    maps = classes * image
    assert torch.equal(maps.sum(dim=1, keepdim=True), image)
    assert AttentionReconstruction()(maps, classes, image) == 0


def test_an_error_costs_its_square_times_the_share_of_its_class():
    attention = torch.tensor([0.75, 0.25]).view(1, 2, 1, 1, 1).expand(2, 2, 4, 5, 6)
    image = volume(1)
    off = attention * image + torch.tensor([0.1, 0.3]).view(1, 2, 1, 1, 1)
    assert AttentionReconstruction()(off, attention, image).item() == pytest.approx(0.75 * 0.01 + 0.25 * 0.09)


def test_the_attention_learns_too():
    attention = volume(2).softmax(dim=1).requires_grad_()
    AttentionReconstruction()(volume(2, seed=1), attention, volume(1)).backward()
    assert attention.grad.any()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"AttentionReconstruction.*found \(2, 3, 4, 5, 6\), \(2, 2, 4, 5, 6\)"):
        AttentionReconstruction()(volume(3), volume(2), volume(1))


def test_the_divergence_is_that_of_two_normal_distributions():
    mean, log_variance = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(0))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(StandardNormalDivergence()(mean, log_variance), expected)
    assert StandardNormalDivergence()(torch.zeros(2, 7), torch.zeros(2, 7)) == 0
    assert StandardNormalDivergence()(torch.full((2, 7), 2.0), torch.zeros(2, 7)) == 2
