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
"""Planes: where a volume is cut to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Names for arrays in the axis order of RAS, and the axis that each plane cuts.
PLANE_AXES = (("axial", 2), ("coronal", 1), ("sagittal", 0))


@dataclass(frozen=True)
class Plane:
    """One slice through a volume: which axis it cuts, where, and how large its pixels are.

    Args:
        name: what a reader calls it, for arrays in the axis order of RAS (x, y, z).
        axis: the array axis that is cut.
        index: the slice along that axis.
        spacing: voxel sizes of the volume's three axes, in mm.
    """

    name: str
    axis: int
    index: int
    spacing: tuple[float, float, float]

    @property
    def horizontal(self) -> int:
        """The array axis that runs to the right in the picture."""
        return 1 if self.axis == 0 else 0

    @property
    def vertical(self) -> int:
        """The array axis that runs upwards in the picture."""
        return 1 if self.axis == 2 else 2

    def take(self, volume: np.ndarray) -> np.ndarray:
        """Cut ``volume`` (X, Y, Z) into an image of rows (vertical) and columns (horizontal)."""
        return np.take(volume, self.index, axis=self.axis).T

    def millimetres(self, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Horizontal and vertical positions in mm of the pixel centres of a volume of ``shape``."""
        return tuple(np.arange(shape[axis]) * self.spacing[axis] for axis in (self.horizontal, self.vertical))

    def extent(self, shape: Sequence[int]) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge in mm of the slice of a volume of ``shape``."""
        width, height = self.spacing[self.horizontal], self.spacing[self.vertical]
        return (
            -width / 2,
            (shape[self.horizontal] - 0.5) * width,
            -height / 2,
            (shape[self.vertical] - 0.5) * height,
        )


def label_center(label: np.ndarray | None, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the voxel at the centre of mass of all structures, or of the volume when there is no label to go by."""
    if label is None or not np.any(label):
        return tuple(size // 2 for size in shape)
    return tuple(int(round(float(positions.mean()))) for positions in np.nonzero(label))


def focus(labels: Sequence[np.ndarray], margin: float = 0.2) -> tuple[slice, slice, slice]:
    """Return the part of the volume that holds all structures of ``labels`` (X, Y, Z), so that they are drawn large.

    Args:
        labels: the labels that must be seen whole; nothing is cut away when they are empty.
        margin: space around the structures, as a fraction of their longest side in voxels.
    """
    occupied = np.any([label > 0 for label in labels], axis=0)
    if not occupied.any():
        return tuple(slice(0, size) for size in occupied.shape)
    ends = [(int(positions.min()), int(positions.max()) + 1) for positions in np.nonzero(occupied)]
    space = round(margin * max(last - first for first, last in ends))
    sizes = occupied.shape
    return tuple(slice(max(a - space, 0), min(b + space, n)) for (a, b), n in zip(ends, sizes, strict=True))


def planes_through(center: Sequence[int], spacing: Sequence[float] | None = None) -> tuple[Plane, Plane, Plane]:
    """Return the axial, coronal and sagittal planes through the voxel ``center``; ``spacing`` (mm) defaults to 1."""
    spacing = tuple(float(size) for size in spacing) if spacing is not None else (1.0, 1.0, 1.0)
    return tuple(Plane(name, axis, center[axis], spacing) for name, axis in PLANE_AXES)
