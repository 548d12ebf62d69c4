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

"""What :func:`deeprs.register` and :func:`deeprs.segment` return: arrays that know where they lie, and a transform."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .bundle.scripts.data.volumes import Volume
from .bundle.scripts.fields.grids import change_grid, inside_grid, lps_to_ras, ras_to_lps
from .bundle.scripts.registration.pair_result import PairResult
from .bundle.scripts.registration.register_files import write_pair, write_transform

__all__ = ["LabelMap", "Registration", "Volume"]

logger = logging.getLogger(__name__)

COORDINATES = ("RAS", "LPS")


@dataclass(frozen=True, eq=False, repr=False)
class LabelMap(Volume):
    """A :class:`Volume` of ids, and what they mean.

    Args:
        array: (X, Y, Z), whole numbers; 0 is background.
        affine: (4, 4), voxel to RAS mm.
        labels: id -> name of the structure; the background is not in it.
    """

    labels: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Registration:
    """A registered pair. Every volume lies on the grid of the fixed image, with its shape (X, Y, Z) and its affine.

    Args:
        warped: the moving image, float32, interpolated once.
        warped_label: the ids of its label, never blended, where one was given.
        displacement: (X, Y, Z, 3) float32, moving point minus fixed point in millimetres, **LPS**, as ITK has it.
            The affine is RAS, as that of every volume.
        jacobian: |J|, float32: how much volume grows from fixed to moving; 0 or less is a fold.
        confidence: 0 to 1, float32, where the recipe has one.
        summary: the figures of ``summary.json``: local NCC before and after, percent of folding, ...
    """

    warped: Volume
    warped_label: LabelMap | None
    displacement: Volume
    jacobian: Volume
    confidence: Volume | None
    summary: Mapping[str, Any]
    _result: PairResult = field(repr=False)

    def points(self, points: Any, coordinates: str = "RAS", inverse: bool = False) -> np.ndarray:
        """Carry points of the fixed image to where they lie in the moving one, as `apply` does with the written field.

        Args:
            points: (..., 3), mm.
            coordinates: ``RAS`` or ``LPS``, of the points that go in and of those that come out.
            inverse: from the moving image to the fixed one instead.

        Returns:
            (..., 3), mm, float64. Those outside of the fixed image are warned of.

        Raises:
            ValueError: the points have another shape, or the coordinates another name.
        """
        positions = torch.as_tensor(np.asarray(points, dtype=np.float64))
        if positions.shape[-1:] != (3,):
            raise ValueError(f"points: expected shape (..., 3), mm, found {tuple(positions.shape)}.")
        if coordinates not in COORDINATES:
            raise ValueError(f"coordinates: expected one of {list(COORDINATES)}, found {coordinates!r}.")
        transform, turned = self._result.transform, coordinates == "LPS"
        positions = lps_to_ras(positions) if turned else positions
        moved = (transform.inverse() if inverse else transform)(positions)
        voxels = change_grid(moved if inverse else positions, torch.eye(4), torch.from_numpy(self._result.affine))
        outside = ~inside_grid(voxels, self.warped.array.shape)
        if count := int(outside.sum()):
            logger.warning("%d of %d points lie outside of the fixed image", count, outside.numel())
        return (ras_to_lps(moved) if turned else moved).numpy()

    def save(self, folder: str | Path) -> None:
        """Write what `registering` writes: volumes, the transform twice, a picture and ``summary.json``.

        Args:
            folder: a result that was there before is replaced once the new one is complete.

        Raises:
            ValueError: the axes of the fixed image are not at right angles, which files of ITK cannot have.
        """
        write_pair(Path(folder).expanduser(), self._result)

    def write_transform(self, path: str | Path) -> None:
        """Write the transform alone, for ITK, SimpleITK, ANTs and Slicer: it takes fixed points to moving ones.

        Args:
            path: ends in ``.h5`` for a transform of ITK, in ``.nii.gz`` or ``.nii`` for a field (intent 1007, LPS mm).

        Raises:
            ValueError: the path has another ending, or the axes of the fixed image are not at right angles.
        """
        write_transform(Path(path).expanduser(), self._result.transform, self._result.fixed)


def registration_of(result: PairResult, labels: Mapping[int, str]) -> Registration:
    """What the user gets of a result; `labels`: id -> name."""
    affine = result.affine
    volumes = {name: _volume(getattr(result, name), affine) for name in ("warped", "jacobian", "confidence")}
    label = None if result.warped_label is None else LabelMap(result.warped_label, affine, labels)
    displacement = Volume(result.displacement.numpy(), affine)
    return Registration(
        **volumes, warped_label=label, displacement=displacement, summary=result.summary, _result=result
    )


def _volume(array: np.ndarray | None, affine: np.ndarray) -> Volume | None:
    return None if array is None else Volume(array, affine)
