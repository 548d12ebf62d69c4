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
from monai.networks.nets import UNet
from torch import nn

from scripts.fields.metrics import folding_percent
from scripts.networks.discriminator import PairDiscriminator
from scripts.networks.registration import RegistrationUNet, VoxelMorph2
from scripts.networks.sizes import check_multiple, required_multiple, single_voxel_side


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, *shape, generator=generator), torch.rand(2, 1, *shape, generator=generator)


def unet(channels=(4, 8), strides=(2,), in_channels=2, out_channels=1):
    torch.manual_seed(0)
    return UNet(3, in_channels, out_channels, channels, strides, norm="INSTANCE")


# ---- VoxelMorph-2


def test_the_default_has_the_size_of_the_published_network():
    assert sum(parameter.numel() for parameter in VoxelMorph2().parameters()) == 300_547


def test_convolutions_are_those_of_the_publication():
    found = [(m.in_channels, m.out_channels, m.stride[0]) for m in VoxelMorph2().modules() if isinstance(m, nn.Conv3d)]
    down = [(2, 16, 2), (16, 32, 2), (32, 32, 2), (32, 32, 2)]
    up = [(32, 32, 1), (64, 32, 1), (64, 32, 1), (48, 32, 1), (32, 32, 1), (34, 16, 1), (16, 16, 1), (16, 3, 1)]
    assert sorted(found) == sorted(down + up)


@pytest.mark.parametrize("half_resolution", [False, True])
def test_an_untrained_network_is_the_identity_to_a_thousandth_of_a_voxel(half_resolution):
    channels = (32, 32, 32, 32, 32) if half_resolution else (32, 32, 32, 32, 32, 16, 16)
    torch.manual_seed(0)
    ddf = VoxelMorph2(decoder_channels=channels, half_resolution=half_resolution)(*images(16, 32, 16))
    assert ddf.shape == (2, 3, 16, 32, 16)
    assert 0 < ddf.abs().max() < 1e-3


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("half_resolution", [False, True])
def test_any_number_of_levels_gives_a_field_of_the_size_of_the_volume(levels, half_resolution):
    channels = (4,) * (levels + (1 if half_resolution else 3))
    network = VoxelMorph2((4,) * levels, channels, half_resolution)
    side = 2**levels
    assert network.multiple == side
    assert network(*images(side, 2 * side, 3 * side)).shape == (2, 3, side, 2 * side, 3 * side)


def test_the_two_images_have_different_parts_in_it():
    network = VoxelMorph2((4, 4), (4,) * 5, flow_init_std=0.1)
    moving, fixed = images(8, 8, 8)
    assert not torch.allclose(network(moving, fixed), network(fixed, moving))


def test_every_parameter_learns():
    network = VoxelMorph2((4, 4), (4,) * 5, flow_init_std=0.1)
    network(*images(8, 8, 8)).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_half_resolution_predicts_on_half_the_grid_in_voxels_of_the_whole():
    network = VoxelMorph2((4, 4), (4,) * 3, half_resolution=True, flow_init_std=0.0)
    nn.init.constant_(network.flow.bias, 1.5)
    assert torch.equal(network(*images(8, 8, 8)), torch.full((2, 3, 8, 8, 8), 1.5))
    shapes = []
    network.flow.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    network(*images(8, 8, 8))
    assert shapes == [(2, 3, 4, 4, 4)]


@pytest.mark.parametrize("half_resolution", [False, True])
def test_an_integrated_field_does_not_fold_where_the_velocity_itself_would(half_resolution):
    channels = (4,) * (3 if half_resolution else 5)

    def folding(steps):
        torch.manual_seed(0)
        network = VoxelMorph2((4, 4), channels, half_resolution, flow_init_std=0.7, integration_steps=steps)
        x = torch.linspace(0, 1, 16)
        waves = torch.sin(9 * x)[:, None, None] * torch.cos(7 * x)[:, None] * torch.cos(8 * x)
        return float(folding_percent(network(waves[None, None], -waves[None, None])).mean())

    assert folding(0) > 1
    assert folding(7) < 0.1 * folding(0)


def test_a_constant_velocity_is_the_field():
    network = VoxelMorph2((4, 4), (4,) * 3, half_resolution=True, flow_init_std=0.0, integration_steps=4)
    nn.init.constant_(network.flow.bias, 1.5)
    torch.testing.assert_close(network(*images(8, 8, 8)), torch.full((2, 3, 8, 8, 8), 1.5))


def test_each_subject_may_have_several_channels():
    network = VoxelMorph2((4, 4), (4,) * 5, in_channels=3)
    assert network(torch.rand(1, 3, 8, 8, 8), torch.rand(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_a_side_that_is_no_multiple_is_refused_with_the_multiple_and_a_shape_that_fits():
    with pytest.raises(ValueError, match=r"multiple of 16, got \(16, 24, 40\).*`spatial_size` to \[16, 32, 48\]"):
        VoxelMorph2()(*images(16, 24, 40))


@pytest.mark.parametrize(
    ("encoder", "decoder", "half_resolution", "expected"),
    [((16, 32), (32,) * 4, False, 5), ((16, 32), (32,) * 5, True, 3), ((), (32,) * 3, False, 3)],
)
def test_channel_lists_that_do_not_fit_together_are_refused(encoder, decoder, half_resolution, expected):
    with pytest.raises(ValueError, match=f"need {expected} decoder channels, got {len(decoder)}"):
        VoxelMorph2(encoder, decoder, half_resolution)


# ---- a U-Net that registers


@pytest.mark.parametrize("channels", [1, 3])
def test_an_untrained_u_net_is_the_identity_to_a_hundredth_of_a_voxel(channels):
    network = RegistrationUNet(unet(in_channels=2 * channels, out_channels=8), features=8)
    ddf = network(*(image.expand(-1, channels, -1, -1, -1) for image in images(8, 16, 8)))
    assert ddf.shape == (2, 3, 8, 16, 8)
    assert 0 < ddf.abs().max() < 1e-2


def test_a_u_net_puts_the_moving_image_first_and_its_bias_is_in_voxels():
    network = RegistrationUNet(nn.Identity(), features=2, flow_init_std=0.0)
    nn.init.constant_(network.flow.bias, 1.5)
    moving, fixed = images(4, 4, 4)
    assert torch.equal(network(moving, fixed), torch.full((2, 3, 4, 4, 4), 1.5))
    nn.init.dirac_(network.flow.weight)
    torch.testing.assert_close(network(moving, fixed)[:, :2], torch.cat([moving, fixed], dim=1) + 1.5)


def test_every_parameter_of_a_u_net_that_registers_learns():
    network = RegistrationUNet(unet(out_channels=4), features=4, flow_init_std=0.1)
    network(*images(8, 8, 8)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.flow.weight.grad.abs().max() > 0


def test_a_u_net_refuses_a_side_that_its_strides_do_not_divide():
    network = RegistrationUNet(unet((4, 8, 16), (2, 2), out_channels=4), features=4)
    assert required_multiple([network]) == 4
    with pytest.raises(ValueError, match=r"RegistrationUNet.*multiple of 4, got \(6, 8, 8\)"):
        network(*images(6, 8, 8))


def test_a_u_net_that_registers_computes_the_same_in_torchscript():
    network = RegistrationUNet(unet(out_channels=4), features=4, flow_init_std=0.1).eval()
    with torch.no_grad():
        assert torch.equal(torch.jit.script(network)(*images(8, 8, 8)), network(*images(8, 8, 8)))


# ---- the discriminator


def test_without_handicaps_it_is_the_network_on_both_images():
    network = unet()
    candidate, fixed = images(8, 8, 8)
    for mode in (True, False):
        logits = PairDiscriminator(network).train(mode)(candidate, fixed)
        assert logits.shape == (2, 1, 8, 8, 8)
        assert torch.equal(logits, network(torch.cat([candidate, fixed], dim=1)))


def test_noise_is_added_in_training_alone_and_is_new_each_time():
    discriminator = PairDiscriminator(unet(), noise_std=0.1)
    pair = images(8, 8, 8)
    assert not torch.equal(discriminator(*pair), discriminator(*pair))
    discriminator.eval()
    assert torch.equal(discriminator(*pair), PairDiscriminator(unet())(*pair))


def test_noise_has_its_standard_deviation_on_both_images():
    seen = []

    class Keep(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x[:, :1]

    candidate, fixed = images(16, 16, 16)
    torch.manual_seed(0)
    PairDiscriminator(Keep(), noise_std=0.3)(candidate, fixed)
    noise = seen[0] - torch.cat([candidate, fixed], dim=1)
    for channel in noise.unbind(1):
        assert channel.std().item() == pytest.approx(0.3, rel=0.05)
    assert noise[:, 0].flatten() @ noise[:, 1].flatten() / noise[:, 0].numel() < 0.01


def test_pooling_hides_what_is_finer_than_its_cells():
    discriminator = PairDiscriminator(unet(), pool=2).eval()
    candidate, fixed = images(8, 8, 8)
    checkerboard = 0.1 * (-1.0) ** torch.stack(torch.meshgrid(*[torch.arange(8)] * 3, indexing="ij")).sum(0)
    logits = discriminator(candidate, fixed)
    assert logits.shape == (2, 1, 8, 8, 8)
    torch.testing.assert_close(discriminator(candidate + checkerboard, fixed), logits)
    assert not torch.allclose(PairDiscriminator(unet()).eval()(candidate + checkerboard, fixed), logits, atol=1e-3)


def test_logits_of_a_pooled_network_with_strides_have_the_size_of_the_images():
    strided = nn.Conv3d(2, 1, kernel_size=2, stride=2)
    assert PairDiscriminator(strided, pool=2)(*images(8, 8, 8)).shape == (2, 1, 8, 8, 8)


@pytest.mark.parametrize(("pool", "noise_std"), [(0, 0.0), (1, -0.1)])
def test_impossible_handicaps_are_refused(pool, noise_std):
    with pytest.raises(ValueError, match=f"got {pool} and {noise_std}"):
        PairDiscriminator(unet(), pool, noise_std)


# ---- what size a volume needs


@pytest.mark.parametrize(
    ("networks", "multiple"),
    [
        ([VoxelMorph2()], 16),
        ([unet((4, 8, 16), (2, 2))], 4),
        ([unet((4, 8, 16), ((1, 3, 3), 2))], 6),
        ([PairDiscriminator(unet(), pool=3)], 6),
        ([VoxelMorph2((4, 4), (4,) * 5), PairDiscriminator(unet(), pool=3)], 12),
        ([nn.Identity()], 1),
        ([], 1),
    ],
    ids=["VoxelMorph2", "UNet", "uneven strides", "pooled", "both", "nothing stated", "none"],
)
def test_required_multiple_is_what_all_networks_need_together(networks, multiple):
    assert required_multiple(networks) == multiple


def test_a_volume_of_the_required_multiple_passes_all_networks():
    networks = [VoxelMorph2((4,) * 3, (4,) * 6), PairDiscriminator(unet(), pool=2)]
    side = required_multiple(networks)
    assert side == 8
    for network in networks:
        assert network(*images(side, side, side)).shape[2:] == (side, side, side)


def test_a_network_with_instance_norm_needs_more_than_one_voxel_at_its_bottom():
    normalised = UNet(3, 1, 2, (4, 8), (2,), norm="INSTANCE").train()
    side = single_voxel_side([normalised, VoxelMorph2()])
    assert side == 2 and single_voxel_side([VoxelMorph2()]) == 0
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        normalised(torch.rand(1, 1, side, side, side))
    assert normalised(torch.rand(1, 1, side, side, 2 * side)).shape == (1, 2, side, side, 2 * side)


def test_a_discriminator_does_not_pool_what_it_could_not_normalise():
    discriminator = PairDiscriminator(UNet(3, 2, 1, (4, 8), (2,), norm="INSTANCE"), pool=2).train()
    side = required_multiple([discriminator])
    assert side == 4 and single_voxel_side([discriminator]) == 0
    assert discriminator(*images(side, side, side)).shape[2:] == (side,) * 3


def test_check_multiple_accepts_multiples_and_names_who_refuses():
    check_multiple((16, 32, 48), 16, "R")
    with pytest.raises(ValueError, match=r"^R: .*multiple of 16, got \(16, 33, 48\).*\[16, 48, 48\]"):
        check_multiple((16, 33, 48), 16, "R")
