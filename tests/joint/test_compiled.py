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
from functools import partial

import pytest
import torch
from tiny_joint import ALTERNATING, NUM_CLASSES, make_networks, make_pair, make_updates, train, weights

from scripts.joint import compiled
from scripts.joint.compiled import Compiled
from scripts.networks.autoencoders import ReconstructingUNet


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_networks_learn_what_networks_learn(backend, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    found = []
    for compile in (False, True):
        networks = make_networks()
        trainer = train(
            networks, make_updates(networks), [make_pair(seed=i) for i in range(2)], ALTERNATING, compile=compile
        )
        if compile:
            called = trainer.run_group.networks.values()
            assert all(network.compiled is not None and network.tried for network in called)
        found.append({name: weights(network) for name, network in networks.items()})
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_where_compiling_fails_training_goes_on_as_it_is_and_says_so_once(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("no compiler\nand many lines")

    monkeypatch.setattr(torch, "compile", lambda network, **_: fail)
    networks, plain = make_networks(), make_networks()
    train(networks, make_updates(networks), [make_pair(seed=i) for i in range(2)], ALTERNATING, compile=True)
    train(plain, make_updates(plain), [make_pair(seed=i) for i in range(2)], ALTERNATING)
    for name in networks:
        torch.testing.assert_close(weights(networks[name]), weights(plain[name]), rtol=0, atol=0)
    told = sorted(record.message for record in caplog.records if record.levelname == "WARNING")
    assert told == [
        f"compile: {name} is not compiled, and goes on as it is: RuntimeError: no compiler" for name in sorted(networks)
    ]


def test_trying_leaves_no_gradient_and_no_draw(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    network = Compiled(make_networks(noise_std=0.5)["discriminator"], "discriminator")
    images = [torch.rand(1, 1, 16, 16, 16) for _ in range(2)]
    torch.manual_seed(0)
    expected = network.network(*images)
    torch.manual_seed(0)
    assert torch.equal(network(*images), expected)
    assert all(parameter.grad is None for parameter in network.network.parameters())
    assert network.multiple == network.network.multiple and compiled.logger.name.endswith("compiled")


def test_a_network_with_a_decoder_that_this_pass_leaves_out_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    network = Compiled(ReconstructingUNet(1, NUM_CLASSES, (2, 4)), "segmentation")
    network(torch.rand(1, 1, 8, 8, 8))
    assert network.compiled is not None
    assert copy.copy(network).multiple == 2
