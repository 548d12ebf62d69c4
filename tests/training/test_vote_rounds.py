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
"""Rounds of votes: what they give to pairs, what is chosen, and that a resumed training has the same."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader
from tiny_joint import NUM_CLASSES, make_networks, make_trainer
from tiny_training import InMemory, augmentation, labelled, load, rows, same

from scripts.data.pairs import PairDataset
from scripts.data.samplers import PairSampler
from scripts.joint.updates import Term, Update
from scripts.losses.cross_entropy import WarpedCrossEntropy
from scripts.matching.match import Matching
from scripts.training.history import History
from scripts.training.rounds import VoteRounds
from scripts.training.train_state import TrainState


def make(folder, max_epochs, resume=False, seed=0, epochs=(2, 4), weighting=None):
    networks = {"segmentation": make_networks(seed)["segmentation"]}
    terms = {
        "supervised": Term(WarpedCrossEntropy(), ["moving_pred", "moving_label"], requires=["moving_label"]),
        "voted": Term(WarpedCrossEntropy(), ["fixed_pred", "fixed_label"], requires=["fixed_label"]),
    }
    network = networks["segmentation"]
    updates = {"segmentation": Update(network, torch.optim.Adam(network.parameters(), 0.01), terms)}
    dataset = PairDataset(labelled("mn"), InMemory(), [{"image": f"images/{name}.nii.gz"} for name in "abc"])
    sampler = PairSampler(dataset, {"labeled_unlabeled": 1.0}, length=3, batch_size=2)
    rounds = VoteRounds(
        epochs, dataset, network, NUM_CLASSES, Matching(levels=[[4, 2, 2]]), folder, weighting=weighting
    )
    handlers = [
        History(str(folder / "history.csv"), interval=1),
        TrainState(str(folder / "train_state.pt"), networks, updates, resume),
    ]
    options = {"max_epochs": max_epochs, "augmentation": augmentation(), "train_handlers": handlers}
    trainer = make_trainer(networks, updates, DataLoader(dataset, batch_sampler=sampler), supplement=rounds, **options)
    return trainer, rounds


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    trainer, rounds = make(folder, 5)
    trainer.run()
    return folder, rounds


def test_from_its_first_round_on_unlabelled_images_teach_by_their_votes(uninterrupted):
    folder, rounds = uninterrupted
    epochs = {
        name: [epoch for epoch, found, _ in rows(folder / "history.csv") if found == name]
        for name in (
            "segmentation/supervised",
            "segmentation/voted",
            "votes/seconds",
            "votes/difference",
            "votes/equal",
        )
    }
    assert epochs["segmentation/supervised"] == [1, 2, 3, 4, 5]
    assert epochs["segmentation/voted"] == epochs["votes/difference"] == epochs["votes/seconds"] == [2, 3, 4, 5]
    assert sorted(rounds.votes) == ["a", "b", "c"] and rounds.epoch == 4
    assert all(
        vote.shape == (1, 16, 16, 16) and set(vote.unique().tolist()) <= {0, 1, 2} for vote in rounds.votes.values()
    )


def test_votes_on_boxes_find_the_boxes(uninterrupted):
    _, rounds = uninterrupted
    for name, vote in rounds.votes.items():
        truth = InMemory()({"case": name, "image": f"images/{name}.nii.gz", "label": "l"})["label"].as_tensor()
        overlap = 2 * ((vote > 0) & (truth > 0)).sum() / ((vote > 0).sum() + (truth > 0).sum())
        assert overlap > 0.5, name


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_training_that_is_resumed_goes_on_with_the_same_votes_to_the_bit(uninterrupted, tmp_path, after):
    first, _ = make(tmp_path, after)
    first.run()
    second, rounds = make(tmp_path, 5, resume=True, seed=99)
    second.run()
    found, expected = load(tmp_path / "train_state.pt"), load(uninterrupted[0] / "train_state.pt")
    assert same(found["networks"], expected["networks"]) and same(found["updates"], expected["updates"])
    assert same(rounds.votes, uninterrupted[1].votes)


def test_a_round_that_was_lost_is_taken_anew_and_that_is_said(tmp_path, caplog):
    make(tmp_path, 2)[0].run()
    (tmp_path / "votes.pt").unlink()
    trainer, rounds = make(tmp_path, 3, resume=True)
    trainer.run()
    assert "of epoch 2 is missing" in caplog.text and load(tmp_path / "votes.pt")["epoch"] == 2


def test_the_way_to_join_is_what_leave_one_out_prefers_or_what_is_said(uninterrupted, tmp_path):
    saved = load(uninterrupted[0] / "votes.pt")
    best = max(("difference", "equal"), key=lambda name: saved["figures"][name])
    assert saved["weighting"] == best
    make(tmp_path, 2, weighting="equal")[0].run()
    assert load(tmp_path / "votes.pt")["weighting"] == "equal"
    with pytest.raises(ValueError, match="found 'nobody'"):
        make(tmp_path, 2, weighting="nobody")


def test_a_pair_that_has_a_label_keeps_it(uninterrupted):
    _, rounds = uninterrupted
    image = torch.zeros(2, 1, 16, 16, 16)
    assert rounds({"fixed_case": ["a", "b"], "fixed_image": image})["fixed_label"].shape == (2, 1, 16, 16, 16)
    assert rounds({"fixed_case": ["a", "m"], "fixed_image": image}) == {}
    assert rounds({"fixed_case": ["a", "b"], "fixed_image": image, "fixed_label": image}) == {}


def test_rounds_that_come_after_the_last_epoch_are_told(tmp_path, caplog):
    trainer, rounds = make(tmp_path, 1, epochs=(2, 4))
    trainer.run()
    assert "no votes before epochs [2, 4]: there are only 1" in caplog.text and not rounds.votes
