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

import torch
from monai.networks.layers import DropPath
from tiny_joint import make_networks, make_pair
from torch import nn

from scripts.joint.exchange import Exchange, keeping
from scripts.joint.groups import Group, GroupRunner
from scripts.joint.state import PairState
from scripts.methods.perception import GuidedState


def computed(networks, learning=(), **quantities):
    state = PairState(make_pair(), networks, num_classes=3, learning=learning)
    for name in quantities or ("ddf", "warped_image", "fixed_pred"):
        getattr(state, name)
    return PairState, {name: state.computed(name) for name in PairState.shared if state.computed(name) is not None}


def test_a_field_is_given_on_until_registration_moves():
    networks = make_networks()
    exchange = Exchange(networks)
    kind, quantities = computed(networks)
    exchange.take(kind, quantities, moved={"segmentation"})
    given = exchange.given({"segmentation"})
    assert given.keys() == {"ddf", "warped_image"}  # no prediction: segmentation has moved
    assert given["ddf"].data_ptr() == quantities["ddf"].data_ptr() and not given["ddf"].requires_grad
    exchange.take(*computed(networks), moved={"registration"})
    assert not exchange.given({"segmentation"})


def test_a_field_without_a_graph_teaches_nobody_and_is_computed_again():
    networks = make_networks()
    exchange = Exchange(networks)
    exchange.take(*computed(networks), moved=set())
    assert not exchange.given({"registration"})
    exchange.take(*computed(networks, learning={"registration"}), moved=set())
    assert all(value.requires_grad for value in exchange.given({"registration"}).values())
    assert not any(value.requires_grad for value in exchange.given({"segmentation"}).values())


def test_a_network_that_draws_shares_nothing():
    for module in (nn.Dropout3d(0.1), nn.BatchNorm3d(4), DropPath(0.1), nn.RReLU()):
        networks = make_networks()
        networks["registration"].at_half.append(module)
        exchange = Exchange(networks)
        exchange.take(*computed(networks), moved=set())
        assert not exchange.given({"segmentation"})
    for module in (nn.Dropout3d(0.0), DropPath(0.0)):
        networks["registration"].at_half[-1] = module
        exchange = Exchange(networks)
        exchange.take(*computed(networks), moved=set())
        assert exchange.given({"segmentation"})


def test_a_state_that_makes_its_field_otherwise_says_so_or_shares_nothing():
    class Other(PairState):
        ddf = PairState.ddf

    class Third(PairState):
        confidence = PairState.confidence

    assert not Other.shared and Third.shared == PairState.shared
    assert "confidence" not in Third.made_of and "confidence" in PairState.made_of
    assert keeping(PairState) == keeping(GuidedState) == {"registration"} and not keeping(Other)
    assert "perceived" in GuidedState.shared


def test_a_field_that_is_mixed_in_is_not_shared():
    class Mixed:
        ddf = PairState.ddf

    class Other(Mixed, PairState):
        pass

    class Said(PairState):
        ddf = PairState.ddf
        shared = PairState.shared

    class Below(Said):
        confidence = PairState.confidence

    assert not Other.shared and Said.shared == Below.shared == PairState.shared


def test_beside_what_is_carried_no_graph_is_kept_for_the_next_group():
    networks = make_networks()
    group = Group(0, {}, frozenset({"discriminator"}), next_taught=frozenset({"registration"}))
    for carry, learning in (((), {"discriminator", "registration"}), (["ddf"], {"discriminator"})):
        runner = GroupRunner(networks, {}, partial(PairState, num_classes=3), {}, carry)
        assert runner.state_of(group, make_pair(), {}).learning == learning


def test_one_pass_over_a_field_warps_all_that_is_wanted(monkeypatch):
    passes = []
    whole = torch.nn.functional.grid_sample
    monkeypatch.setattr(
        torch.nn.functional, "grid_sample", lambda *a, **k: passes.append(a[0].shape[1]) or whole(*a, **k)
    )
    wanted = {"sampled_pred", "sampled_label", "warped_image", "warped_label", "warped_moving_prob"}
    state = PairState(make_pair(), make_networks(), num_classes=3, wanted=wanted)
    alone = PairState(make_pair(), state.networks, num_classes=3, sampling=lambda *_: state.sampling_factor)
    _ = state.moving_prob
    for name in sorted(wanted):
        torch.testing.assert_close(getattr(state, name), getattr(alone, name), rtol=0, atol=1e-5)
    assert sorted(passes) == sorted([1 + 3, 1 + 3 + 3, 1, 3, 1, 3, 3])


def test_probabilities_that_are_warped_wait_for_a_batch_with_those_of_the_warped_image():
    networks = make_networks()
    batches = []
    networks["segmentation"].register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    state = PairState(make_pair(), networks, num_classes=3, wanted={"warped_moving_prob", "warped_pred"})
    for name in ("warped_moving_prob", "warped_pred"):
        getattr(state, name)
    assert batches == [2]
