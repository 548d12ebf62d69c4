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

"""The way to join votes that is best on labelled cases which had no say in it."""

from __future__ import annotations

import pytest
import torch
from tiny_joint import NUM_CLASSES
from tiny_training import InMemory, labelled

from scripts.matching.match import Matching
from scripts.matching.vote import Atlas, LocalVote, carry, carry_again
from scripts.training.leave_one_out import choose_vote, mean_dice

MATCHING = Matching(levels=[[4, 2, 2]], affine=False)


def atlas(name):
    volumes = InMemory()({**labelled(name)[0], "case": name})
    return Atlas(name, volumes["image"].as_tensor()[None], volumes["label"].as_tensor()[None])


def segment(image):
    return torch.full((1, NUM_CLASSES, *image.shape[2:]), 1 / NUM_CLASSES)


@pytest.fixture(scope="module")
def chosen():
    return choose_vote([atlas(name) for name in "mnop"], segment, NUM_CLASSES, MATCHING)


def test_each_way_is_scored_on_each_case_by_the_others(chosen):
    join, figures = chosen
    scores = []
    for held in "mnop":
        others, fixed = [atlas(name) for name in "mnop" if name != held], atlas(held)
        carried = carry(others, fixed.image, segment(fixed.image), NUM_CLASSES, MATCHING)
        scores.append(mean_dice(LocalVote("equal")(carried), fixed.label))
    assert figures["equal"] == pytest.approx(sum(scores) / 4, abs=0.01)  # votes are kept in half precision
    assert set(figures) == {"likeness", "difference", "equal", "learned", "again", "auc_difference", "auc_learned"}
    ways = {name: figures[name] for name in ("likeness", "difference", "equal", "learned")}
    assert join.weighting == max(ways, key=ways.get)
    assert join.turns == 1 + (figures["again"] > figures[join.weighting])
    assert figures["auc_learned"] > 0.5


def test_a_second_turn_is_scored_as_it_would_be_taken():
    _, figures = choose_vote([atlas("m"), atlas("n")], segment, NUM_CLASSES, MATCHING, "equal")
    scores = []
    for held, other in ("mn", "nm"):
        fixed, others = atlas(held), [atlas(other)]
        first = LocalVote("equal")(carry(others, fixed.image, segment(fixed.image), NUM_CLASSES, MATCHING))
        carried = carry_again(others, fixed.image, first.half().float(), NUM_CLASSES, MATCHING)
        scores.append(mean_dice(LocalVote("equal")(carried), fixed.label))
    assert figures["again"] == pytest.approx(sum(scores) / 2, abs=1e-6)


def test_what_is_asked_for_is_taken_and_a_learned_way_brings_its_judge():
    cases = [atlas(name) for name in "mno"]
    join, _ = choose_vote(cases, segment, NUM_CLASSES, MATCHING, "learned")
    assert join.weighting == "learned" and join.judge.weights.shape == (7,)
    assert choose_vote(cases[:1], segment, NUM_CLASSES, MATCHING, "equal")[0].weighting == "equal"
    alone, figures = choose_vote(cases[:1], segment, NUM_CLASSES, MATCHING)
    assert (alone.weighting, alone.turns, figures) == ("likeness", 1, {})
