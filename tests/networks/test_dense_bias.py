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
from torch import nn

from scripts.networks.dense_bias import DenseBiasNet, PriorDenseBiasNet


def image(*shape, seed=0):
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(seed))


def test_a_layer_sees_the_one_before_it_and_a_bias_of_each_earlier_one():
    network = DenseBiasNet(1, 3, channels=(8, 16, 24), bias_channels=2)
    found = [layer.conv.in_channels for layer in network.layers]
    assert network.levels == [0, 0, 1, 1, 2, 2, 1, 1, 0, 0]
    assert found == [1, 8, 8 + 2, 16 + 4, 16 + 6, 24 + 8, 24 + 10, 16 + 12, 16 + 14, 8 + 16]
    assert [layer.conv.out_channels for layer in network.layers] == [8, 8, 16, 16, 24, 24, 16, 16, 8, 8]
    assert network(image(8, 12, 8)).shape == (2, 3, 8, 12, 8)


def test_the_last_layer_sees_every_bias_at_its_own_resolution():
    network, seen = DenseBiasNet(1, 3, channels=(4, 8), bias_channels=1), []
    network.layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for number, bias in enumerate(network.biases):
        if isinstance(bias, nn.Conv3d):  # a number for each layer, which neither pooling nor upsampling changes
            nn.init.zeros_(bias.weight)
            nn.init.constant_(bias.bias, float(number))
    network(image(4, 4, 4))
    assert seen[0].shape == (2, 4 + 4, 4, 4, 4)
    assert torch.equal(seen[0][:, 4:], torch.arange(4.0).view(1, 4, 1, 1, 1).expand(2, 4, 4, 4, 4))


@pytest.mark.parametrize("network", [DenseBiasNet(1, 3, (4, 8)), PriorDenseBiasNet(1, 3, (4, 8), 2, (4, 4))])
def test_every_parameter_of_the_scores_learns(network):
    network(image(8, 8, 8)).square().mean().backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if not name.startswith("prior.decode") and (parameter.grad is None or not parameter.grad.any())
    ]
    assert all(name.endswith("conv.bias") for name in idle)  # which the norm takes away


def test_the_scores_depend_on_the_features_of_the_autoencoder_alone_and_it_keeps_the_grid():
    torch.manual_seed(0)
    network = PriorDenseBiasNet(1, 3, (4, 8), 2, (4, 6)).eval()
    assert network.restore(image(8, 12, 8)).shape == (2, 1, 8, 12, 8)
    first = [layer.conv.in_channels for layer in network.segmenter.layers]
    assert first == [1 + 4, 4, 4 + 2 + 6, 8 + 4, 8 + 6, 4 + 8]
    before = network(image(8, 8, 8))
    for parameter in network.prior.decode.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(network(image(8, 8, 8)), before)
    for parameter in network.prior.encode.parameters():
        nn.init.zeros_(parameter)
    assert not torch.allclose(network(image(8, 8, 8)), before)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"DenseBiasNet.*multiple of 8, got \(8, 12, 16\)"):
        DenseBiasNet(1, 3)(image(8, 12, 16))
    with pytest.raises(ValueError, match="DenseBiasNet.*two levels"):
        DenseBiasNet(1, 3, channels=[4])
    with pytest.raises(ValueError, match=r"a width for each level, got \[4, 8\] and \[4\]"):
        PriorDenseBiasNet(1, 3, [4, 8], 2, [4])
