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
from monai.networks.nets import BasicUNetPlusPlus, UNet, VNet
from torch import nn
from torch.nn import functional as F

from scripts.networks.baselines import FCN, AppearanceNetwork, LastOutput, Padded, SegNet
from scripts.networks.sizes import required_multiple


def image(*shape, channels=1, seed=0):
    return torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("network", [FCN, SegNet])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_score_for_each_class_at_each_voxel(network, levels):
    made = network(1, 5, channels=(4,) * levels)
    side = 2 ** (levels - 1)
    assert required_multiple([made]) == side
    assert made(image(2 * side, 3 * side, 2 * side)).shape == (2, 5, 2 * side, 3 * side, 2 * side)


@pytest.mark.parametrize("network", [FCN, SegNet])
def test_every_parameter_learns(network):
    torch.manual_seed(0)
    made = network(1, 3, channels=(4, 6, 8))
    made(image(8, 12, 8)).square().mean().backward()
    idle = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # a constant added before instance norm is taken away by it
    assert all(name.endswith("conv.bias") for name in idle)


@pytest.mark.parametrize("network", [FCN, SegNet])
def test_sides_that_do_not_fit_are_refused_with_those_that_do(network):
    with pytest.raises(ValueError, match=rf"{network.__name__}.*multiple of 8, got \(8, 12, 16\).*\[8, 16, 16\]"):
        network(1, 3)(image(8, 12, 16))


@pytest.mark.parametrize("network", [FCN, SegNet])
def test_one_level_is_refused(network):
    with pytest.raises(ValueError, match=rf"{network.__name__}.*two levels, got channels=\[4\]"):
        network(1, 3, channels=[4])


def test_fcn_sums_the_upsampled_scores_of_all_coarser_levels():
    network = FCN(1, 2, channels=(4, 4, 4))
    for score, constant in zip(network.scores, (1.0, 10.0), strict=True):
        nn.init.zeros_(score.weight)
        nn.init.constant_(score.bias, constant)
    assert torch.equal(network(image(8, 8, 8)), torch.full((2, 2, 8, 8, 8), 11.0))


def test_fcn_has_no_score_at_full_resolution():
    network = FCN(1, 2, channels=(4, 4))
    assert [score.out_channels for score in network.scores] == [2]
    coarse = []
    network.scores[0].register_forward_hook(lambda *args: coarse.append(args[-1]))
    scores = network(image(8, 8, 8))
    torch.testing.assert_close(scores, F.interpolate(coarse[0], scale_factor=2.0, mode="trilinear"))


def test_segnet_unpools_to_where_the_largest_values_were():
    network = SegNet(1, 2, channels=(1, 1))
    network.encoder = nn.ModuleList([nn.Identity(), nn.Identity()])
    network.narrow, network.decoder = nn.ModuleList([nn.Identity()]), nn.ModuleList([nn.Identity()])
    network.score = nn.Identity()
    volume = image(4, 6, 4)
    found = network(volume)
    largest = F.interpolate(F.max_pool3d(volume, 2), scale_factor=2.0) == volume
    assert torch.equal(found, volume * largest)


def test_appearance_network_sees_both_images_and_keeps_the_grid():
    torch.manual_seed(0)
    network = AppearanceNetwork(UNet(3, 2, 1, (4, 8), (2,), norm="INSTANCE"))
    first, second = image(8, 8, 12), image(8, 8, 12, seed=1)
    assert required_multiple([network]) == 2
    assert network(first, second).shape == (2, 1, 8, 8, 12)
    assert not torch.allclose(network(first, second), network(second, first))


def test_padding_goes_up_to_the_next_multiple_and_comes_off_again():
    seen = []

    class Keep(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    volume = image(5, 8, 10)
    assert torch.equal(Padded(Keep(), 4)(volume), volume)
    assert seen[0].shape == (2, 1, 8, 8, 12)
    assert seen[0].sum() == pytest.approx(volume.sum().item(), rel=1e-5)
    assert torch.equal(seen[0][:, :, 1:6, :, 1:11], volume)


def test_padding_needs_a_multiple():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Padded(nn.Identity(), 0)


def test_vnet_takes_sides_that_are_no_multiples_of_16_when_padded():
    network = Padded(VNet(3, 1, 3), 16).eval()
    with torch.no_grad():
        assert network(image(8, 12, 16)).shape == (2, 3, 8, 12, 16)
    with torch.no_grad(), pytest.raises(RuntimeError):
        network.network(image(8, 12, 16))


def test_the_last_output_is_the_final_one_of_unet_plus_plus():
    torch.manual_seed(0)
    inner = BasicUNetPlusPlus(3, 1, 3, (8,) * 6, deep_supervision=True, norm=("group", {"num_groups": 4})).eval()
    volume = image(16, 24, 20)
    scores = LastOutput(inner)(volume)
    assert scores.shape == (2, 3, 16, 24, 20)
    assert torch.equal(scores, inner(volume)[3])
    assert not torch.equal(scores, inner(volume)[0])
