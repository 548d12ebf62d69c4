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

from .orientation import OPPOSITE, VIEWS, Frame

# Of each plane: what lies to the right, upwards, and towards what its slices are counted; seen from the patient's feet,
# face, and left side. The anterior is on the left of a sagittal plane in both views.
PLANES = {"axial": ("L", "A", "S"), "coronal": ("L", "S", "A"), "sagittal": ("P", "S", "R")}
# The same where the orientation is not known: array axes as they are, named as those of RAS.
AS_STORED = {"axial": ("R", "A", "S"), "coronal": ("R", "S", "A"), "sagittal": ("A", "S", "R")}


@dataclass(frozen=True)
class Plane:
    """One slice through a volume: which axis it cuts, where, how it is turned, and how large its pixels are.

    Args:
        name: axial, coronal or sagittal.
        axis: the array axis that is cut.
        index: the slice along that axis.
        spacing: voxel sizes of the volume's three axes, in mm.
        horizontal: the array axis that runs along the picture's rows.
        vertical: the array axis that runs upwards or downwards in the picture.
        flipped: whether the array runs to the left, downwards, and against the direction in which slices are counted.
        letters: of the patient's sides at the left, right, bottom and top of the picture; None where not known.
        oblique: degrees by which these are only the closest ones; 0 where the axes are those of the patient.
    """

    name: str
    axis: int
    index: int
    spacing: tuple[float, ...]
    horizontal: int
    vertical: int
    flipped: tuple[bool, bool, bool] = (False, False, False)
    letters: tuple[str, str, str, str] | None = None
    oblique: float = 0.0

    @property
    def title(self) -> str:
        """What stands beside the slice: its name, and whether it is oblique."""
        return f"{self.name}\noblique {self.oblique:.0f}°" if self.oblique else self.name

    @property
    def signs(self) -> tuple[int, int]:
        """+1 where the array runs to the right (upwards) in the picture, -1 where it runs the other way."""
        across, up, _ = self.flipped
        return -1 if across else 1, -1 if up else 1

    def take(self, volume: np.ndarray) -> np.ndarray:
        """Cut ``volume`` (X, Y, Z) into an image of rows (from the bottom up) and columns (from left to right)."""
        image = np.take(volume, self.index, axis=self.axis)
        image = image.T if self.horizontal < self.vertical else image
        across, up = self.signs
        return image[::up, ::across]

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


def planes_through(center: Sequence[int], frame: Frame | None = None) -> tuple[Plane, Plane, Plane]:
    """Return the axial, coronal and sagittal plane of the patient through a voxel.

    Args:
        center: the voxel, (x, y, z) of the array.
        frame: how the array lies and is looked at; voxels of 1 mm in an orientation that is not known when absent.
    """
    frame = frame or Frame()
    return tuple(_plane(name, center, frame) for name in PLANES)


def _plane(name: str, center: Sequence[int], frame: Frame) -> Plane:
    right, up, through = (PLANES if frame.codes else AS_STORED)[name]
    if frame.view != VIEWS[0] and right == "L":
        right = "R"
    (horizontal, across), (vertical, down), (axis, back) = map(frame.axis_towards, (right, up, through))
    return Plane(
        name,
        axis,
        center[axis],
        frame.spacing,
        horizontal,
        vertical,
        (across, down, back),
        (OPPOSITE[right], right, OPPOSITE[up], up) if frame.codes else None,
        frame.oblique if frame.is_oblique else 0.0,
    )
