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
"""What can be told of a segmentation without its true label: how well it probably overlaps, its size, its pieces.

Each function gives a value for each structure, in the order of the classes, without the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["estimated_dice", "measured_shapes", "overlaps", "touching"]


def estimated_dice(prob: Tensor, classes: Tensor) -> list[float]:
    """The Dice that a segmentation has with its own probabilities: where these are right, about that with the truth.

    For n voxels of a class and p its probability, 2 sum p (over them) / (n + sum p). Where p is 0 or 1 that is 1, and a
    class that is nowhere has 0.

    Args:
        prob: of each class, (C, D, H, W). The product of two sources need not sum to 1.
        classes: the segmentation, (D, H, W).
    """
    found = []
    for number in range(1, len(prob)):
        mask, share = classes == number, prob[number].double()
        found.append((2 * share[mask].sum() / (mask.sum() + share.sum()).clamp(min=1e-9)).item())
    return found


def overlaps(first: Tensor, second: Tensor, num_classes: int) -> list[float | None]:
    """Dice of two segmentations of one shape; None for a class that neither has.

    Args:
        first, second: classes.
        num_classes: with background.
    """
    found: list[float | None] = []
    for number in range(1, num_classes):
        one, other = first == number, second == number
        total = int(one.sum() + other.sum())
        found.append(2 * int((one & other).sum()) / total if total else None)
    return found


def touching(classes: Tensor, num_classes: int) -> list[bool]:
    """Whether a class reaches one of the six faces of a grid (D, H, W), where it may go on beyond."""
    faces = torch.cat([classes.select(axis, end).flatten() for axis in range(classes.ndim) for end in (0, -1)])
    return [bool((faces == number).any()) for number in range(1, num_classes)]


def measured_shapes(label: np.ndarray, affine: np.ndarray, label_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Volume, pieces, elongation, and whether a face of the grid is touched.

    Args:
        label: (X, Y, Z), with ids.
        affine: voxel to mm (4, 4).
        label_ids: the ids of the structures.

    Returns:
        For each ``volume_ml``; ``pieces``, which do not even touch at a corner; ``touches_border``; and ``elongation``,
        the longest over the shortest principal axis, None where there is nothing: 1 for a ball or a cube.
    """
    voxel = abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])) / 1000
    found = []
    for label_id in label_ids:
        mask = label == label_id
        boxes = ndimage.find_objects(mask.astype(np.uint8))
        box = boxes[0] if boxes else ()
        ends = [(part.start, part.stop, side) for part, side in zip(box, label.shape, strict=False)]
        pieces = ndimage.label(mask[box], np.ones((3, 3, 3)))[1] if boxes else 0
        touches = any(start == 0 or stop == side for start, stop, side in ends)
        shape = {"volume_ml": float(mask.sum() * voxel), "pieces": int(pieces), "touches_border": touches}
        found.append(shape | {"elongation": _elongation(mask[box], affine) if boxes else None})
    return found


def _elongation(mask: np.ndarray, affine: np.ndarray) -> float:
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    spread = np.cov(np.nonzero(mask), bias=True) + np.eye(3) / 12  # of centres, and within a voxel
    axes = np.linalg.eigvalsh(matrix @ spread @ matrix.T)
    return float(np.sqrt(axes[-1] / axes[0]))
