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
"""A pair that is registered by optimisation, with and without a network that segments."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny_joint import NUM_CLASSES, SIDE, make_networks, make_pair

from scripts.fields.warping import warp
from scripts.joint.state import PairState, required_networks
from scripts.losses.correlation import LocalCorrelation
from scripts.matching.match import Match, Matching
from scripts.matching.structures import overlap_loss
from scripts.methods.matched import MatchedState
from scripts.networks.registration import VoxelMorph2

MATCHING = Matching(levels=[[4, 2, 2]], overlap=1.0)


def segmenting():
    return {"segmentation": make_networks()["segmentation"]}


def guessing():
    return {**segmenting(), "registration": VoxelMorph2([8, 8], [8, 8, 8], True, 0.1, NUM_CLASSES)}


def make(networks, batch=None, **options):
    batch = make_pair() if batch is None else batch
    return MatchedState(batch, networks, num_classes=NUM_CLASSES, matching=MATCHING, **options)


@pytest.mark.parametrize(
    ("state", "tasks", "expected"),
    [
        (partial(MatchedState, matching=MATCHING), ["registration"], ["segmentation"]),
        (partial(MatchedState, matching=MATCHING, guided=False), ["registration"], []),
        (partial(MatchedState, matching=MATCHING, guided=False), ["segmentation", "registration"], ["segmentation"]),
        (partial(PairState, num_classes=3), "registration", ["registration"]),
        (PairState, ["registration", "segmentation"], ["segmentation", "registration"]),
        (lambda *_: None, ["segmentation"], ["segmentation"]),
    ],
)
def test_a_state_says_which_networks_a_task_needs(state, tasks, expected):
    assert required_networks(state, tasks) == expected


def test_the_field_is_that_of_the_matching_by_the_classes_that_segmentation_sees():
    networks = segmenting()
    state = make(networks)
    with torch.no_grad():
        moving, fixed = (
            networks["segmentation"](state.batch[f"{role}_image"]).softmax(1) for role in ("moving", "fixed")
        )
    expected = MATCHING(state.moving_image, state.fixed_image, moving, fixed)
    torch.testing.assert_close(state.ddf, expected, atol=1e-5, rtol=0)
    assert state.ddf.shape == (1, 3, SIDE, SIDE, SIDE) and not state.ddf.requires_grad


def test_without_a_network_the_images_decide_and_there_is_no_confidence():
    state = make({}, guided=False)
    assert torch.equal(state.ddf, MATCHING(state.moving_image, state.fixed_image))
    assert not state.has_confidence and make(segmenting()).has_confidence


def test_labels_of_the_pair_do_not_reach_the_field():
    networks = segmenting()
    with_labels = make(networks, make_pair(("moving", "fixed")))
    without = make(networks, {key: v for key, v in with_labels.batch.items() if "label" not in key})
    assert torch.equal(with_labels.ddf, without.ddf)


def test_what_is_warped_can_be_segmented_in_the_same_batch():
    networks = segmenting()
    wanted = ("warped_pred", "fixed_prob", "moving_pred")
    together, alone = make(networks, wanted=wanted), make(networks)
    for name in wanted:
        torch.testing.assert_close(getattr(together, name), getattr(alone, name), atol=1e-4, rtol=0)


def test_a_network_guesses_the_velocity_behind_the_affine_of_the_classes():
    networks = guessing()
    state = make(networks)
    begun = MATCHING.begin(state.moving_image, state.fixed_image, state.moving_prob, state.fixed_prob)
    moving = [warp(state.moving_image, begun.ddf, padding_mode="border"), warp(state.moving_prob[:, 1:], begun.ddf)]
    velocity = networks["registration"].velocity(
        torch.cat(moving, 1), torch.cat([state.fixed_image, state.fixed_prob[:, 1:]], 1)
    )
    assert float(velocity.abs().mean()) > 0.01
    expected = Match(begun.affine, (SIDE,) * 3, velocity, 2).ddf
    torch.testing.assert_close(state.ddf, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(state.velocity, velocity, atol=1e-5, rtol=0)


def test_the_guess_teaches_registration_and_nothing_else():
    networks = guessing()
    state = make(networks, learning=["registration"])
    (state.warped_moving_prob - state.fixed_prob).square().sum().backward()
    taught = {name: any(p.grad is not None for p in n.parameters()) for name, n in networks.items()}
    assert taught == {"segmentation": False, "registration": True}
    assert float(networks["registration"].flow.weight.grad.abs().max()) > 0


def test_a_refined_state_lowers_what_matching_optimises():
    networks = guessing()
    state = make(networks)
    refined = make(networks, carried=state.refined(10))

    def loss(one):
        classes = overlap_loss(warp(state.moving_prob[:, 1:], one.ddf), state.fixed_prob[:, 1:])
        image = LocalCorrelation(state.fixed_image, torch.ones_like(state.fixed_image))(
            warp(state.moving_image, one.ddf)
        )
        return float(classes + image)

    assert loss(refined) < loss(state) - 0.01
    assert torch.equal(make(networks, carried=state.refined(0)).ddf, state.ddf)
