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

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.warping import warp
from .match import Matching

__all__ = ["WEIGHTINGS", "Atlas", "Carried", "LocalVote", "carry", "carry_again", "take_vote"]

WEIGHTINGS = ("difference", "equal")
CONSENSUS = 1.0  # weight of the overlap with a vote, beside the likeness of the images
WINDOW, FLOOR, POWER = 3, 1e-3, 2.0  # of the weight by difference: chosen on the labelled cases of abdominal CT


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


@dataclass(frozen=True)
class Carried:
    """An atlas on another image.

    Args:
        case: name of the atlas.
        prob: its classes there, (1, C, D, H, W), linear; background where it comes from outside.
        difference: squared difference of the images, averaged over a window, (1, 1, D, H, W).
        ddf: the field, (1, 3, D, H, W).
    """

    case: str
    prob: Tensor
    difference: Tensor
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
    label = F.one_hot(atlas.label[:, 0].long(), num_classes).movedim(-1, 1).float()
    ddf = matching(atlas.image, image, None if prob is None else label, prob)
    classes = warp(label[:, 1:], ddf)
    known = torch.cat([1 - classes.sum(dim=1, keepdim=True), classes], dim=1)
    apart = (warp(atlas.image, ddf) - image).square()
    difference = F.avg_pool3d(apart, WINDOW, stride=1, padding=WINDOW // 2)
    return Carried(atlas.case, known, difference, ddf)


class LocalVote:
    """Joins carried labels: at each voxel, each atlas counts by how much it can be trusted there.

    ``difference``: by how alike the images are around the voxel. ``equal``: all alike, which is better for good fields
    and thin structures. Which one holds for a data set is seen by leaving out one labelled case after the other.

    Args:
        weighting: ``difference`` or ``equal``.
        turns: how often atlases are carried, from the second time on with what they said before.

    Raises:
        ValueError: ``weighting`` is neither, or ``turns`` is below 1.
    """

    def __init__(self, weighting: str = "difference", turns: int = 1) -> None:
        if turns < 1:
            raise ValueError(f"turns: expected 1 or more, found {turns}.")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: expected one of {list(WEIGHTINGS)}, found {weighting!r}.")
        self.weighting, self.turns = weighting, turns

    def __call__(self, carried: Sequence[Carried]) -> Tensor:
        """Join.

        Args:
            carried: at least one.

        Returns:
            Class probabilities (1, C, D, H, W).
        """
        total, weights = 0.0, 0.0
        for one in carried:
            weight = (one.difference + FLOOR) ** -POWER if self.weighting == "difference" else 1.0
            total, weights = total + weight * one.prob, weights + weight
        return total / weights
