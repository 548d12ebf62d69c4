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
from scripts.fields.warping import warp
from scripts.joint.sampling import UniformScale
from scripts.joint.updates import Term, Update
from scripts.losses.cross_entropy import WarpedCrossEntropy
from scripts.matching.match import Matching
from scripts.matching.vote import Atlas, carry
from scripts.training.history import History
from scripts.training.rounds import VoteRounds
from scripts.training.train_state import TrainState


def make(folder, max_epochs, resume=False, seed=0, epochs=(2, 4), weighting=None, **options):
    networks = {"segmentation": make_networks(seed)["segmentation"]}
    terms = {
        "supervised": Term(WarpedCrossEntropy(), ["moving_pred", "moving_label"], requires=["moving_label"]),
        "voted": Term(WarpedCrossEntropy(), ["fixed_pred", "fixed_label"], requires=["fixed_label"]),
    }
    network = networks["segmentation"]
    updates = {"segmentation": Update(network, torch.optim.Adam(network.parameters(), 0.01), terms)}
    dataset = PairDataset(labelled("mn"), InMemory(), [{"image": f"images/{name}.nii.gz"} for name in "abc"])
    sampler = PairSampler(dataset, {"labeled_unlabeled": 1.0}, length=3, batch_size=2)
    matching = Matching(levels=[[4, 2, 2]])
    rounds = VoteRounds(epochs, dataset, network, NUM_CLASSES, matching, folder, weighting=weighting, **options)
    handlers = [
        History(str(folder / "history.csv"), interval=1),
        TrainState(str(folder / "train_state.pt"), networks, updates, resume),
    ]
    run = {"max_epochs": max_epochs, "augmentation": augmentation(), "train_handlers": handlers}
    trainer = make_trainer(networks, updates, DataLoader(dataset, batch_sampler=sampler), supplement=rounds, **run)
    return trainer, rounds


def half(number, device):
    return torch.full((number, 1, 1, 1, 1), 0.5, device=device)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    trainer, rounds = make(folder, 5, sampling=UniformScale(0, 1))
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
    first, _ = make(tmp_path, after, sampling=UniformScale(0, 1))
    first.run()
    second, rounds = make(tmp_path, 5, resume=True, seed=99, sampling=UniformScale(0, 1))
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


def test_a_training_of_0_8_whose_votes_have_neither_fields_nor_turns_goes_on(tmp_path):
    make(tmp_path, 2, sampling=half)[0].run()
    saved = load(tmp_path / "votes.pt")
    torch.save({key: saved[key] for key in ("epoch", "votes", "weighting", "figures")}, tmp_path / "votes.pt")
    trainer, rounds = make(tmp_path, 3, resume=True, sampling=half)
    trainer.run()
    assert trainer.state.epoch == 3 and same(rounds.votes, saved["votes"]) and rounds.fields == {}


def test_the_way_to_join_is_what_leave_one_out_prefers_or_what_is_said(uninterrupted, tmp_path):
    saved = load(uninterrupted[0] / "votes.pt")
    figures = saved["figures"]
    assert saved["weighting"] == max(("likeness", "difference", "equal"), key=lambda name: figures[name])
    assert "learned" not in figures  # of two labelled cases, no pair is left to learn from without one of them
    assert 0 <= figures["auc_difference"] <= 1
    assert saved["turns"] == 1 + (figures["again"] > figures[saved["weighting"]])
    make(tmp_path, 2, weighting="equal")[0].run()
    assert load(tmp_path / "votes.pt")["weighting"] == "equal"
    with pytest.raises(ValueError, match="found 'nobody'"):
        make(tmp_path, 2, weighting="nobody")


def test_a_pair_that_has_a_label_keeps_it(uninterrupted):
    _, rounds = uninterrupted
    image = torch.rand(2, 1, 16, 16, 16)
    moving = {"moving_image": image, "moving_label": (image > 0.5).long(), "fixed_image": image}
    names = {"moving_case": ["m", "n"], "fixed_case": ["a", "b"]}
    assert rounds({**names, **moving})["fixed_label"].shape == (2, 1, 16, 16, 16)
    assert rounds({**names, **moving, "fixed_case": ["a", "m"]}) == {}
    assert rounds({**names, **moving, "fixed_label": image}) == {}


def test_a_labelled_image_goes_part_of_the_way_to_the_fixed_one_and_its_label_with_it(tmp_path):
    trainer, rounds = make(tmp_path, 2, sampling=half)
    trainer.run()
    moving, fixed = (InMemory()({**entry, "case": name}) for name, entry in zip("ma", labelled("ma"), strict=True))
    image, label, onto = (v.as_tensor()[None] for v in (moving["image"], moving["label"], fixed["image"]))
    (carried,) = carry([Atlas("m", image, label)], onto, None, NUM_CLASSES, rounds.matching)
    expected = warp(image, 0.5 * carried.ddf)
    names = {"moving_case": ["m"], "fixed_case": ["a"], "fixed_image": onto}
    found = rounds({**names, "moving_image": image, "moving_label": label})
    assert float((found["moving_image"] - expected).abs().mean()) < 0.02 < float((image - expected).abs().mean())
    inside = found["moving_label"] > 0
    assert float(found["moving_image"][inside].mean() - found["moving_image"][~inside].mean()) > 0.25
    assert found["moving_label"].dtype == label.dtype


def test_without_sampling_moving_images_stay(tmp_path):
    trainer, rounds = make(tmp_path, 2)
    trainer.run()
    image = torch.rand(1, 1, 16, 16, 16)
    pair = {
        "moving_case": ["m"],
        "fixed_case": ["a"],
        "moving_image": image,
        "moving_label": image,
        "fixed_image": image,
    }
    assert list(rounds(pair)) == ["fixed_label"] and not rounds.fields


def test_rounds_that_come_after_the_last_epoch_are_told(tmp_path, caplog):
    trainer, rounds = make(tmp_path, 1, epochs=(2, 4))
    trainer.run()
    assert "no votes before epochs [2, 4]: there are only 1" in caplog.text and not rounds.votes


def test_at_the_end_it_is_told_whether_to_vote(tmp_path, caplog):
    caplog.set_level("INFO")
    entries = [{**entry, "case": name} for name, entry in zip("xy", labelled("xy"), strict=True)]
    trainer, rounds = make(tmp_path, 2, validation=PairDataset(entries, InMemory()))
    trainer.run()
    assert "on 2 validation cases segmentation has a mean Dice of" in caplog.text
    assert "let the labelled cases vote" in caplog.text  # three steps teach less than boxes that are carried
