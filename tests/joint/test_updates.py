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
from ignite.engine import Events
from tiny_joint import (
    NUM_CLASSES,
    STILL,
    gradients,
    linear_update,
    make_networks,
    make_pair,
    make_trainer,
    make_updates,
    train,
)

from scripts.joint.updates import Term, Update
from scripts.losses.smoothness import Smoothness


@pytest.mark.parametrize(
    ("start", "ramp", "expected"),
    [
        (0, 0, [6, 6, 6, 6, 6, 6]),
        (2, 0, [0, 0, 6, 6, 6, 6]),
        (0, 3, [2, 4, 6, 6, 6, 6]),
        (2, 3, [0, 0, 2, 4, 6, 6]),
    ],
)
def test_start_and_ramp_give_the_weight_of_each_iteration(start, ramp, expected):
    term = Term(Smoothness(), ["ddf"], weight=6.0, start=start, ramp=ramp)
    assert [term.weight_at(iteration) for iteration in range(1, 7)] == expected
    assert [term.is_live({}, iteration) for iteration in range(1, 7)] == [weight > 0 for weight in expected]


def test_the_weight_in_force_is_the_one_that_is_applied_and_logged():
    networks = make_networks()
    updates = make_updates(networks, ["registration"], STILL, smoothness={"start": 1, "ramp": 2})
    updates["registration"].terms = {"smoothness": updates["registration"].terms["smoothness"]}
    trainer = make_trainer(networks, updates, [make_pair()] * 4)
    norms, logged = [], []

    def collect(engine):
        flow = networks["registration"].flow.weight.grad
        norms.append(0.0 if flow is None else flow.norm().item())
        logged.append(engine.state.losses.get("registration/smoothness", (None, 0.0))[1])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, collect)
    trainer.run()
    assert logged == [0.0, 0.5, 1.0, 1.0]
    assert norms[0] == 0 and norms[1] == pytest.approx(norms[2] / 2) and norms[2] == pytest.approx(norms[3])


def test_the_loss_that_is_put_out_is_the_weighted_sum_of_all_terms():
    networks = make_networks()
    trainer = make_trainer(networks, make_updates(networks), [make_pair()], output={"pred": "sampled_pred"})
    trainer.run()
    weighted = sum(weight * value.item() for value, weight in trainer.state.losses.values())
    assert len(trainer.state.losses) == 7
    assert trainer.state.output[0]["loss"] == pytest.approx(weighted)


def test_outputs_come_from_whichever_group_computed_them_and_are_left_out_where_none_did():
    networks = make_networks()
    output = {"image": "warped_image", "pred": "sampled_pred", "label": "fixed_label"}
    schedule = [["segmentation"], ["registration"]]
    updates = make_updates(networks, ["segmentation", "registration"])
    trainer = train(networks, updates, [make_pair(batch_size=2)], schedule, output=output)
    assert len(trainer.state.output) == 2
    item = trainer.state.output[0]
    assert item.keys() == {"image", "pred", "loss"}
    assert item["image"].shape == (1, 16, 16, 16) and item["pred"].shape == (NUM_CLASSES, 16, 16, 16)


@pytest.mark.parametrize(("clip_norm", "moved"), [(None, [-3.0, -4.0]), (10.0, [-3.0, -4.0]), (2.5, [-1.5, -2.0])])
def test_a_step_is_no_longer_than_clip_norm_allows(clip_norm, moved):
    update = linear_update(clip_norm)
    update.network.weight.grad = torch.tensor([[3.0, 4.0]])
    update.step()
    torch.testing.assert_close(update.network.weight.detach(), torch.tensor([moved]))


def test_the_scheduler_advances_with_each_iteration_also_when_a_pair_teaches_nothing():
    networks = make_networks()
    updates = make_updates(networks, ["segmentation"], partial(torch.optim.SGD, lr=1e-3))
    update = updates["segmentation"]
    update.scheduler = torch.optim.lr_scheduler.StepLR(update.optimizer, step_size=2, gamma=0.1)
    trainer = make_trainer(networks, updates, [make_pair(), make_pair(labels=()), make_pair(), make_pair()])
    rates = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: rates.append(update.optimizer.param_groups[0]["lr"])
    )
    trainer.run()
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])  # the second pair has no label


def test_an_update_that_the_schedule_names_twice_takes_two_steps_and_its_rate_falls_once():
    def trained(schedule):
        networks = make_networks()
        updates = make_updates(networks, ["segmentation"], partial(torch.optim.SGD, lr=1e-3))
        update = updates["segmentation"]
        update.scheduler = torch.optim.lr_scheduler.StepLR(update.optimizer, step_size=1, gamma=0.1)
        counted = []
        update.optimizer.register_step_post_hook(lambda *_: counted.append(update.optimizer.param_groups[0]["lr"]))
        make_trainer(networks, updates, [make_pair(), make_pair()], schedule=schedule).run()
        return counted

    assert trained([["segmentation"]]) == pytest.approx([1e-3, 1e-4])
    assert trained([["segmentation"], ["segmentation"]]) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_only_the_parameters_that_the_optimiser_holds_are_touched():
    networks = make_networks()
    R = networks["registration"]
    update = Update(R, torch.optim.SGD(R.flow.parameters(), lr=0.1), {"s": Term(Smoothness(), ["ddf"])})
    train(networks, {"registration": update}, [make_pair()] * 2)
    assert {name for name, grad in gradients(R).items() if grad is not None} == {"flow.weight", "flow.bias"}


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
@pytest.mark.parametrize("scheduled", [True, False])
def test_a_learning_rate_that_was_changed_before_resuming_holds_from_there_on(rate, scheduled, caplog):
    def made(lr):
        update = linear_update()
        update.optimizer = torch.optim.Adam(update.network.parameters(), lr=lr)
        if scheduled:
            update.scheduler = torch.optim.lr_scheduler.MultiStepLR(update.optimizer, [2, 4], gamma=0.1)
        return update

    first, second = made(1e-3), made(rate)
    for update in (first, first, first):  # past the first milestone
        update.optimizer.step()
        update.advance()
    second.load_state_dict(first.state_dict())
    rates = []
    for _ in range(2):
        rates.append(second.optimizer.param_groups[0]["lr"])
        second.optimizer.step()
        second.advance()
    assert rates == pytest.approx([rate / 10, rate / 100] if scheduled else [rate, rate])
    assert ("learning rate was changed" in caplog.text) is (rate != 1e-3)
