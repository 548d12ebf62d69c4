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

"""What two images say of each other around a voxel, and a judge that learns from it, against what can be derived."""

from __future__ import annotations

import math

import torch

from scripts.matching.clues import DIFFERENCE, FLOOR, find_clues, learn_judge


def noise(seed):
    return torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_images_that_are_the_same_correlate_and_do_not_differ():
    clues = find_clues(noise(0), noise(0))
    assert clues.shape == (1, 6, 12, 12, 12)
    assert float(clues[:, :DIFFERENCE].min()) > 0.99
    torch.testing.assert_close(clues[:, DIFFERENCE:], torch.full((1, 3, 12, 12, 12), math.log(FLOOR)))


def test_brightness_differs_and_still_correlates_and_an_inverse_does_not():
    image = 0.5 * noise(0)
    brighter, inverse = find_clues(image + 0.2, image), find_clues(0.5 - image, image)
    assert float(brighter[:, :DIFFERENCE].min()) > 0.97 and float(inverse[:, :DIFFERENCE].max()) < -0.97
    torch.testing.assert_close(brighter[:, DIFFERENCE:], torch.full((1, 3, 12, 12, 12), math.log(0.04 + FLOOR)))


def test_a_voxel_knows_its_own_surroundings_only():
    image, changed = noise(0), noise(0)
    changed[..., 6] = 0
    clues = find_clues(changed, image)
    assert float(clues[:, 0, ..., :5].min()) > 0.99 > float(clues[:, 0, ..., 6].max())


def test_a_judge_finds_the_odds_that_made_its_examples():
    rng = torch.Generator().manual_seed(0)
    clues = torch.randn(40000, 6, generator=rng) * torch.tensor([1.0, 2, 0.5, 1, 1, 3]) + 1
    logits = 1.5 * clues[:, 0] - 0.5 * clues[:, 1] + 0.3
    judge = learn_judge(clues, torch.rand(40000, generator=rng) < logits.sigmoid())
    expected = torch.tensor([1.5, -0.5, 0, 0, 0, 0, 0.3])
    torch.testing.assert_close(judge.weights, expected, atol=0.1, rtol=0)
    asked = judge(clues[:8].T.reshape(1, 6, 2, 2, 2))
    assert asked.shape == (1, 1, 2, 2, 2)
    by_hand = clues[:8] @ judge.weights[:-1] + judge.weights[-1]
    torch.testing.assert_close(asked.flatten(), by_hand, atol=1e-4, rtol=0)
