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

"""The volumes of an evaluation that are kept for pictures: those of its worst, median and best case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import nibabel
import numpy as np
import torch

from ..fields.grids import spacing_of, voxel_points
from ..fields.warping import warp_label
from ..fields.world import sample_label_at
from ..files import processes
from ..registration.pair import Registered, Subject

__all__ = ["pair_example", "segmentation_example", "worst_median_best"]

Entry = TypeVar("Entry", bound=tuple)


def worst_median_best(ranking: Sequence[Entry]) -> list[Entry]:
    """Three entries of a list of (Dice, ...), which may be the same when there are fewer. None in further processes."""
    if processes.rank() > 0:
        return []
    ranked = sorted((entry for entry in ranking if math.isfinite(entry[0])), key=lambda entry: entry[0])
    return [ranked[i] for i in (0, len(ranked) // 2, -1)] if ranked else []


def segmentation_example(subject: Subject, pred: torch.Tensor, dice: float, num_classes: int) -> dict[str, Any]:
    """A segmented case on the grid of its file, axes to the right, the front and the top, with its affine.

    Args:
        subject: with its label.
        pred: classes (1, X, Y, Z) on the file's grid.
        dice: mean over the structures.
        num_classes: with the background; voxels of the label above it are to be ignored.
    """
    affine = np.asarray(subject.file.affine)
    volumes = {
        "image": _unit_range(subject.file[0]),
        "label": _known(subject.label.as_tensor()[0], num_classes).numpy().astype(np.uint8),
        "pred": pred[0].numpy().astype(np.uint8),
    }
    to_ras = nibabel.io_orientation(affine)
    volumes = {name: nibabel.apply_orientation(volume, to_ras) for name, volume in volumes.items()}
    affine = affine @ nibabel.orientations.inv_ornt_aff(to_ras, subject.file.shape[1:])
    placed = {"spacing": np.array(spacing_of(affine)), "affine": affine}
    return {**volumes, **placed, "case": subject.case, "dice": dice}


def pair_example(
    result: Registered,
    moving: Subject,
    fixed: Subject,
    num_classes: int,
    dice: float,
    identity_dice: float,
) -> dict[str, Any]:
    """A registered pair on the networks' grid, with the affine of the fixed image there.

    Args:
        result: of registering the pair.
        moving: the subject that was pulled, with its label.
        fixed: the subject that stayed, with its label.
        num_classes: with the background.
        dice: mean over the structures.
        identity_dice: the same of doing nothing.
    """
    moving_label, fixed_label = (
        sample_label_at(
            subject.label.as_tensor(),
            subject.label.affine,
            voxel_points(subject.network.shape[1:], subject.network.affine),
        ).to(torch.uint8)
        for subject in (moving, fixed)
    )
    warped_label = warp_label(moving_label[None].to(result.ddf.device), result.ddf, num_classes)
    volumes = {
        "moving": result.pair.moving_image[0, 0],
        "fixed": result.pair.fixed_image[0, 0],
        "warped": result.pair.warped_image[0, 0],
        "moving_label": _known(moving_label[0], num_classes),
        "fixed_label": _known(fixed_label[0], num_classes),
        "warped_label": warped_label[0, 0].to(torch.uint8),
        "ddf": result.ddf[0],
    }
    if result.pair.has_confidence:
        volumes["confidence"] = result.pair.confidence[0, 0]
    return {
        **{name: volume.cpu().numpy() for name, volume in volumes.items()},
        "moving_case": moving.case,
        "fixed_case": fixed.case,
        "dice": dice,
        "identity_dice": identity_dice,
        "spacing": spacing_of(fixed.network.affine),
        "affine": np.asarray(fixed.network.affine),
    }


def _known(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """A label for pictures: what is to be ignored is shown as background."""
    return label * (label < num_classes)


def _unit_range(image: torch.Tensor) -> np.ndarray:
    """An image for pictures: its 1st to 99th percentile become 0 to 1."""
    array = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(array, (1, 99))
    return np.clip((array - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
