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
from monai.transforms import RandAffined, RandFlipd
from tiny_joint import (
    ALTERNATING,
    FUSED,
    NUM_CLASSES,
    STILL,
    TERMS,
    FixedScale,
    count_forwards,
    gradients,
    make_networks,
    make_pair,
    make_trainer,
    make_updates,
    same_bits,
    train,
    weights,
)
from torch import nn
from torch.nn import functional as F

from scripts.data.samplers import PairSampler
from scripts.fields.warping import warp
from scripts.joint.sampling import UniformScale
from scripts.joint.updates import Term, Update
from scripts.losses.adversarial import AdversarialLoss
from scripts.losses.local_ncc import LocalNCC
from scripts.losses.smoothness import Smoothness

SCHEDULES = pytest.mark.parametrize("schedule", [ALTERNATING, FUSED], ids=["alternating", "fused"])


def in_float64(networks, batch):
    for network in networks.values():
        network.double()
    return {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def deeprs_loss(owner, networks, batch, factor, blend=0.2):
    """Eq. 3, 4 or 5, written out without the state and the engine: every network is called once for each input."""
    R, S, D = (networks[name] for name in ("registration", "segmentation", "discriminator"))
    moving, fixed = batch["moving_image"], batch["fixed_image"]
    label = F.one_hot(batch["moving_label"][:, 0].long(), NUM_CLASSES).movedim(-1, 1).to(moving)
    ddf = R(moving, fixed)
    warped = warp(moving, ddf)
    if owner == "discriminator":
        reference = D(blend * moving + (1 - blend) * fixed, fixed)
        return -F.logsigmoid(reference).mean() - F.logsigmoid(-D(warped, fixed)).mean()
    if owner == "registration":
        region = (S(warped).softmax(1) - S(fixed).softmax(1).detach()).square().mean()
        adversarial = -F.logsigmoid(D(warped, fixed)).mean()
        return LocalNCC(window=5)(warped, fixed) + Smoothness()(ddf) + 0.1 * adversarial + 10 * region
    augmented = -(warp(label, factor * ddf) * S(warp(moving, factor * ddf)).log_softmax(1)).sum(1).mean()
    agreement = (warp(label, ddf) * S(fixed).log_softmax(1)).sum(1)
    return augmented - 0.3 * (D(warped, fixed).sigmoid()[:, 0] * agreement).mean()


# ---- who learns from what


@SCHEDULES
def test_gradients_equal_those_of_separate_graphs_with_the_other_networks_frozen(schedule):
    networks = make_networks()
    batch = in_float64(networks, make_pair(batch_size=2))
    train(networks, make_updates(networks, optimizer=STILL), [batch], schedule, state={"sampling": FixedScale(0.375)})
    engine = {name: gradients(network) for name, network in networks.items()}

    for owner in TERMS:
        for name, network in networks.items():
            network.requires_grad_(name == owner).zero_grad()
        deeprs_loss(owner, networks, batch, factor=0.375).backward()
        for name, expected in gradients(networks[owner]).items():
            assert expected.abs().max() > 0, f"{owner} {name} learns nothing, which would prove nothing"
            torch.testing.assert_close(engine[owner][name], expected, rtol=0, atol=1e-10, msg=f"{owner} {name}")


@pytest.mark.parametrize("owner", TERMS)
def test_an_update_moves_its_own_network_and_no_gradient_reaches_the_others(owner):
    networks = make_networks()
    before = {name: weights(network) for name, network in networks.items()}
    train(networks, make_updates(networks, [owner]), [make_pair()])
    for name, network in networks.items():
        assert same_bits(before[name], weights(network)) == (name != owner)
        assert all((grad is None) == (name != owner) for grad in gradients(network).values())


@pytest.mark.parametrize("owner", TERMS)
def test_when_all_share_one_graph_a_network_learns_as_if_it_were_alone(owner):
    both, alone = make_networks(), make_networks()
    options = {"state": {"sampling": FixedScale(0.375)}}
    train(both, make_updates(both), [make_pair()], FUSED, **options)
    train(alone, make_updates(alone, [owner]), [make_pair()], **options)
    for name, value in weights(both[owner]).items():
        torch.testing.assert_close(value, weights(alone[owner])[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("schedule", "sees_the_step"), [(ALTERNATING, True), (FUSED, False)])
def test_registration_meets_the_discriminator_after_its_step_only_when_they_alternate(schedule, sees_the_step):
    networks, batch = make_networks(), make_pair()
    D, R = networks["discriminator"], networks["registration"]

    def adversarial():
        warped = warp(batch["moving_image"], ddf)
        return AdversarialLoss()(D(warped, batch["fixed_image"])).item()

    with torch.no_grad():
        ddf, before = R(batch["moving_image"], batch["fixed_image"]), None
        before = adversarial()
    trainer = train(networks, make_updates(networks, optimizer=partial(torch.optim.SGD, lr=0.5)), [batch], schedule)
    with torch.no_grad():
        after = adversarial()
    assert abs(after - before) > 1e-3
    seen, _ = trainer.state.losses["registration/adversarial"]
    assert seen.item() == pytest.approx(after if sees_the_step else before, abs=1e-6)


@SCHEDULES
def test_an_unlabelled_pair_leaves_segmentation_untouched_to_the_bit(schedule):
    networks = make_networks()
    updates = make_updates(networks, optimizer=partial(torch.optim.Adam, lr=0.01))
    train(networks, updates, [make_pair()], schedule)  # Adam now has momentum, with which an empty step would move S
    before = {name: weights(network) for name, network in networks.items()}
    moments = updates["segmentation"].optimizer.state_dict()["state"][0]["exp_avg"].clone()

    trainer = train(networks, updates, [make_pair(labels=())], schedule)
    assert same_bits(before["segmentation"], weights(networks["segmentation"]))
    assert torch.equal(moments, updates["segmentation"].optimizer.state_dict()["state"][0]["exp_avg"])
    assert not same_bits(before["registration"], weights(networks["registration"]))
    assert not same_bits(before["discriminator"], weights(networks["discriminator"]))
    assert not [name for name in trainer.state.losses if name.startswith("segmentation")]


# ---- what is computed, and how often


@pytest.mark.parametrize(
    ("schedule", "calls"),
    [
        # the field that the discriminator learns from is, with its graph, the one that registration learns by
        (ALTERNATING, {"registration": 2, "segmentation": 2, "discriminator": 3}),
        (FUSED, {"registration": 1, "segmentation": 1, "discriminator": 1}),
    ],
    ids=["alternating", "fused"],
)
def test_a_group_calls_each_network_once_however_many_terms_read_it(schedule, calls):
    networks = make_networks()
    counted = count_forwards(networks)
    train(networks, make_updates(networks), [make_pair(seed=seed) for seed in range(2)], schedule)
    assert counted == {name: 2 * number for name, number in calls.items()}


def test_what_no_term_reads_is_not_computed():
    networks, sampling = make_networks(), FixedScale(0.375)
    counted = count_forwards(networks)
    updates = make_updates(networks, ["registration"])
    for key in ("adversarial", "region"):
        del updates["registration"].terms[key]
    train(networks, updates, [make_pair()], state={"sampling": sampling})
    assert counted == {"registration": 1}
    assert sampling.draws == 0


def test_a_term_that_has_not_started_costs_no_forward():
    networks = make_networks()
    counted = count_forwards(networks)
    updates = make_updates(networks, ["registration"], region={"start": 2}, adversarial={"start": 1})
    trainer = make_trainer(networks, updates, [make_pair(seed=seed) for seed in range(3)])
    seen = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.append((counted["segmentation"], counted["discriminator"], len(engine.state.losses))),
    )
    trainer.run()
    assert seen == [(0, 0, 2), (0, 1, 3), (1, 2, 4)]


def test_carry_keeps_a_random_draw_and_its_quantities_across_groups():
    networks = make_networks()
    drawn = {}
    for carry in ((), ("sampling_factor",)):
        drawn[carry] = []
        updates = {
            name: Update(
                networks[name],
                torch.optim.SGD(networks[name].parameters(), lr=0.0),
                {"draw": Term(partial(_remember, drawn[carry]), (quantity, "sampling_factor"))},
            )
            for name, quantity in (("segmentation", "sampled_pred"), ("discriminator", "sampled_alignment_logits"))
        }
        torch.manual_seed(0)
        train(networks, updates, [make_pair(batch_size=2)], carry=carry, state={"sampling": UniformScale()})
    first, second = drawn[("sampling_factor",)]
    assert torch.equal(first, second)
    first, second = drawn[()]
    assert not torch.equal(first, second)


def _remember(seen, pred, factor):
    seen.append(factor.flatten())
    return pred.square().mean()


def test_a_carried_field_is_not_computed_again():
    networks = make_networks()
    counted = count_forwards(networks)
    updates = make_updates(networks, ["discriminator", "segmentation"])
    train(networks, updates, [make_pair()], carry=["ddf"])
    assert counted["registration"] == 1


@pytest.mark.parametrize(
    "schedule",
    [ALTERNATING, (("discriminator",), ("registration", "segmentation"))],
    ids=["alone", "beside segmentation, through which its loss does have a gradient"],
)
def test_carrying_the_field_into_registration_is_an_error_that_says_so(schedule):
    networks = make_networks()
    trainer = make_trainer(networks, make_updates(networks), [make_pair()], schedule, carry=["ddf"])
    with pytest.raises(ValueError, match=r"updates::registration: no term depends on .*'ddf'.*`carry`"):
        trainer.run()


def test_wiring_is_checked_when_the_trainer_is_built():
    networks = make_networks()
    updates = make_updates(networks, ["registration"])
    with pytest.raises(ValueError, match="Did you mean 'warped_image'"):
        make_trainer(networks, updates, [], output={"image": "warpd_image"})
    with pytest.raises(ValueError, match="Did you mean 'ddf'"):
        make_trainer(networks, updates, [], carry=["dff"])
    with pytest.raises(ValueError, match="never scheduled"):
        make_trainer(networks, make_updates(networks), [], schedule=[["registration"]])


@pytest.mark.parametrize(("amp", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_amp_runs_the_networks_in_bfloat16_and_gradients_stay_float32(amp, dtype):
    networks, seen = make_networks(), set()
    for network in networks.values():
        network.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    trainer = train(networks, make_updates(networks), [make_pair()], FUSED, amp=amp)
    assert seen == {dtype}
    for network in networks.values():
        assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in gradients(network).values())
    assert all(value.dtype == torch.float32 for value, _ in trainer.state.losses.values())


# ---- the pair before it is used


def test_augmentation_moves_an_image_and_its_label_alike_and_follows_from_seed_and_epoch():
    networks = make_networks()
    keys = ("moving_image", "moving_label", "fixed_image", "fixed_label")
    augmentation = RandAffined(keys, prob=1.0, rotate_range=0.5, translate_range=2, mode="nearest")
    batch = make_pair(labels=("moving",), batch_size=2)
    batch["moving_label"] = (batch["moving_image"] > 0.5).to(torch.uint8)
    batch["fixed_image"] = batch["moving_image"].clone()
    augmentation.allow_missing_keys = True
    seen = []

    def keep(loss, image, label, fixed):
        seen.append((image, label, fixed))
        return loss

    term = Term(
        lambda pred, *rest: keep(pred.mean(), *rest), ["fixed_pred", "moving_image", "moving_label", "fixed_image"]
    )
    S = networks["segmentation"]
    updates = {"segmentation": Update(S, torch.optim.SGD(S.parameters(), lr=0.0), {"keep": term})}
    for seed in (0, 0, 1):
        train(networks, updates, [batch], max_epochs=2, augmentation=augmentation, seed=seed)
    for image, label, fixed in seen:
        assert torch.equal((image > 0.5).float(), label[:, 1:2])  # classes 0 and 1, one-hot
        assert torch.equal(image, fixed)
        assert type(image) is torch.Tensor
    images = [image for image, _, _ in seen]
    assert torch.equal(images[0], images[2]) and torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[4])
    assert not torch.equal(images[0][0] - batch["moving_image"][0], images[0][1] - batch["moving_image"][1])


class Numbers(torch.utils.data.Dataset):
    """Four subjects, two of them labelled, that are nothing but their numbers in the corner of an image."""

    labeled_indices, unlabeled_indices = (0, 1), (2, 3)

    def __len__(self):
        return 4

    def __getitem__(self, pair):
        batch = {key: value[0] for key, value in make_pair().items()}
        for role, number in zip(("moving", "fixed"), pair, strict=True):
            batch[f"{role}_image"][0, 0, 0, 0] = number
        return batch


def test_the_pairs_of_an_epoch_follow_from_its_number():
    sampler = PairSampler(Numbers(), length=4)
    expected = {}
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        expected[epoch] = [tuple(pair) for (pair,) in sampler]
    assert expected[1] != expected[2]

    networks, seen = make_networks(), {1: [], 2: []}
    loader = torch.utils.data.DataLoader(Numbers(), batch_sampler=sampler)
    trainer = make_trainer(networks, make_updates(networks, ["discriminator"]), loader, max_epochs=2)
    networks["registration"].register_forward_pre_hook(
        lambda _, images: seen[trainer.state.epoch].append(tuple(int(image[0, 0, 0, 0, 0]) for image in images))
    )
    trainer.run()
    assert seen == expected


def test_networks_are_in_training_mode_at_every_iteration_even_after_a_validation_between_two():
    networks = make_networks()
    modes = []
    networks["segmentation"].register_forward_hook(lambda network, *_: modes.append(network.training))
    trainer = make_trainer(networks, make_updates(networks, ["segmentation"]), [make_pair()] * 2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: networks["segmentation"].eval())
    trainer.run()
    assert modes == [True, True]


def test_handlers_find_the_field_that_the_last_group_left_and_none_where_no_term_reads_one():
    networks, batch = make_networks(), make_pair()
    trainer = train(networks, make_updates(networks), [batch], schedule=ALTERNATING)
    assert not trainer.state.ddf.requires_grad
    after_its_step = networks["registration"](batch["moving_image"], batch["fixed_image"])
    assert torch.equal(trainer.state.ddf, after_its_step)  # in the group of segmentation

    term = Term(nn.MSELoss(), ["moving_pred", "moving_label"], requires=["moving_label"])
    optimizer = torch.optim.SGD(networks["segmentation"].parameters(), lr=0.01)
    updates = {"segmentation": Update(networks["segmentation"], optimizer, {"supervised": term})}
    assert train(networks, updates, [batch]).state.ddf is None


def test_the_last_pair_is_seen_without_augmentation_by_the_networks_in_evaluation_mode():
    networks, batches = make_networks(dropout=0.5, noise_std=1.0), [make_pair(seed=0), make_pair(seed=1)]
    trainer = train(networks, make_updates(networks), batches, augmentation=RandFlipd(["moving_image"], prob=1.0))
    pair = trainer.last_pair()
    assert torch.equal(pair.moving_image, batches[1]["moving_image"])
    with torch.no_grad():
        close = partial(
            torch.testing.assert_close, atol=1e-5, rtol=0
        )  # a batch of two rounds otherwise than one of one
        close(pair.ddf, networks["registration"](pair.moving_image, pair.fixed_image))
        close(pair.fixed_pred, networks["segmentation"](pair.fixed_image))
        close(pair.alignment_logits, networks["discriminator"](pair.warped_image, pair.fixed_image))
    assert not any(network.training for network in networks.values())
