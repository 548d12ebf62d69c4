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

import torch
from tiny_joint import SIDE, make_networks, make_pair
from tiny_networks import SameShift
from torch import nn

from scripts.fields.warping import warp
from scripts.methods.variational import DeformationSamplingState
from scripts.networks.autoencoders import CoarseVAE

GRID = (SIDE, SIDE, SIDE)


class Shift(SameShift):
    """A shift of each sample of a batch."""

    def forward(self, moving, fixed):
        return super().forward(moving, fixed).expand(len(fixed), -1, -1, -1, -1).contiguous()


class Known(nn.Module):
    """A VAE whose codes are the mean of the volume, twice, with a variance of 1, and whose decoder repeats it."""

    latent_size = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def encode(self, volume):
        mean = volume.mean(dim=(1, 2, 3, 4)).view(-1, 1, 1).expand(-1, 1, 2)
        return torch.cat([mean, torch.zeros_like(mean)], dim=1)

    def decode(self, code):
        return code[:, :1].view(-1, 1, 1, 1, 1).expand(-1, self.channels, *GRID)


def state(temperature=1.0, shift=(2.0, 2.0, 2.0), **networks):
    torch.manual_seed(0)
    batch = make_pair(("moving",), batch_size=2)
    batch["style_image"] = make_pair(batch_size=2, seed=1)["fixed_image"]
    known = {"shape_vae": Known(3), "intensity_vae": Known(1), "registration": Shift(shift)}
    segmentation = {"segmentation": make_networks()["segmentation"]}
    return DeformationSamplingState(batch, segmentation | known | networks, num_classes=3, temperature=temperature)


def test_at_zero_variance_a_draw_is_the_mean():
    pair = state(temperature=0.0)
    assert torch.equal(pair.restored_ddf, torch.full((2, 3, *GRID), 2.0))
    assert not pair.drawn_ddf.any() and not pair.drawn_change.any()
    assert torch.equal(pair.generated_image, pair.moving_image)
    assert torch.equal(pair.generated_label, pair.moving_label)


def test_the_vae_is_decoded_at_its_mean_when_nothing_is_drawn():
    vae = CoarseVAE(3, GRID, latent_size=4, channels=(4, 8))
    pair = state(temperature=0.0, shape_vae=vae)
    torch.testing.assert_close(pair.restored_ddf, vae(pair.ddf))
    torch.testing.assert_close(pair.drawn_ddf, vae.decode(torch.zeros(2, 4)))


def test_the_intensity_change_is_the_difference_of_registered_images():
    pair = state(shift=(1.0, 0.0, 0.0))
    torch.testing.assert_close(pair.moving_image + pair.intensity_change, warp(pair.style_image, pair.style_ddf))


def test_a_generated_image_and_its_label_move_by_one_drawn_field():
    pair = state()
    assert pair.drawn_ddf.unique().numel() == 2  # one draw for each sample
    torch.testing.assert_close(
        pair.generated_image, warp(pair.moving_image + pair.drawn_change, pair.drawn_ddf), rtol=0, atol=0
    )
    torch.testing.assert_close(pair.generated_label, warp(pair.moving_label, pair.drawn_ddf), rtol=0, atol=0)
    assert pair.generated_pred.shape == pair.moving_label.shape
