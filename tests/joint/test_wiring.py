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

from functools import cached_property, partial

import pytest
import torch
from tiny_joint import make_networks, make_updates

from scripts.joint.state import PairState
from scripts.joint.wiring import check_wiring

NETWORKS = make_networks()
SCHEDULE = [["discriminator"], ["registration"], ["segmentation"]]


@pytest.fixture
def updates():
    return make_updates(NETWORKS)


def refusal(updates, schedule=SCHEDULE, state=PairState, others=()):
    with pytest.raises(ValueError) as caught:
        check_wiring(updates, schedule, state, others)
    return str(caught.value)


@pytest.mark.parametrize("state", [PairState, partial(PairState, num_classes=3)], ids=["class", "partial"])
def test_the_wiring_of_deeprs_is_accepted(updates, state):
    check_wiring(updates, SCHEDULE, state, ["sampling_factor", "sampled_pred"])
    check_wiring(updates, [[*updates]], state)
    check_wiring(updates, [*SCHEDULE, ["discriminator"]], state)  # an update may come more than once


def test_an_unknown_quantity_is_named_with_its_place_the_nearest_and_all_there_are(updates):
    term = updates["registration"].terms["similarity"]
    term.quantities = ("warpd_image", "fixed_image")
    message = refusal(updates)
    assert "unknown quantity 'warpd_image' in updates::registration::terms::similarity" in message
    assert "Did you mean 'warped_image'?" in message
    assert all(name in message for name in PairState.quantities())


def test_a_quantity_like_no_other_gets_the_list_and_no_guess(updates):
    updates["registration"].terms["similarity"].quantities = ("xyz",)
    message = refusal(updates)
    assert "'xyz'" in message and "Did you mean" not in message and "alignment_logits" in message


def test_a_misspelt_requirement_is_refused_since_its_term_would_never_be_live(updates):
    updates["segmentation"].terms["weak"].requires = ("moving_lable",)
    message = refusal(updates)
    assert "'moving_lable' in updates::segmentation::terms::weak" in message
    assert "Did you mean 'moving_label'?" in message


def test_unknown_quantities_in_carry_and_output_are_refused(updates):
    assert "'sampling_factr' in carry or output. Did you mean 'sampling_factor'?" in refusal(
        updates, others=["sampling_factr"]
    )


def test_a_state_of_ones_own_offers_its_own_quantities(updates):
    class Inverse(PairState):
        @cached_property
        def inverse_ddf(self) -> torch.Tensor:
            return -self.ddf

    updates["registration"].terms["smoothness"].quantities = ("inverse_ddf",)
    check_wiring(updates, SCHEDULE, Inverse)
    assert "unknown quantity 'inverse_ddf'" in refusal(updates)


def test_an_unknown_update_is_named_with_the_nearest(updates):
    message = refusal(updates, [["discriminator"], ["registraton"], ["segmentation"]])
    assert "unknown update 'registraton' in `schedule`. Did you mean 'registration'?" in message
    assert "There are: discriminator, registration, segmentation." in message


@pytest.mark.parametrize("schedule", [[], [[]], [[], []]])
def test_an_empty_schedule_is_refused_with_what_it_takes(updates, schedule):
    message = refusal(updates, schedule)
    assert "`schedule` is empty" in message and "'registration'" in message


def test_what_a_misspelt_option_leaves_beside_updates_and_terms_is_refused_with_the_nearest(updates):
    message = refusal(updates | {"registraton": {"clip_norm": 1.0}})
    assert "updates::registraton is {'clip_norm': 1.0}" in message and "Did you mean 'registration'?" in message
    updates["registration"].terms["smothness"] = {"weight": 2.0}
    message = refusal(updates)
    assert "updates::registration::terms::smothness is {'weight': 2.0}" in message
    assert "Did you mean 'smoothness'?" in message


def test_an_update_that_is_never_scheduled_is_refused(updates):
    assert "['discriminator', 'segmentation'] are never scheduled" in refusal(updates, [["registration"]])


def test_an_update_without_terms_is_refused(updates):
    updates["discriminator"].terms.clear()
    assert "updates::discriminator has no terms" in refusal(updates)


def test_an_optimiser_of_another_network_is_refused(updates):
    registration = NETWORKS["registration"]
    updates["segmentation"] = make_updates({"segmentation": registration}, ["segmentation"])["segmentation"]
    updates["segmentation"].network = NETWORKS["segmentation"]
    assert "updates::segmentation: its optimizer moves parameters that are not of its network" in refusal(updates)


def test_a_scheduler_of_another_optimiser_is_refused(updates):
    other = updates["registration"].optimizer
    updates["segmentation"].scheduler = torch.optim.lr_scheduler.StepLR(other, 1)
    message = refusal(updates)
    assert "updates::segmentation: its scheduler is of another optimizer" in message
    assert "@updates::segmentation::optimizer" in message
    updates["segmentation"].scheduler = torch.optim.lr_scheduler.StepLR(updates["segmentation"].optimizer, 1)
    check_wiring(updates, SCHEDULE, PairState)
