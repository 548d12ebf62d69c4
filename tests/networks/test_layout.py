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
from monai.networks.nets import UNet
from torch import nn

from scripts.networks.discriminator import PairDiscriminator
from scripts.networks.layout import for_processor, resized
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
