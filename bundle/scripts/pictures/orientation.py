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
"""Orientation: where the axes of an array lead in the patient, and from which side the patient is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from ..fields.grids import spacing_of

__all__ = ["VIEWS", "Frame", "checked_view"]

#: "radiological": the patient's right is on the left of a picture, as if seen from the feet, or face to face
VIEWS = ("radiological", "neurological")
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
OBLIQUE = 1.0  # degrees between an axis and the direction that it is named after, from which on that is told


def checked_view(view: str) -> str:
    """Return ``view``.

    Raises:
        ValueError: it is none of ``VIEWS``.
    """
    if view not in VIEWS:
        raise ValueError(f"view: expected one of {list(VIEWS)}, found {view!r}.")
    return view


@dataclass(frozen=True)
class Frame:
    """How a volume lies in the patient, and how it is looked at.

    Args:
        spacing: voxel sizes of the three axes, in mm.
        codes: where each axis leads, nearly: ``RAS`` to the right, the front and the head. None: not known, and
            pictures have no letters.
        oblique: degrees between an axis and the direction that it is named after, at most.
        view: ``radiological`` or ``neurological``.
    """

    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    codes: str | None = None
    oblique: float = 0.0
    view: str = VIEWS[0]

    @classmethod
    def of(cls, affine: Any, view: str = VIEWS[0]) -> Frame:
        """The frame of a grid.

        Args:
            affine: (4, 4), voxel to RAS mm.
            view: ``radiological`` or ``neurological``.
        """
        matrix = np.asarray(affine, dtype=float)
        closest = nibabel.io_orientation(matrix)[:, 0].astype(int)  # the direction of the patient of each axis
        cosines = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
        oblique = np.degrees(np.arccos(np.clip(np.abs(cosines[closest, range(3)]), 0, 1))).max()
        return cls(spacing_of(matrix), "".join(nibabel.aff2axcodes(matrix)), float(oblique), checked_view(view))

    @property
    def is_oblique(self) -> bool:
        """Whether letters name directions that are only the closest ones."""
        return self.oblique > OBLIQUE

    def axis_towards(self, letter: str) -> tuple[int, bool]:
        """The axis that leads to a side of the patient, and whether it leads away from it."""
        codes = self.codes or "RAS"
        return (codes.index(letter), False) if letter in codes else (codes.index(OPPOSITE[letter]), True)
