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
from tiny_joint import NUM_CLASSES, make_networks, make_pair
from tiny_networks import SameShift
from torch import nn

from scripts.fields.warping import warp
from scripts.methods.learned_augmentation import AppearanceSmoothness, LearnedAugmentationState
from scripts.networks.baselines import AppearanceNetwork


class Difference(nn.Module):
    """The change that makes an image equal to the other one."""

    def forward(self, image, style):
        return style - image


class OneWay(nn.Module):
    """Shifts what is pulled onto a given image, and nothing else."""

    def __init__(self, fixed: torch.Tensor, shift) -> None:
        super().__init__()
        self.fixed, self.shift = fixed, SameShift(shift)

    def forward(self, moving, fixed):
        return self.shift(moving, fixed) * torch.equal(fixed, self.fixed)


def triplet():
    batch = make_pair()
    batch["style_image"] = make_pair(seed=1)["fixed_image"]
    return batch


def state(batch, registration, appearance, **options):
    networks = {"registration": registration, "appearance": appearance, **make_networks_but_registration()}
    return LearnedAugmentationState(batch, networks, num_classes=NUM_CLASSES, **options)


def make_networks_but_registration():
    return {"segmentation": make_networks()["segmentation"]}


def test_without_a_field_the_synthetic_image_is_the_third_image():
    batch = triplet()
    pair = state(batch, SameShift(), Difference())
    torch.testing.assert_close(pair.synthetic_image, batch["style_image"])
    assert torch.equal(pair.warped_label, pair.moving_label)


def test_without_a_change_the_synthetic_image_is_the_warped_image():
    class Nothing(nn.Module):
        def forward(self, image, style):
            return torch.zeros_like(image)

    pair = state(triplet(), SameShift((1, 2, 0)), Nothing())
    assert torch.equal(pair.synthetic_image, pair.warped_image)


def test_the_change_is_found_on_the_moving_grid_and_moved_with_the_image():
    batch = triplet()
    pair = state(batch, OneWay(batch["moving_image"], (3, 0, 0)), Difference())
    assert torch.equal(pair.style_on_moving, warp(batch["style_image"], pair.style_ddf))
    assert not pair.ddf.any()
    torch.testing.assert_close(pair.synthetic_image, pair.style_on_moving)

    pair = state(batch, OneWay(batch["fixed_image"], (3, 0, 0)), Difference())
    assert not pair.style_ddf.any()
    torch.testing.assert_close(pair.synthetic_image[:, :, :-3], batch["style_image"][:, :, 3:])


def test_restyling_teaches_the_appearance_network_and_not_the_field():
    registration = make_networks()["registration"]
    appearance = AppearanceNetwork(nn.Conv3d(2, 1, 1))
    pair = state(triplet(), registration, appearance, learning={"appearance"})
    nn.functional.mse_loss(pair.restyled_image, pair.style_on_moving).backward()
    assert all(p.grad.abs().max() > 0 for p in appearance.parameters())
    assert all(p.grad is None for p in registration.parameters())


def test_a_batch_of_two_images_says_what_it_lacks():
    pair = state(make_pair(), SameShift(), Difference())
    with pytest.raises(KeyError, match="train::sampler::style: true"):
        _ = pair.synthetic_image


def halves():
    """One-hot label of two structures that meet between the voxels 3 and 4 of the first axis."""
    label = torch.zeros(1, 2, 8, 4, 4)
    label[:, 0, :4], label[:, 1, 4:] = 1, 1
    return label


def test_a_step_between_structures_is_free_and_one_within_is_not():
    step = torch.zeros(1, 1, 8, 4, 4)
    step[:, :, 4:] = 1
    assert AppearanceSmoothness()(step, halves()) == 0
    moved = step.roll(1, dims=2)
    moved[:, :, 0] = 0
    assert AppearanceSmoothness()(moved, halves()).item() == pytest.approx(1 / 7 / 3)  # one of seven differences


def test_a_slope_costs_its_square_where_there_is_one_structure():
    slope = 0.1 * torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 4, 4)
    assert AppearanceSmoothness()(slope, torch.ones(1, 1, 8, 4, 4)).item() == pytest.approx(0.01 / 3)


def test_smoothness_refuses_another_grid():
    with pytest.raises(ValueError, match=r"on one grid, found \(8, 4, 4\) and \(8, 4, 5\)"):
        AppearanceSmoothness()(torch.zeros(1, 1, 8, 4, 4), torch.zeros(1, 2, 8, 4, 5))
