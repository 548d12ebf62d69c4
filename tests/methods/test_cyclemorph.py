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

from functools import partial

import pytest
import torch
from tiny_joint import make_networks, make_pair
from tiny_networks import SameShift
from torch import nn

from scripts.fields.warping import warp
from scripts.joint.trainer import JointTrainer
from scripts.joint.updates import Term, Update
from scripts.methods.cyclemorph import CycleState


def state(forward, backward, **options):
    networks = {"registration": forward, "backward_registration": backward}
    return CycleState(make_pair(), networks, num_classes=3, **options)


def test_networks_that_do_nothing_lead_back_to_the_bit():
    pair = state(SameShift(), SameShift())
    assert torch.equal(pair.returned_moving_image, pair.moving_image)
    assert torch.equal(pair.returned_fixed_image, pair.fixed_image)
    assert torch.equal(pair.unmoved_fixed_image, pair.fixed_image)
    assert torch.equal(pair.unmoved_moving_image, pair.moving_image)
    assert nn.L1Loss()(pair.returned_moving_image, pair.moving_image) == 0


def test_opposite_shifts_undo_each_other_away_from_the_border():
    pair = state(SameShift((2, 0, 0)), SameShift((-2, 0, 0)))
    inside = (..., slice(2, -2), slice(None), slice(None))
    assert torch.allclose(pair.returned_moving_image[inside], pair.moving_image[inside], atol=1e-6)
    assert torch.allclose(pair.returned_fixed_image[inside], pair.fixed_image[inside], atol=1e-6)
    assert not torch.allclose(pair.backward_image[inside], pair.fixed_image[inside], atol=1e-2)


def test_shifts_that_do_not_undo_each_other_do_not_lead_back():
    pair = state(SameShift((2, 0, 0)), SameShift((2, 0, 0)))
    expected = warp(pair.moving_image, SameShift((4, 0, 0))(pair.moving_image, pair.moving_image))
    torch.testing.assert_close(pair.returned_moving_image[:, :, :10], expected[:, :, :10])
    assert nn.L1Loss()(pair.returned_moving_image, pair.moving_image) > 0.01


def test_each_network_registers_its_own_image_onto_itself():
    pair = state(SameShift((1, 0, 0)), SameShift((0, 1, 0)))
    torch.testing.assert_close(pair.unmoved_fixed_image[:, :, :-1], pair.fixed_image[:, :, 1:])
    torch.testing.assert_close(pair.unmoved_moving_image[:, :, :, :-1], pair.moving_image[:, :, :, 1:])


@pytest.mark.parametrize("quantity", ["returned_moving_image", "returned_fixed_image"])
def test_a_cycle_teaches_both_networks(quantity):
    networks = {"registration": make_networks(0), "backward_registration": make_networks(1)}
    networks = {name: made["registration"] for name, made in networks.items()}
    pair = state(*networks.values(), learning=set(networks))
    getattr(pair, quantity).square().mean().backward()
    for network in networks.values():
        assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_two_updates_of_one_group_are_one_optimiser_over_both_networks():
    def losses(pair):
        cycle = (pair.returned_moving_image - pair.moving_image).abs().mean()
        return (pair.warped_image - pair.fixed_image).square().mean() + cycle

    def both():
        return {name: make_networks(seed)["registration"] for seed, name in enumerate(names)}

    names = ("registration", "backward_registration")
    batch = make_pair()
    together = both()
    optimizer = torch.optim.SGD([p for network in together.values() for p in network.parameters()], lr=0.01)
    losses(CycleState(batch, together, num_classes=3, learning=names)).backward()
    optimizer.step()

    apart = both()
    cycle = Term(nn.L1Loss(), ("returned_moving_image", "moving_image"))
    terms = {"registration": {"similarity": Term(nn.MSELoss(), ("warped_image", "fixed_image")), "cycle": cycle}}
    terms["backward_registration"] = {"cycle": cycle}
    updates = {
        name: Update(network, torch.optim.SGD(network.parameters(), lr=0.01), terms[name])
        for name, network in apart.items()
    }
    JointTrainer("cpu", 1, [batch], apart, updates, [names], partial(CycleState, num_classes=3)).run()
    for name in names:
        for mine, other in zip(apart[name].parameters(), together[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other)
