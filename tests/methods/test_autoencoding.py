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
from tiny_joint import NUM_CLASSES, SIDE, make_pair
from torch import nn

from scripts.losses.reconstruction import AttentionReconstruction
from scripts.methods.autoencoding import DenoisingState, ReconstructionState
from scripts.networks.autoencoders import ReconstructingUNet
from scripts.networks.dense_bias import PriorDenseBiasNet


class Sure(nn.Module):
    """Sure of a class at each voxel, that of its number, and reconstructs each class's part exactly."""

    def both(self, image):
        number = torch.arange(image.numel()).view_as(image) % NUM_CLASSES
        classes = torch.cat([number == c for c in range(NUM_CLASSES)], dim=1).float()
        return torch.cat([1000 * classes, classes * image], dim=1)


def test_with_sure_probabilities_the_reconstructions_add_up_to_the_image():
    pair = ReconstructionState(make_pair(), {"segmentation": Sure()}, num_classes=NUM_CLASSES)
    assert torch.equal(pair.reconstructions.sum(dim=1, keepdim=True), pair.fixed_image)
    assert torch.equal(pair.reconstructions, pair.attended_image)
    assert AttentionReconstruction()(pair.reconstructions, pair.attention, pair.fixed_image) == 0


def test_the_attention_is_what_the_network_predicts():
    torch.manual_seed(0)
    network = ReconstructingUNet(1, NUM_CLASSES, (4, 8))
    pair = ReconstructionState(make_pair(), {"segmentation": network}, num_classes=NUM_CLASSES)
    assert torch.equal(pair.attention, pair.fixed_prob)
    assert pair.reconstructions.shape == (1, NUM_CLASSES, SIDE, SIDE, SIDE)


def test_an_image_is_restored_out_of_noise_by_the_autoencoder_alone():
    torch.manual_seed(0)
    network = PriorDenseBiasNet(1, NUM_CLASSES, (4, 8), 2, (4, 4))
    settings = {"num_classes": NUM_CLASSES, "learning": ["segmentation"]}
    states = [
        DenoisingState(make_pair(), {"segmentation": network}, noise_std=noise, **settings) for noise in (0.0, 0.1)
    ]
    assert torch.equal(states[0].noisy_image, states[0].fixed_image)
    assert torch.equal(states[0].restored_image, network.prior(states[0].fixed_image))
    assert abs((states[1].noisy_image - states[1].fixed_image).std() - 0.1) < 0.01
    states[1].restored_image.square().mean().backward()
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None} == {"prior"}
