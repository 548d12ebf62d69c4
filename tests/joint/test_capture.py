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
"""What a GPU is needed for is one class, ``CudaGraph``; here another records, which runs a function again."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
from tiny_joint import ALTERNATING, NUM_CLASSES, make_networks, make_pair, make_trainer, make_updates, weights
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from scripts.fields import warping
from scripts.joint.capture import BEFORE, CapturedRunner
from scripts.joint.groups import Group, GroupRunner, weights_of
from scripts.joint.sampling import UniformScale
from scripts.joint.state import PairState
from scripts.joint.updates import Term
from scripts.methods.brbs import TripletState
from scripts.methods.perception import GuidedState
from scripts.networks.registration import VoxelMorph2

SCHEDULE = (*ALTERNATING, ("segmentation",))


class Again:
    """Runs a function again, and writes what comes out where it was the first time, as a replayed graph does."""

    def __init__(self, compute):
        self.compute, self.result, self.replays = compute, None, 0

    def replay(self):
        self.replays += 1
        new = self.compute()
        if self.result is None:
            self.result = new
            return
        for old, now in zip(flat(self.result), flat(new), strict=True):
            old.copy_(now)


def flat(result):
    outcome, grads = result
    values = [*outcome.losses.values(), outcome.total, *outcome.quantities.values(), *outcome.output.values(), *grads]
    return [value for value in values if value is not None]


class Recorder:
    def __init__(self):
        self.made = []

    def __call__(self, compute):
        self.made.append(Again(compute))
        return self.made[-1]


def trained(record=None, iterations=BEFORE + 4, labels=lambda i: ("moving",), state=PairState, **timing):
    torch.manual_seed(0)
    networks = make_networks()
    updates = make_updates(networks, optimizer=partial(torch.optim.SGD, lr=0.05), **timing)
    batches = [make_pair(labels(i), seed=i) for i in range(iterations)]
    trainer = make_trainer(
        networks, updates, batches, SCHEDULE, state={"sampling": UniformScale()}, output={"image": "sampled_image"}
    )
    if record is not None:
        trainer.run_group = CapturedRunner(trainer.run_group, record)
    torch.manual_seed(1)
    losses = []
    handler = lambda: losses.append({k: (float(v), w) for k, (v, w) in trainer.state.losses.items()})  # noqa: E731
    trainer.add_event_handler("ITERATION_COMPLETED", handler)
    trainer.run()
    return networks, losses


def check_equal(record, **options):
    networks, losses = trained(**options)
    again, recorded = trained(record, **options)
    assert len(losses) == len(recorded)
    for expected, found in zip(losses, recorded, strict=True):
        assert found.keys() == expected.keys()
        for name, (value, weight) in expected.items():
            assert found[name] == (pytest.approx(value, rel=1e-4, abs=1e-6), weight), name
    for name in networks:
        torch.testing.assert_close(weights(again[name]), weights(networks[name]), rtol=1e-4, atol=1e-5)


def test_recorded_groups_learn_what_groups_learn():
    record = Recorder()
    check_equal(record)
    assert [made.replays for made in record.made] == [4] * len(SCHEDULE)


def test_terms_that_start_later_are_recorded_anew_and_weights_that_grow_are_followed():
    record = Recorder()
    check_equal(record, iterations=2 * BEFORE + 5, region={"start": BEFORE + 2, "ramp": 4}, weak={"ramp": 100})
    assert len(record.made) == len(SCHEDULE) + 1  # the group of registration twice


def test_a_recording_whose_terms_are_not_all_any_more_is_let_go():
    networks = make_networks()
    updates = make_updates(networks, region={"start": BEFORE + 2})
    trainer = make_trainer(networks, updates, [make_pair()] * (2 * BEFORE + 4), SCHEDULE)
    runner = trainer.run_group = CapturedRunner(trainer.run_group, record := Recorder())
    trainer.run()
    assert len(record.made) == len(SCHEDULE) + 1 and len(runner.recorded) == len(SCHEDULE)


def test_what_handlers_keep_is_not_written_over():
    networks = make_networks()
    batches = [make_pair(seed=i) for i in range(BEFORE + 3)]
    trainer = make_trainer(networks, make_updates(networks), batches, SCHEDULE, output={"image": "sampled_image"})
    trainer.run_group = CapturedRunner(trainer.run_group, Recorder())
    kept, copies = [], []

    def keep(engine):
        kept.extend([engine.state.ddf, *(each["image"] for each in engine.state.output)])
        copies.extend(tensor.clone() for tensor in kept[-2:])

    trainer.add_event_handler("ITERATION_COMPLETED", keep)
    trainer.run()
    assert len(kept) == 2 * len(batches)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))


def test_pairs_of_other_labels_are_recorded_apart():
    record = Recorder()
    check_equal(record, iterations=2 * BEFORE + 4, labels=lambda i: ("moving",) if i % 2 else ())
    # a discriminator and a registration for each kind, as their pairs differ in what they hold; segmentation for one
    assert len(record.made) == 2 + 2 + 2


def test_where_recording_fails_training_goes_on_and_says_so_once(caplog):
    def fail(compute):
        raise RuntimeError("no such device")

    check_equal(fail)
    assert [record.message for record in caplog.records if "cuda_graphs" in record.message] == [
        "cuda_graphs: recording failed, and training goes on without: no such device"
    ]


def test_where_recording_fails_what_was_recorded_before_is_let_go():
    record = Recorder()

    def fail_in_the_end(compute):
        if len(record.made) == 2:
            raise RuntimeError("out of memory")
        return record(compute)

    networks = make_networks()
    trainer = make_trainer(networks, make_updates(networks), [make_pair()] * (BEFORE + 2), SCHEDULE)
    trainer.run_group = CapturedRunner(trainer.run_group, fail_in_the_end)
    trainer.run()
    assert trainer.run_group.has_failed and not trainer.run_group.recorded


@pytest.mark.usefixtures("no_grids_kept")
def test_a_recording_holds_the_grids_it_reads():
    record = Recorder()
    trained(record)
    grids = {
        id(grid) for made in record.made for grid, _ in inspect.getclosurevars(made.compute).nonlocals["self"].grids
    }
    assert id(warping._identity_grid((16, 16, 16), torch.device("cpu"), torch.float32)[0]) in grids


def test_a_factor_is_drawn_on_the_cpu_for_whatever_reads_the_sampled_field():
    for quantity in ("sampling_factor", "sampled_ddf", "sampled_image", "sampled_label", "sampled_prob"):
        terms = {"term": Term(torch.sum, [quantity])}
        runner = GroupRunner(make_networks(), {}, partial(PairState, num_classes=NUM_CLASSES), {})
        group = Group(0, {"registration": terms}, frozenset({"registration"}))
        assert CapturedRunner(runner)._draw(group, make_pair(), {}).keys() == {"sampling_factor"}


def test_a_state_whose_draws_decide_is_refused():
    networks = make_networks()
    runner = GroupRunner(networks, {}, partial(TripletState, num_classes=NUM_CLASSES), {})
    with pytest.raises(ValueError, match="TripletState decides on the CPU"):
        CapturedRunner(runner)


@pytest.fixture
def no_grids_kept():
    warping._identity_grid.cache_clear()
    yield
    warping._identity_grid.cache_clear()


@pytest.mark.usefixtures("no_grids_kept")
@pytest.mark.parametrize("kind", [PairState, GuidedState])
def test_no_group_waits_for_the_device(kind):
    """A fake tensor has a shape and no value: whatever asks for one fails. On ``meta`` no network is laid out anew."""
    with FakeTensorMode():
        networks = make_networks()
        if kind is GuidedState:
            networks["registration"] = VoxelMorph2((4, 4), (4, 4, 4), half_resolution=True, in_channels=NUM_CLASSES)
        trainer = make_trainer(networks, make_updates(networks), [], SCHEDULE, device="meta")
        trainer.state.iteration = 1
        batch = {name: torch.empty_like(value) for name, value in make_pair().items()}
        state = partial(kind, num_classes=NUM_CLASSES)
        runner = GroupRunner(networks, trainer.updates, state, {"image": "sampled_image"})
        for _, group in trainer._groups(batch):
            outcome = runner(group, batch, {}, weights_of(group, 1))
            assert outcome.losses and all(isinstance(value, FakeTensor) for value in outcome.losses.values())
        with pytest.raises(Exception, match="_local_scalar_dense"):
            outcome.total.item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_graphs_learn_what_groups_learn():
    found = []
    for cuda_graphs in (False, True):
        torch.manual_seed(0)
        networks = {name: network.cuda() for name, network in make_networks().items()}
        updates = make_updates(
            networks, optimizer=partial(torch.optim.SGD, lr=0.05), region={"start": BEFORE, "ramp": 4}
        )
        batches = [make_pair(("moving",) if i % 3 else (), seed=i) for i in range(4 * BEFORE)]
        state = {"sampling": UniformScale()}
        trainer = make_trainer(
            networks, updates, batches, SCHEDULE, state=state, device="cuda", cuda_graphs=cuda_graphs
        )
        torch.manual_seed(1)
        trainer.run()
        if cuda_graphs:
            assert trainer.run_group.recorded and not trainer.run_group.has_failed
        found.append({name: weights(network) for name, network in networks.items()})
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
