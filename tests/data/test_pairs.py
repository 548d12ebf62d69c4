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

import itertools
import multiprocessing
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, LoadImaged, Transform

from scripts.data.cases import load_cases
from scripts.data.pairs import PairDataset, read_pairs
from scripts.data.samplers import PairSampler, RingSampler, ordered_pairs

LOAD = Compose([LoadImaged(("image", "label"), ensure_channel_first=True, allow_missing_keys=True)])


class Subjects:
    """As many labelled and unlabelled subjects as a sampler needs to know of."""

    def __init__(self, labeled, unlabeled):
        self.labeled_indices = range(labeled)
        self.unlabeled_indices = range(labeled, labeled + unlabeled)

    def kind(self, pair):
        return "_".join("labeled" if index in self.labeled_indices else "unlabeled" for index in pair)


class CountingLoad(Transform):
    """Loads as training does and remembers what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, case):
        self.seen.append(dict(case))
        return LOAD(case)


def pairs_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(itertools.chain.from_iterable(sampler))


@pytest.fixture
def cases(tmp_path, write_case):
    for name in ("a", "b", "u", "v", "w"):
        write_case(tmp_path, name, (1, 2) if name in "ab" else None, affine=np.diag([2.0, 1, 1, 1]))
    (tmp_path / "labels" / "u.nii.gz").write_bytes(b"not a label: opening this file raises")
    entries = [
        {"image": str(tmp_path / "images" / f"{n}.nii.gz"), "label": str(tmp_path / "labels" / f"{n}.nii.gz")}
        for n in "abuvw"
    ]
    return entries[:2], entries[2:]


@pytest.fixture
def dataset(cases):
    return PairDataset(cases[0], LOAD, cases[1])


def test_a_pair_holds_what_its_two_subjects_hold(dataset):
    pair = dataset[1, 2]
    assert (pair["moving_case"], pair["fixed_case"]) == ("b", "u")
    assert torch.equal(pair["moving_image"], dataset[0, 1]["fixed_image"])
    assert not torch.equal(pair["moving_image"], pair["fixed_image"])
    assert pair["moving_label"].unique().tolist() == [0, 1, 2]
    assert pair["moving_image"].shape == pair["moving_label"].shape == (1, 8, 10, 9)
    assert "fixed_label" not in pair
    assert pair["fixed_affine"].diagonal().tolist() == [2, 1, 1, 1]


def test_the_tensors_of_a_pair_are_plain(dataset):
    assert {type(value) for value in dataset[0, 1].values()} == {str, torch.Tensor}


def test_a_third_index_brings_a_third_image_and_changes_nothing_else(dataset):
    pair, triplet = dataset[1, 2], dataset[1, 2, 3]
    assert triplet["style_case"] == "v" and "style_label" not in triplet
    assert torch.equal(triplet["style_image"], dataset[0, 3]["fixed_image"])
    assert triplet.keys() - pair.keys() == {"style_case", "style_image", "style_affine"}
    assert all(torch.equal(pair[key], triplet[key]) for key in pair if not key.endswith("case"))


def test_labelled_subjects_come_first(dataset):
    assert len(dataset) == 5
    assert (dataset.labeled_indices, dataset.unlabeled_indices) == ((0, 1), (2, 3, 4))


def test_a_subject_is_preprocessed_once_however_many_pairs_it_is_in(cases):
    load = CountingLoad()
    dataset = PairDataset(cases[0], load, cases[1])
    for pair in ordered_pairs(len(dataset)):
        dataset[pair]
    assert sorted(case["case"] for case in load.seen) == ["a", "b", "u", "v", "w"]


def test_the_label_of_an_unlabelled_subject_is_gone_before_anything_reads_it(cases):
    load = CountingLoad()
    PairDataset(cases[0], load, cases[1])
    assert [case["case"] for case in load.seen if "label" in case] == ["a", "b"]


def test_pairs_without_unlabelled_subjects_carry_both_labels(cases):
    assert {"moving_label", "fixed_label"} <= PairDataset(cases[0], LOAD)[0, 1].keys()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_batches_collate_in_this_process_and_in_a_spawned_one(dataset, workers):
    sampler = PairSampler(dataset, {"any": 1}, length=6, batch_size=2)
    context = multiprocessing.get_context("spawn") if workers else None
    batches = list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers, multiprocessing_context=context))
    assert len(batches) == 6
    for batch, pairs in zip(batches, sampler, strict=True):
        assert batch["moving_image"].shape == (2, 1, 8, 10, 9)
        assert ("moving_label" in batch) == (pairs[0][0] < 2)
        assert torch.equal(batch["fixed_image"][1], dataset[pairs[1]]["fixed_image"])


def test_the_default_epoch_is_every_labelled_unlabelled_pair_once():
    sampler = PairSampler(Subjects(4, 40))
    assert len(sampler) == 160
    assert sorted(pairs_of(sampler)) == [(i, j) for i in range(4) for j in range(4, 44)]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("labeled_unlabeled", 12), ("unlabeled_labeled", 12), ("labeled_labeled", 6), ("unlabeled_unlabeled", 12)],
)
def test_each_kind_walks_through_all_of_its_pairs_before_it_repeats_one(kind, count):
    subjects = Subjects(3, 4)
    drawn = pairs_of(PairSampler(subjects, {kind: 1}, length=2 * count))
    first, second = drawn[:count], drawn[count:]
    assert {subjects.kind(pair) for pair in drawn} == {kind}
    assert len(set(first)) == count
    assert set(first) == set(second)
    assert first != second
    assert all(moving != fixed for moving, fixed in drawn)


def test_any_reaches_every_pair_of_different_subjects_equally_often():
    counts = Counter(pairs_of(PairSampler(Subjects(2, 3), {"any": 1}, length=4000)))
    assert set(counts) == set(ordered_pairs(5))
    assert max(abs(count - 200) for count in counts.values()) < 60


def test_kinds_are_drawn_by_their_weights():
    subjects = Subjects(4, 40)
    drawn = pairs_of(PairSampler(subjects, {"labeled_unlabeled": 3, "unlabeled_unlabeled": 1}, length=4000))
    counts = Counter(map(subjects.kind, drawn))
    assert counts.keys() == {"labeled_unlabeled", "unlabeled_unlabeled"}
    assert counts["labeled_unlabeled"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_another_kind_does_not_change_which_pairs_a_kind_draws():
    subjects = Subjects(4, 40)
    mixed = pairs_of(PairSampler(subjects, {"labeled_unlabeled": 1, "labeled_labeled": 1}))
    kept = [pair for pair in mixed if subjects.kind(pair) == "labeled_unlabeled"]
    assert kept == pairs_of(PairSampler(subjects))[: len(kept)]


def test_a_batch_holds_one_kind_of_pair():
    subjects = Subjects(3, 4)
    kinds = {"any": 1, "labeled_unlabeled": 0.5}
    for batch in PairSampler(subjects, kinds, length=50, batch_size=3):
        assert len(batch) == 3
        assert len({subjects.kind(pair) for pair in batch}) == 1


def test_pairs_are_a_function_of_seed_and_epoch():
    subjects = Subjects(4, 40)
    walked, resumed = PairSampler(subjects, seed=7), PairSampler(subjects, seed=7)
    epochs = [pairs_of(walked, epoch) for epoch in range(3)]
    assert pairs_of(resumed, 2) == epochs[2]
    assert epochs[1] != epochs[2]
    assert pairs_of(PairSampler(subjects, seed=8), 2) != epochs[2]


@pytest.mark.parametrize("kind", ["labeled_unlabeled", "unlabeled_unlabeled"])
def test_a_third_subject_is_any_unlabelled_one_outside_the_pair_and_leaves_the_pairs_as_they_are(kind):
    subjects = Subjects(2, 4)
    options = {"kinds": {kind: 1}, "length": 400, "batch_size": 2, "seed": 7}
    with_style = PairSampler(subjects, style=True, **options)
    triplets = pairs_of(with_style, epoch=3)
    assert [triplet[:2] for triplet in triplets] == pairs_of(PairSampler(subjects, **options), epoch=3)
    assert triplets == pairs_of(with_style, epoch=3) != pairs_of(with_style, epoch=4)
    assert all(style not in pair for *pair, style in triplets)
    counts = Counter(style for *_, style in triplets)
    assert set(counts) == set(subjects.unlabeled_indices) and min(counts.values()) > 140


def test_a_third_subject_that_is_not_there_is_asked_for():
    with pytest.raises(ValueError, match=r"no unlabelled subject is left.*beside the pair \(\d, 2\); add another"):
        list(PairSampler(Subjects(2, 1), style=True))


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"batch_size": 8}, 20),
        ({"kinds": {"labeled_labeled": 1}}, 160),
        ({"length": 5}, 5),
    ],
)
def test_the_length_of_an_epoch_counts_batches(options, batches):
    sampler = PairSampler(Subjects(4, 40), **options)
    assert len(sampler) == len(list(sampler)) == batches


def test_without_unlabelled_subjects_an_epoch_is_every_pair_of_its_kinds():
    assert len(PairSampler(Subjects(4, 0), {"labeled_labeled": 1})) == 12


@pytest.mark.parametrize(
    ("counts", "kinds", "message"),
    [
        ((4, 0), {"labeled_unlabeled": 1}, "4 labelled and 0 unlabelled .*\n.*Possible kinds: labeled_labeled, any"),
        ((0, 4), {"labeled_unlabeled": 1}, "Possible kinds: unlabeled_unlabeled, any"),
        ((1, 0), {"labeled_labeled": 1}, "a pair needs two subjects"),
        ((4, 4), {"labelled_unlabeled": 1}, "Did you mean 'labeled_unlabeled'"),
        ((4, 4), {"any": -1}, "should not be negative, found -1"),
        ((4, 4), {"any": 0}, "no kind of pair has a weight above 0"),
    ],
)
def test_pairs_that_cannot_be_had_are_refused(counts, kinds, message):
    with pytest.raises(ValueError, match=message):
        PairSampler(Subjects(*counts), kinds)


def test_a_kind_without_subjects_may_be_named_with_weight_zero():
    assert len(PairSampler(Subjects(3, 0), {"labeled_unlabeled": 0, "labeled_labeled": 1})) == 6


@pytest.mark.parametrize("options", [{"length": 0}, {"batch_size": 0}])
def test_an_empty_epoch_is_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        PairSampler(Subjects(4, 4), **options)


def test_datasets_and_samplers_survive_pickling(dataset):
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0, 2]["fixed_image"], dataset[0, 2]["fixed_image"])
    sampler = pickle.loads(pickle.dumps(PairSampler(Subjects(2, 3), seed=5)))
    assert list(sampler) == list(PairSampler(Subjects(2, 3), seed=5))


@pytest.mark.parametrize(
    ("subjects", "batches"),
    [(3, [[(0, 1)], [(1, 2)], [(2, 0)]]), (1, [[(0, 0)]]), (0, [])],
)
def test_a_ring_makes_each_subject_fixed_once(subjects, batches):
    ring = RingSampler(range(subjects))
    assert list(ring) == batches
    assert len(ring) == len(batches)


def test_ordered_pairs_are_row_major_without_self_pairs():
    assert ordered_pairs(3) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_subjects_make_no_pair(n):
    assert ordered_pairs(n) == []


def test_drawn_pairs_differ_and_follow_the_seed():
    drawn = ordered_pairs(10, 30, seed=1)
    assert len(set(drawn)) == 30
    assert drawn == ordered_pairs(10, 30, seed=1) != ordered_pairs(10, 30, seed=2)


def test_asking_for_more_pairs_than_there_are_gives_all():
    assert ordered_pairs(3, 100) == ordered_pairs(3)


def test_pairs_are_read_with_paths_relative_to_their_file(tmp_path, write_json):
    pair = {"moving": {"image": "i/a.nii", "label": "l/a.nii"}, "fixed": {"image": "i/b.nii"}}
    (read,) = read_pairs(write_json(tmp_path / "pairs.json", {"pairs": [pair]}))
    assert read == {
        "moving": {"case": "a", "image": str(tmp_path / "i/a.nii"), "label": str(tmp_path / "l/a.nii")},
        "fixed": {"case": "b", "image": str(tmp_path / "i/b.nii")},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no list 'pairs'"),
        ({"pairs": [{"moving": {"image": "a.nii"}}]}, "pair 0 should have a 'moving' and a 'fixed'"),
        ({"pairs": [{"moving": {"label": "a.nii"}, "fixed": "b.nii"}]}, "'pairs/moving' names no image"),
    ],
)
def test_malformed_pairs_are_refused(tmp_path, write_json, content, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(write_json(tmp_path / "pairs.json", content))


def test_the_published_test_pairs_of_the_hippocampus_are_redrawn(hippocampus):
    test = load_cases(hippocampus).test
    drawn = [{"moving": test[i], "fixed": test[j]} for i, j in ordered_pairs(len(test), 40, seed=0)]
    assert drawn == read_pairs(hippocampus / "test_pairs.json")
