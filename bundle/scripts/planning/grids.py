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
"""The grids that a plan may choose, from the finest that the data give to the coarsest that shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .fingerprint import Fingerprint

__all__ = ["Grid", "grids_of", "region_of"]

STEP = 1.03  # from one voxel size to the next
SMALLEST_SIDE = 16  # voxels, below which networks of two levels have nothing left
SMALLEST_STRUCTURE = 4  # voxels that the smallest structure of any case keeps, so that none is lost
MARGIN = 2  # voxels of the files beside the labels, and as many standard deviations of where they lie


@dataclass(frozen=True)
class Grid:
    """A grid of the networks.

    Args:
        size: voxels.
        voxel: mm.
        resampled: False where it is the voxel size of every file.
    """

    size: tuple[int, ...]
    voxel: tuple[float, ...]
    resampled: bool = True

    @property
    def voxels(self) -> int:
        return math.prod(self.size)


def region_of(fingerprint: Fingerprint) -> tuple[np.ndarray, np.ndarray]:
    """What a grid about the middle of the images has to show, and what it should.

    Returns:
        (3,) mm that hold every label; (3,) mm with a margin for cases without a label, which lie as far apart, but no
        more than the largest image. Without labels both are the median image.
    """
    extent, spacing = np.array(fingerprint.extent), np.array(fingerprint.spacing)
    if not fingerprint.labeled:
        middle = np.multiply(fingerprint.shape, spacing)
        return middle, middle
    labels = 2 * np.array(fingerprint.reach)
    return labels, np.minimum(extent, labels + 2 * MARGIN * (np.array(fingerprint.spread) + spacing)).clip(min=labels)


def grids_of(
    fingerprint: Fingerprint,
    multiple: int,
    pixdim: Sequence[float] | None = None,
    spatial_size: Sequence[int] | None = None,
) -> list[Grid]:
    """All grids that hold the labels, the finest first.

    Voxels grow from the median spacing, the finest axis first, so that they become cubes before they become large.

    Args:
        fingerprint: of the cases.
        multiple: what each side has to be a multiple of.
        pixdim: the voxel size, where somebody has chosen it.
        spatial_size: likewise, the number of voxels.
    """
    labels, wanted = region_of(fingerprint)
    spacing = np.array(fingerprint.spacing)
    found: dict[tuple[int, ...], Grid] = {}
    for voxel in [np.array(pixdim, float)] if pixdim is not None else _voxels(fingerprint, labels, spatial_size):
        size = _size(labels, wanted, voxel, multiple) if spatial_size is None else tuple(spatial_size)
        resampled = not (fingerprint.is_uniform and np.allclose(voxel, spacing, rtol=1e-3))
        found.setdefault(size, Grid(size, tuple(float(f"{mm:.3g}") for mm in voxel), resampled))
    return list(found.values())


def _voxels(fingerprint: Fingerprint, labels: np.ndarray, spatial_size: Sequence[int] | None) -> Iterator[np.ndarray]:
    """(3,) mm; with a size, the finest that shows the labels in it."""
    spacing = np.array(fingerprint.spacing)
    if spatial_size is not None:
        yield np.maximum(spacing, np.ceil(100 * labels / np.array(spatial_size)) / 100)
        return
    smallest = min((least for _, least in fingerprint.volumes.values()), default=math.inf)
    side = spacing.min()
    while True:
        voxel = np.maximum(spacing, side)
        is_first = side == spacing.min()
        if not is_first and (voxel.prod() * SMALLEST_STRUCTURE > smallest or (labels / voxel).max() < SMALLEST_SIDE):
            return
        yield voxel
        side *= STEP


def _size(labels: np.ndarray, wanted: np.ndarray, voxel: np.ndarray, multiple: int) -> tuple[int, ...]:
    least = np.ceil(labels / voxel / multiple - 1e-6)
    sides = np.maximum(least, np.round(wanted / voxel / multiple)) * multiple
    smallest = -(-SMALLEST_SIDE // multiple) * multiple
    return tuple(int(side) for side in sides.clip(min=smallest))
