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
"""On CUDA the project computes what it computes on the CPU."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_joint import ALTERNATING, FUSED, make_networks, make_pair, make_updates, same_bits, train, weights

from scripts.fields.warping import warp
from scripts.losses.local_ncc import LocalNCC

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none"),
]

SHAPE = (2, 1, 18, 22, 20)


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def value_and_gradients(function, inputs, device):
    """What a function of two tensors returns on a device, and the gradient of its weighted sum to both of them."""
    first, second = (tensor.to(device).requires_grad_() for tensor in inputs)
    value = function(first, second)
    assert value.device.type == device
    ramp = torch.linspace(0.5, 1.5, value.numel(), device=device).view_as(
        value
    )  # a plain sum would hide a transposition
    gradients = torch.autograd.grad((ramp * value).sum(), (first, second))
    return [tensor.detach().cpu() for tensor in (value, *gradients)]


def assert_equal_on_both(function, inputs):
    """Equal up to rounding: to 1e-4 of the largest number of each result."""
    on_cpu, on_cuda = (value_and_gradients(function, inputs, device) for device in ("cpu", "cuda"))
    for name, expected, found in zip(("value", "first gradient", "second gradient"), on_cpu, on_cuda, strict=True):
        assert expected.abs().max() > 0, name
        torch.testing.assert_close(
            found,
            expected,
            rtol=0,
            atol=1e-4 * float(expected.abs().max()),
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("window", [5, 9])
def test_local_ncc_and_its_gradients_are_those_of_the_cpu(window):
    fixed = noise(*SHAPE)
    assert_equal_on_both(LocalNCC(window), (fixed + 0.3 * noise(*SHAPE, seed=1), fixed))


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_a_warp_and_its_gradients_are_those_of_the_cpu(padding_mode):
    # displacements between 0.2 and 0.8 voxels, some out of the volume, and none near a kink of the interpolation
    ddf = 0.2 + 0.6 * noise(2, 3, *SHAPE[2:], seed=1)
    assert_equal_on_both(lambda image, field: warp(image, field, padding_mode=padding_mode), (noise(*SHAPE), ddf))


def train_an_epoch(device, schedule, amp):
    networks = {name: network.to(device) for name, network in make_networks().items()}
    before, types = {name: weights(network) for name, network in networks.items()}, set()
    for network in networks.values():
        network.register_forward_hook(lambda _, __, output: types.add(output.dtype))
    batches = [make_pair(seed=seed) for seed in (1, 2)]
    trainer = train(networks, make_updates(networks), batches, schedule, device=device, amp=amp)
    return networks, before, types, trainer.state.losses


@pytest.mark.parametrize("schedule", [ALTERNATING, FUSED], ids=["alternating", "fused"])
def test_a_bfloat16_epoch_on_cuda_teaches_every_network_what_float32_on_the_cpu_does(schedule):
    networks, before, types, losses = train_an_epoch("cuda", schedule, amp=True)
    assert types == {torch.bfloat16}
    for name, network in networks.items():
        after = weights(network)
        assert not same_bits(after, before[name]), name
        assert all(value.is_cuda and value.isfinite().all() for value in after.values()), name
    *_, expected = train_an_epoch("cpu", schedule, amp=False)
    assert losses.keys() == expected.keys() and len(losses) == 7
    for name, (value, weight) in losses.items():
        assert value.dtype == torch.float32 and value.is_cuda and weight == expected[name][1]
        # bfloat16 has 8 bits: a relative error of 0.4 percent for each rounding
        assert math.isclose(float(value), float(expected[name][0]), rel_tol=0.05, abs_tol=1e-3), name
