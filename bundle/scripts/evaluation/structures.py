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
"""The scores of every structure of one case, whatever made the prediction: a network, a field, another program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from ..fields.metrics import SURFACE_SCORES, dice_per_structure, surface_distances

__all__ = ["score_structures"]


def score_structures(
    pred: torch.Tensor,
    truth: torch.Tensor,
    structures: Sequence[str],
    spacing: Sequence[float],
    missing: Collection[int] = (),
) -> list[dict[str, Any]]:
    """Score a prediction against the truth.

    Args:
        pred: classes (1, X, Y, Z) on the grid of the truth.
        truth: classes (1, X, Y, Z).
        structures: names of the classes 1, 2, ...
        spacing: voxel size in mm.
        missing: classes that are not to be scored, as nobody has drawn them.

    Returns:
        A row for each structure: ``structure``, ``dice``, ``hd95``, ``asd``, ``surface_dice_1`` and ``surface_dice_2``.
        All are NaN for a structure that neither of the two has, or that is missing; one that only one of them has, has
        Dice and surface Dice 0 and no distance. Voxels where either is above the last class are to be ignored, and
        background on both sides.
    """
    classes = len(structures) + 1
    told = (pred < classes) & (truth < classes)
    pred, truth = (label * told for label in (pred, truth))
    for number in missing:
        pred, truth = (label * (label != number) for label in (pred, truth))
    surfaces = surface_distances(pred[None], truth[None], classes, spacing)
    scores = {"dice": dice_per_structure(pred[None], truth[None], classes)[0]} | {
        n: surfaces[n] for n in SURFACE_SCORES
    }
    columns = zip(*(torch.as_tensor(values).tolist() for values in scores.values()), strict=True)
    return [
        {"structure": name, **dict(zip(scores, values, strict=True))}
        for name, values in zip(structures, columns, strict=True)
    ]
