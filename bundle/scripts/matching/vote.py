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

"""Labelled images carried onto another one, and what their labels say there, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.warping import warp
from .clues import DIFFERENCE, Judge, find_clues
from .match import Matching

__all__ = [
    "WEIGHTINGS",
    "Atlas",
    "Carried",
    "LocalVote",
    "carry",
    "carry_again",
    "carry_by",
    "examples",
    "refuse_partly_labeled",
    "take_vote",
]

WEIGHTINGS = ("likeness", "difference", "equal", "learned")
CONSENSUS = 1.0  # weight of the overlap with a vote, beside the likeness of the images
SAMPLED = 20000  # voxels of a pair that a judge learns from


@dataclass(frozen=True)
class Atlas:
    """A labelled image as the networks see it.

    Args:
        case: its name.
        image: (1, 1, D, H, W) in [0, 1].
        label: (1, 1, D, H, W), classes.
    """

    case: str
    image: Tensor
    label: Tensor


def refuse_partly_labeled(case: Mapping[str, Any]) -> None:
    """Refuse a case whose label does not say everything: what it leaves out would vote for background.

    Raises:
        ValueError: it has ``missing``.
    """
    if "missing" in case:
        raise ValueError(
            f"case '{case['case']}' is labelled in part (`missing`, or voxels to be ignored), and cannot vote. Label "
            "all of it, leave it out of the data set that votes, or take a recipe without votes."
        )


@dataclass(frozen=True)
class Carried:
    """An atlas on another image.

    Args:
        case: name of the atlas.
        prob: its classes there, (1, C, D, H, W), linear; background where it comes from outside.
        clues: how alike the images are around each voxel, (1, 6, D, H, W): :func:`scripts.matching.clues.find_clues`.
        ddf: the field, (1, 3, D, H, W).
    """

    case: str
    prob: Tensor
    clues: Tensor
    ddf: Tensor


def carry(
    atlases: Sequence[Atlas], image: Tensor, prob: Tensor | None, num_classes: int, matching: Matching
) -> list[Carried]:
    """Carry atlases onto an image.

    Args:
        atlases: on grids with voxels of the size of the image's.
        image: (1, 1, D, H, W) in [0, 1].
        prob: class probabilities of the image, for the affine; None: the affine is that of the images.
        num_classes: with background.
        matching: registers. It must not see classes beyond the affine, or what it carries repeats what it was told.

    Raises:
        ValueError: ``matching`` has an ``overlap``.
    """
    if matching.overlap:
        raise ValueError("labels are carried by fields that see images only: set `overlap` of this matching to 0.")
    return [_carry(atlas, image, prob, num_classes, matching) for atlas in atlases]


def carry_again(
    atlases: Sequence[Atlas], image: Tensor, vote: Tensor, num_classes: int, matching: Matching
) -> list[Carried]:
    """Carry atlases once more, by fields that see, beside the images, what all of them said together.

    What one of them gets wrong the others put right. Nothing of a segmentation network is in a vote of :func:`carry`,
    so that these fields owe it nothing but its affine, either.

    Args:
        atlases, image, num_classes, matching: as for :func:`carry`.
        vote: class probabilities (1, C, D, H, W) on the image.
    """
    return [_carry(atlas, image, vote, num_classes, matching.seeing(CONSENSUS)) for atlas in atlases]


def take_vote(
    atlases: Sequence[Atlas], image: Tensor, prob: Tensor | None, num_classes: int, matching: Matching, join: LocalVote
) -> tuple[Tensor, list[Carried]]:
    """Carry atlases onto an image, join what they say, and do so again as often as ``join.turns`` says.

    Args:
        atlases, image, prob, num_classes, matching: as for :func:`carry`.
        join: joins.

    Returns:
        Class probabilities (1, C, D, H, W), and the atlases as they were carried last.
    """
    carried = carry(atlases, image, prob, num_classes, matching)
    vote = join(carried)
    for _ in range(1, join.turns):
        carried = carry_again(atlases, image, vote, num_classes, matching)
        vote = join(carried)
    return vote, carried


def _carry(atlas: Atlas, image: Tensor, prob: Tensor | None, num_classes: int, matching: Matching) -> Carried:
    known = None if prob is None else _classes(atlas.label, num_classes)
    return carry_by(atlas, image, matching(atlas.image, image, known, prob), num_classes)


def carry_by(atlas: Atlas, image: Tensor, ddf: Tensor, num_classes: int) -> Carried:
    """An atlas on an image by a field that is known; arguments as for :func:`carry` and :class:`Carried`."""
    classes = warp(_classes(atlas.label, num_classes)[:, 1:], ddf)
    known = torch.cat([1 - classes.sum(dim=1, keepdim=True), classes], dim=1)
    return Carried(atlas.case, known, find_clues(warp(atlas.image, ddf), image), ddf)


def _classes(label: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(label[:, 0].long(), num_classes).movedim(-1, 1).float()


def examples(one: Carried, label: Tensor) -> tuple[Tensor, Tensor]:
    """What a judge learns from: clues (N, 6) where either label has a structure, and whether both agree (N,).

    Args:
        one: an atlas on a labelled image.
        label: of that image, (1, 1, D, H, W), classes.
    """
    found = one.prob.argmax(dim=1)
    there = (found > 0) | (label[:, 0] > 0)
    clues, right = one.clues.movedim(1, -1)[there], (found == label[:, 0])[there]
    step = max(1, len(right) // SAMPLED)  # evenly: the same each time
    return clues[::step], right[::step]


class LocalVote:
    """Joins carried labels: at each voxel, each atlas counts by how much it can be trusted there.

    ``likeness``: by the correlation and the difference of the images around the voxel. ``difference``: by the latter
    alone. ``equal``: all alike, which is better for good fields and thin structures. ``learned``: by what a judge says
    of the clues. Which one holds for a data set is seen by leaving out one labelled case after the other.

    Args:
        weighting: one of the above.
        turns: how often atlases are carried, from the second time on with what they said before.
        judge: of ``learned``.

    Raises:
        ValueError: ``weighting`` is none of them, ``learned`` has no judge, or ``turns`` is below 1.
    """

    def __init__(self, weighting: str = WEIGHTINGS[0], turns: int = 1, judge: Judge | None = None) -> None:
        if turns < 1:
            raise ValueError(f"turns: expected 1 or more, found {turns}.")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: expected one of {list(WEIGHTINGS)}, found {weighting!r}.")
        if weighting == "learned" and judge is None:
            raise ValueError("weighting 'learned' needs a judge, which is taught on labelled pairs.")
        self.weighting, self.turns, self.judge = weighting, turns, judge

    def __call__(self, carried: Sequence[Carried]) -> Tensor:
        """Join.

        Args:
            carried: at least one.

        Returns:
            Class probabilities (1, C, D, H, W).
        """
        weights = torch.cat([self._weigh(one.clues) for one in carried]).softmax(dim=0)
        return sum(weight * one.prob for weight, one in zip(weights[:, None], carried, strict=True))

    def _weigh(self, clues: Tensor) -> Tensor:
        """Logarithm of the weight, (1, 1, D, H, W); its factors are those of the labelled cases of abdominal CT."""
        difference = clues[:, DIFFERENCE, None]
        if self.weighting == "likeness":
            return 3 * (clues[:, 1, None] + clues[:, 2, None]) - difference
        if self.weighting == "difference":
            return -2 * difference
        if self.weighting == "learned":
            return 2 * self.judge(clues)
        return torch.zeros_like(difference)
