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
"""Labelled cases that answer in place of a network."""

from __future__ import annotations

import pytest
import torch
from tiny_joint import NUM_CLASSES, SIDE, make_networks, make_pair
from torch import nn

from scripts.data.review import estimated_dice, overlaps
from scripts.matching.match import Matching
from scripts.matching.vote import Atlas, LocalVote, carry
from scripts.methods.voting import Confidenced, Reviewed, VotedSegmentation, voted, with_votes

MATCHING = Matching(levels=[[4, 2, 2]])


class Counted(nn.Module):
    """A network that counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.network, self.count = make_networks()["segmentation"], 0

    def forward(self, image):
        self.count += 1
        return self.network(image)


def atlases():
    for seed, case in enumerate("ab"):
        pair = make_pair(seed=seed)
        yield Atlas(case, pair["moving_image"], pair["moving_label"])


def wrap(network=None, **options):
    network = Counted() if network is None else network
    return VotedSegmentation(network, list(atlases()), NUM_CLASSES, MATCHING, LocalVote(), **options).eval()


def joined(vote, own, share=0.7):
    """What both say, never quite 0."""
    probability = (share * vote + (1 - share) * own).clamp(min=1e-4)
    return probability / probability.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_the_answer_is_the_mean_with_the_vote_whose_affine_is_by_the_network(share):
    image, module = make_pair(seed=5)["fixed_image"], wrap(share=share)
    prob = module.network(image).softmax(dim=1).detach()
    vote = LocalVote()(carry(list(atlases()), image, prob, NUM_CLASSES, MATCHING))
    expected = joined(vote, prob, share)
    found = module(image).exp()
    assert found.shape == (1, NUM_CLASSES, SIDE, SIDE, SIDE) and not found.requires_grad
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_an_answer_is_as_sure_as_both_sources_together():
    image, module = make_pair(seed=5)["fixed_image"], wrap()
    own = module.network(image).softmax(dim=1).detach()
    vote = LocalVote()(carry(list(atlases()), image, own, NUM_CLASSES, MATCHING))
    chosen = joined(vote, own).argmax(dim=1, keepdim=True)
    expected = own.gather(1, chosen) * vote.gather(1, chosen)
    torch.testing.assert_close(module.confidence(image), expected, atol=1e-5, rtol=0)
    data = Confidenced(keys="pred", network=module)({"image": image[0], "pred": module(image)[0]})
    torch.testing.assert_close(data["confidence"], expected[0], atol=1e-5, rtol=0)


def test_a_network_alone_is_as_sure_as_its_largest_probability():
    logits = torch.tensor([0.0, 2.0]).log1p().view(2, 1, 1, 1).expand(2, 3, 3, 3)  # of 1/4 and 3/4
    data = Confidenced(keys="pred", network=nn.Identity())({"image": torch.zeros(1, 3, 3, 3), "pred": logits})
    torch.testing.assert_close(data["confidence"], torch.full((1, 3, 3, 3), 0.75))


def test_with_votes_a_review_goes_by_both_sources_and_says_how_far_they_agree():
    image, module = make_pair(seed=5)["fixed_image"], wrap()
    own = module.network(image).softmax(dim=1).detach()
    vote = LocalVote()(carry(list(atlases()), image, own, NUM_CLASSES, MATCHING))
    data = {"image": image[0], "pred": module(image)[0].softmax(dim=0)}
    review = Reviewed(keys="pred", network=module)(data)["review"]
    assert review["estimate"] == pytest.approx(
        estimated_dice((own * vote)[0], joined(vote, own)[0].argmax(dim=0)), abs=1e-4
    )
    assert review["agreement"] == overlaps(own[0].argmax(dim=0), vote[0].argmax(dim=0), NUM_CLASSES)


def test_a_network_alone_is_reviewed_by_its_own_probabilities():
    prob = torch.zeros(3, 5, 5, 5)
    prob[0], prob[1, 2, 2, 2], prob[0, 2, 2, 2], prob[2, 0, 2, 2], prob[0, 0, 2, 2] = 1, 0.6, 0.4, 1, 0
    review = Reviewed(keys="pred", network=nn.Identity())({"image": torch.zeros(1, 5, 5, 5), "pred": prob})["review"]
    assert review == {"estimate": pytest.approx([2 * 0.6 / 1.6, 1]), "cut_off": [False, True]}


def test_without_a_share_of_the_vote_the_answer_is_that_of_the_network():
    image, module = make_pair(seed=5)["fixed_image"], wrap(share=0.0)
    expected = module.network(image).softmax(dim=1)
    torch.testing.assert_close(module(image).exp(), expected, atol=1e-5, rtol=0)


def test_an_image_that_comes_again_is_not_carried_onto_again():
    image, module = make_pair(seed=5)["fixed_image"], wrap()
    first = module(torch.cat([image, image]))
    assert module.network.count == 1 and torch.equal(first[0], module(image)[0]) and module.network.count == 1
    module(make_pair(seed=6)["fixed_image"])
    assert module.network.count == 2


def test_a_labelled_image_does_not_vote_on_itself():
    first, second = atlases()
    prob = wrap().network(first.image).softmax(dim=1).detach()
    alone = LocalVote()(carry([second], first.image, prob, NUM_CLASSES, MATCHING))
    torch.testing.assert_close(wrap()(first.image).exp(), joined(alone, prob), atol=1e-5, rtol=0)


def test_no_vote_leaves_the_network_and_a_vote_needs_one(tmp_path):
    network = nn.Identity()
    assert voted(network, None, dict, {}, tmp_path) is network
    assert with_votes({"registration": network}, None) == {"registration": network}
    with pytest.raises(ValueError, match="no segmentation network"):
        with_votes({"registration": network}, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        voted(network, tmp_path / "nowhere", dict, {"1": "one"}, tmp_path)
