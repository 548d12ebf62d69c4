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

from scripts.networks.autoencoders import CoarseVAE, ReconstructingUNet


def image(*shape, channels=1, seed=0):
    return torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(seed))


def test_both_decoders_start_from_one_encoder():
    network = ReconstructingUNet(1, 3, channels=(4, 8, 12))
    volume = image(8, 12, 8)
    both = network.both(volume)
    assert both.shape == (2, 6, 8, 12, 8)
    assert torch.equal(both[:, :3], network(volume))
    both[:, 3:].square().mean().backward()
    taught = {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert taught == {"encoder", "reconstruct", "paint"}


def test_the_reconstruction_has_no_skip_connections():
    network = ReconstructingUNet(1, 2, channels=(4, 8))
    assert network.segment[0][0].conv.in_channels == 8 + 4
    assert network.reconstruct[0][0].conv.in_channels == 8


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"ReconstructingUNet.*multiple of 8, got \(8, 12, 16\)"):
        ReconstructingUNet(1, 3)(image(8, 12, 16))
    with pytest.raises(ValueError, match=r"CoarseVAE.*multiple of 8, got \(8, 12, 16\)"):
        CoarseVAE(1, (8, 12, 16))


def test_a_vae_codes_a_volume_and_gives_back_its_grid():
    network = CoarseVAE(3, (8, 16, 8), latent_size=5, channels=(4, 8))
    field = image(8, 16, 8, channels=3)
    assert network.encode(field).shape == (2, 2, 5)
    assert network(field).shape == field.shape
    assert torch.equal(network(field), network.decode(network.encode(field)[:, 0]))


def test_a_vae_sees_how_large_a_field_is():
    torch.manual_seed(0)
    network = CoarseVAE(3, (8, 8, 8), latent_size=5, channels=(4, 8))
    field = image(8, 8, 8, channels=3)
    assert not torch.allclose(network.encode(2 * field), network.encode(field), atol=1e-3)
