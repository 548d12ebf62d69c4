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
"""What several processes share and exchange, in two real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from test_pairs import Subjects
from tiny_joint import linear_update, make_networks, make_pair, make_trainer, make_updates, same_bits, train, weights
from torch import distributed

from scripts.data.samplers import PairSampler, RingSampler
from scripts.files import processes
from scripts.joint.sampling import UniformScale


def from_both(value):
    values = [None, None]
    distributed.all_gather_object(values, value)
    return values


# ---- alone


def test_a_process_alone_is_the_first_and_does_everything():
    assert (processes.rank(), processes.count()) == (0, 1)
    assert processes.gather(processes.share("abc")) == ["a", "b", "c"]
    assert processes.add_up({"a": 2.0}) == {"a": 2.0}
    processes.start_alike(make_networks().values(), epoch=3)


# ---- two of them; each function is called in both


def results_come_back_in_the_order_of_the_list(rank):
    for items in ("", "a", "ab", "abc", "abcde"):
        mine = processes.share(items)
        assert mine == list(items[rank::2])
        assert processes.gather([letter.upper() for letter in mine]) == list(items.upper())


def amounts_of_one_name_are_added_and_a_missing_one_counts_nothing(rank):
    assert processes.add_up([{"a": 1.0, "b": 2.0}, {"a": 4.0, "c": 8.0}][rank]) == {"a": 5.0, "b": 2.0, "c": 8.0}


def pairs_are_disjoint_and_together_those_of_a_joint_batch(rank):
    subjects, options = Subjects(4, 40), {"kinds": {"labeled_unlabeled": 1, "unlabeled_unlabeled": 1}, "style": True}
    mine = list(PairSampler(subjects, length=20, batch_size=2, seed=7, **options))
    first, second = from_both(mine)
    assert not {pair for batch in first for pair in batch} & {pair for batch in second for pair in batch}
    assert len(first) == 20 and all(len(batch) == 2 for batch in first + second)
    mixed = zip(first, second, strict=True)
    assert all(len({subjects.kind(pair[:2]) for pair in one + other}) == 1 for one, other in mixed)
    assert len(PairSampler(subjects, batch_size=2)) == 160 // 4  # an epoch is through all pairs once


def the_ring_is_shared_unless_there_is_too_little_of_it(rank):
    assert [moving for ((moving, _),) in RingSampler(range(5))] == [[0, 2, 4], [1, 3]][rank]
    assert list(RingSampler(range(1))) == [[(0, 0)]]


def random_draws_differ_between_processes_and_repeat_with_the_epoch(rank):
    drawn = {}
    for attempt in range(2):
        torch.manual_seed(attempt)  # what came before does not matter: a resumed training draws the same
        networks = make_networks()
        sampling = Remembering()
        batches = [make_pair(("moving",))] * 2
        trainer = make_trainer(networks, make_updates(networks), batches, max_epochs=2, state={"sampling": sampling})
        trainer.run()
        drawn[attempt] = sampling.factors
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == len(drawn[0]) >= 4
    both = from_both(drawn[0])
    assert not set(both[0]) & set(both[1])


class Remembering(UniformScale):
    def __init__(self):
        super().__init__()
        self.factors = []

    def __call__(self, *args):
        factor = super().__call__(*args)
        self.factors.append(factor.item())
        return factor


def all_begin_with_the_weights_of_the_first(rank):
    networks, wanted = make_networks(seed=rank), make_networks(seed=0)
    processes.start_alike(networks.values(), epoch=0)
    assert all(same_bits(weights(networks[name]), weights(wanted[name])) for name in wanted)


def a_step_follows_the_mean_gradient(rank):
    assert stepped([[2.0, 4.0], [4.0, -4.0]][rank], taught=True) == [-3.0, 0.0]
    # an unlabelled pair in one process: its update takes part in the exchange, with nothing to add
    assert stepped([[2.0, 4.0], None][rank], taught=rank == 0) == [-1.0, -2.0]
    assert stepped(None, taught=False) == [0.0, 0.0]


def stepped(gradient, taught):
    update = linear_update()
    update.network.weight.grad = None if gradient is None else torch.tensor([gradient])
    update.step(taught)
    return update.network.weight.tolist()[0]


def networks_stay_the_same_when_a_pair_of_one_process_has_no_label(rank):
    networks = make_networks()
    train(networks, make_updates(networks), [make_pair(("moving",) if rank else (), seed=rank)])
    assert all(same_bits(*from_both(weights(network))) for network in networks.values())


def different_epochs_are_refused(rank):
    with pytest.raises(ValueError, match=r"different epochs: \[0, 5\].*folders that all machines see"):
        processes.start_alike([], epoch=5 * rank)


FACTS = [
    results_come_back_in_the_order_of_the_list,
    amounts_of_one_name_are_added_and_a_missing_one_counts_nothing,
    pairs_are_disjoint_and_together_those_of_a_joint_batch,
    the_ring_is_shared_unless_there_is_too_little_of_it,
    random_draws_differ_between_processes_and_repeat_with_the_epoch,
    all_begin_with_the_weights_of_the_first,
    a_step_follows_the_mean_gradient,
    networks_stay_the_same_when_a_pair_of_one_process_has_no_label,
    different_epochs_are_refused,
]


def test_two_processes_share_and_exchange(tmp_path):
    torch.multiprocessing.spawn(_process, (str(tmp_path / "rendezvous"),), nprocs=2)


def _process(rank, rendezvous):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{Path(rendezvous)}", rank=rank, world_size=2)
    for fact in FACTS:
        fact(rank)
    distributed.destroy_process_group()
