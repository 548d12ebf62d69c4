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
"""What carried labels say of an image, and that they owe nothing but an affine to the network that they teach."""

from __future__ import annotations

import math

import pytest
import torch
from test_match import SIZE, blobs

from scripts.matching.clues import DIFFERENCE, Judge
from scripts.matching.match import Matching
from scripts.matching.scan import grid_points
from scripts.matching.vote import Atlas, Carried, LocalVote, carry, carry_again, refuse_partly_labeled, take_vote

POINTS = grid_points(SIZE, 1, torch.device("cpu"))
QUICK = Matching(levels=[[4, 2, 4], [2, 2, 4]])


def scene(shift=0.0, seed=0):
    image = blobs(POINTS + shift, seed)
    return image, (image > 0.3).long() + (image > 0.6).long()


def one_hot(label):
    return torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()


def test_an_atlas_on_its_own_image_says_its_own_label():
    image, label = scene()
    (found,) = carry([Atlas("a", image, label)], image, one_hot(label), 3, QUICK)
    assert found.case == "a" and found.prob.shape == (1, 3, *SIZE)
    torch.testing.assert_close(found.prob.sum(dim=1), torch.ones(1, *SIZE))
    assert float((found.prob.argmax(dim=1) == label[:, 0]).float().mean()) > 0.995
    assert float(found.clues[:, DIFFERENCE].exp().mean()) == pytest.approx(1e-3, abs=1e-4)  # its floor: no difference
    assert float(found.clues[:, :DIFFERENCE][..., image[0, 0] > 0.1].mean()) > 0.95


def test_an_atlas_that_lies_elsewhere_is_carried_there():
    (image, label), (other, truth) = scene(), scene(torch.tensor([3.0, 0.0, -2.0]))
    (found,) = carry([Atlas("a", image, label)], other, None, 3, Matching())
    voted = found.prob.argmax(dim=1)
    both = 2 * ((voted > 0) & (truth[:, 0] > 0)).sum() / ((voted > 0).sum() + (truth > 0).sum())
    alone = 2 * ((label > 0) & (truth > 0)).sum() / ((label > 0).sum() + (truth > 0).sum())
    assert alone < 0.6 < 0.9 < both


def test_what_teaches_a_network_sees_nothing_of_it_beyond_the_affine():
    image, label = scene()
    other, _ = scene(0.5)
    matching = Matching(levels=[[4, 2, 4]], affine=False)
    fields = [
        carry([Atlas("a", image, label)], other, prob, 3, matching)[0].ddf
        for prob in (None, one_hot(label), torch.rand(1, 3, *SIZE).softmax(dim=1))
    ]
    assert all(torch.equal(field, fields[0]) for field in fields) and float(fields[0].abs().max()) > 0.1
    with pytest.raises(ValueError, match="see images only"):
        carry([Atlas("a", image, label)], other, None, 3, Matching(overlap=1.0))


def test_a_second_turn_owes_a_network_nothing_either():
    image, label = scene()
    other, _ = scene(0.5)
    matching = Matching(levels=[[4, 2, 4]], affine=False)
    votes = [
        take_vote([Atlas("a", image, label)], other, prob, 3, matching, LocalVote(turns=2))[0]
        for prob in (one_hot(label), torch.rand(1, 3, *SIZE).softmax(dim=1))
    ]
    assert torch.equal(*votes)


def test_in_a_second_turn_an_atlas_goes_where_all_of_them_have_said():
    _, label = scene()
    _, truth = scene(torch.tensor([2.0, 0.0, -1.0]))
    flat = 0.5 + 0.01 * torch.rand(
        1, 1, *SIZE, generator=torch.Generator().manual_seed(0)
    )  # an image that says nothing
    atlas, matching = Atlas("a", flat, label), Matching(levels=[[4, 2, 20]], affine=False)

    def overlap(found):
        chosen = found.prob.argmax(dim=1)
        return float(2 * ((chosen > 0) & (truth[:, 0] > 0)).sum() / ((chosen > 0).sum() + (truth > 0).sum()))

    (alone,) = carry([atlas], flat, None, 3, matching)
    (again,) = carry_again([atlas], flat, one_hot(truth), 3, matching)
    assert overlap(alone) < 0.75 < 0.85 < overlap(again) and not matching.overlap


def test_a_case_that_is_labelled_in_part_does_not_vote():
    refuse_partly_labeled({"case": "whole"})
    with pytest.raises(ValueError, match="case 'half' is labelled in part"):
        refuse_partly_labeled({"case": "half", "missing": (2,)})


def test_turns_follow_each_other():
    (image, label), (other, _) = scene(), scene(0.5)
    atlases, join = [Atlas("a", image, label), Atlas("b", image, label)], LocalVote(turns=2)
    first = join(carry(atlases, other, None, 3, QUICK))
    vote, last = take_vote(atlases, other, None, 3, QUICK, join)
    assert torch.equal(vote, join(carry_again(atlases, other, first, 3, QUICK))) and len(last) == 2
    assert torch.equal(take_vote(atlases, other, None, 3, QUICK, LocalVote())[0], first)
    with pytest.raises(ValueError, match="1 or more, found 0"):
        LocalVote(turns=0)


def carried(prob, difference, correlation=0.0):
    clues = torch.tensor([correlation, correlation, correlation, *[math.log(difference)] * 3]).view(1, 6, 1, 1, 1)
    return Carried("x", torch.tensor([1 - prob, prob]).view(1, 2, 1, 1, 1), clues, None)


def test_the_weight_of_an_atlas_is_the_inverse_square_of_its_difference():
    near, far = carried(1.0, 0.005), carried(0.0, 0.010)  # (0.005)^-2 to (0.010)^-2 is 4 to 1
    assert float(LocalVote("difference")([near, far])[0, 1]) == pytest.approx(0.8, abs=1e-5)
    assert float(LocalVote("equal")([near, far])[0, 1]) == pytest.approx(0.5)
    alike = carried(1.0, 0.005, 0.5), carried(0.0, 0.010, 0.3)  # 2 to 1, times exp(3 * (0.5 + 0.5 - 0.3 - 0.3))
    odds = 2 * math.exp(1.2)
    assert float(LocalVote("likeness")(alike)[0, 1]) == pytest.approx(odds / (1 + odds), abs=1e-5)
    judge = Judge(torch.tensor([0.0, 2.0, 0, 0, 0, 0, -7.0]))  # logits of -6 and -6.4: exp(2 * 0.4) to 1
    assert float(LocalVote("learned", judge=judge)(alike)[0, 1]) == pytest.approx(1 / (1 + math.exp(-0.8)), abs=1e-5)
    with pytest.raises(ValueError, match="'difference', 'equal', 'learned'.*'both'"):
        LocalVote("both")
    with pytest.raises(ValueError, match="needs a judge"):
        LocalVote("learned")
