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

import copy

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import SegResNet, UNet
from torch import nn

from scripts.networks.discriminator import PairDiscriminator
from scripts.networks.layout import _by_factor, for_processor, resized
from scripts.networks.registration import VoxelMorph2


def unet(inputs=1):
    return UNet(3, inputs, 3, [16, 32], [2], num_res_units=2, norm="INSTANCE")


def draw_weights(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


NETWORKS = {
    "S": (unet, 1),
    "R": (lambda: VoxelMorph2((4, 4), (4, 4, 4), half_resolution=True), 2),
    "D": (lambda: PairDiscriminator(UNet(3, 2, 1, [16, 32], [2], num_res_units=1, norm="INSTANCE"), pool=2), 2),
}


@pytest.mark.parametrize("is_taught", [True, False], ids=["taught", "asked"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_and_learns_the_same(name, is_taught):
    torch.manual_seed(0)
    make, images = NETWORKS[name]
    plain = draw_weights(make()).double()
    quick = for_processor(copy.deepcopy(plain), is_taught)
    assert {type(module) for module in quick.modules()} != {type(module) for module in plain.modules()}
    inputs = [torch.rand(2, 1, 16, 8, 12, dtype=torch.float64, requires_grad=True) for _ in range(images)]
    found = []
    for network in (plain, quick):
        output = network(*inputs)
        grads = torch.autograd.grad(output.square().sum(), [*network.parameters(), *inputs])
        found.append((output.detach(), grads))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_weights_keep_their_names_shapes_and_values():
    plain = unet()
    quick = for_processor(copy.deepcopy(plain))
    torch.testing.assert_close(quick.state_dict(), plain.state_dict(), rtol=0, atol=0, check_stride=False)
    unet().load_state_dict(quick.state_dict())


def test_in_bfloat16_the_slope_of_prelu_has_a_gradient_summed_in_float32():
    features = torch.full((1, 1, 40, 40, 40), -1.0, dtype=torch.bfloat16)
    prelu = for_processor(nn.PReLU())
    prelu(features).float().sum().backward()
    assert prelu.weight.grad.item() == -(40**3)  # a bfloat16 sum stops at 256


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_upsampling_is_pytorchs_for_lines_of_any_length(factor):
    plain = nn.Upsample(scale_factor=factor, mode="trilinear")
    image = torch.rand(2, 3, 1, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(for_processor(copy.deepcopy(plain))(image), plain(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(10, 5, 8), (9, 3, 1)])
def test_resizing_is_pytorchs_and_so_is_its_gradient(size):
    image = torch.rand(2, 3, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    found = [resized(image, size), F.interpolate(image, size=size, mode="trilinear")]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(each.square().sum(), image) for each in found))


def test_what_is_not_understood_stays():
    network = nn.Sequential(
        nn.PReLU(4), nn.InstanceNorm3d(4, affine=True), nn.Conv2d(3, 3, 3), nn.Upsample(scale_factor=2)
    )
    assert [type(module) for module in for_processor(network)] == [nn.PReLU, nn.InstanceNorm3d, nn.Conv2d, nn.Upsample]


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": (2, 1, 3)},
        {"size": (6, 5, 4)},
        {"scale_factor": 1.5, "recompute_scale_factor": True},
    ],
)
def test_upsampling_of_other_kinds_stays(options):
    plain = nn.Upsample(mode="trilinear", **options)
    image = torch.rand(1, 2, 5, 4, 3)
    assert torch.equal(for_processor(copy.deepcopy(plain))(image), plain(image))


def test_monais_segresnet_says_the_same():
    plain = SegResNet(3, init_filters=8, in_channels=1, out_channels=2).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(for_processor(copy.deepcopy(plain))(image), plain(image), rtol=0, atol=1e-5)


def test_upsampling_first_seen_in_inference_mode_may_learn_later():
    _by_factor.cache_clear()
    upsample = for_processor(nn.Upsample(scale_factor=2, mode="trilinear"))
    with torch.inference_mode():
        upsample(torch.rand(1, 1, 3, 3, 3))
    image = torch.rand(1, 1, 3, 3, 3, requires_grad=True)
    upsample(image).sum().backward()
    torch.testing.assert_close(image.grad.sum(), torch.tensor(6.0**3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_in_another_type_stays_in_it(dtype):
    network = for_processor(nn.Sequential(nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv3d(1, 1, 1))).to(dtype)
    assert network(torch.rand(1, 1, 2, 2, 2, dtype=dtype)).dtype == dtype


def test_instance_norm_without_a_batch_is_over_each_channel_and_of_one_voxel_is_refused():
    image = torch.rand(3, 4, 5, 6)
    torch.testing.assert_close(for_processor(nn.InstanceNorm3d(3))(image), nn.InstanceNorm3d(3)(image))
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        for_processor(nn.InstanceNorm3d(3))(torch.rand(2, 3, 1, 1, 1))


def test_a_gradient_penalty_reaches_the_slope_of_prelu():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv3d(1, 2, 1), nn.PReLU(), nn.Conv3d(2, 1, 1)).double()
    image = torch.randn(1, 1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for network in (plain, for_processor(copy.deepcopy(plain))):
        (grad,) = torch.autograd.grad(network(image).square().sum(), image, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), network[1].weight)[0])
    torch.testing.assert_close(*found)


def test_a_network_goes_on_as_it_was_after_it_was_exported():
    network = for_processor(draw_weights(VoxelMorph2((4, 4), (4, 4, 4), half_resolution=True)))
    _by_factor.cache_clear()
    images = torch.rand(2, 1, 1, 8, 8, 8)
    program = torch.export.export(network, tuple(images))
    torch.testing.assert_close(network(*images), program.module()(*images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel, stride, side", [(3, 1, 2), (3, 2, 1), (4, 1, 3)])  # (4, 1, 3) is LT-Net's last
def test_in_bfloat16_a_volume_thinner_than_the_kernel_has_gradients_that_are_numbers(kernel, stride, side):
    convolution = for_processor(nn.Conv3d(32, 64, kernel, stride, padding=1))
    for _ in range(4):
        with torch.autocast("cpu", torch.bfloat16):
            out = convolution(torch.randn(1, 32, side, side, side))
        used = [torch.full((size,), float("nan")) for size in (64, 512, 4096, 27648, 200000, 500000) for _ in range(4)]
        del used  # memory that is given out again holds no numbers
        (grad,) = torch.autograd.grad(out.float().sum(), convolution.weight)
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d])
def test_in_bfloat16_what_is_thinner_than_its_kernel_stays_float32(kind):
    conv = for_processor(kind(16, 16, 3, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.randn(1, 16, 2, 8, 8)).dtype == torch.float32
        assert conv(torch.randn(1, 16, 3, 2, 2)).dtype == torch.bfloat16
