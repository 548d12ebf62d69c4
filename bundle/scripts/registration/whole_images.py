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

"""How two images of any size are brought onto one grid where nothing was trained that would say how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ..data.preprocessing import Preprocessing
from ..data.readers import load_volume
from ..data.volumes import Volume
from ..fields.grids import spacing_of

__all__ = ["WholeImages"]

MULTIPLE = 4  # of the sides
LEAST = 16  # voxels a side


class WholeImages:
    """Preprocessing for each pair by itself: whole images, in even voxels of about the size of the fixed image's.

    Both lie centre on centre. Where the two together need more voxels than there may be, the voxels are larger.

    Args:
        max_voxels: of the grid.
        intensity, intensity_range: as for :class:`scripts.data.preprocessing.Preprocessing`.
    """

    def __init__(
        self,
        max_voxels: int = 1_500_000,
        intensity: str = "percentiles",
        intensity_range: Sequence[float] = (1, 99.5),
    ) -> None:
        self.max_voxels = max_voxels
        self.intensity, self.intensity_range = intensity, tuple(intensity_range)

    def for_pair(self, moving: str | Path | Volume, fixed: str | Path | Volume) -> Preprocessing:
        """The preprocessing of a pair."""
        moving_extent, _ = _extent(moving)
        fixed_extent, spacing = _extent(fixed)
        extent = np.maximum(moving_extent, fixed_extent)  # mm
        voxel = float(np.prod(spacing) ** (1 / 3))
        voxel *= max(1.0, float(np.prod(extent / voxel) / self.max_voxels) ** (1 / 3))
        size = [max(LEAST, MULTIPLE * math.ceil(side / voxel / MULTIPLE - 1e-3)) for side in extent]
        return Preprocessing(size, pixdim=[voxel] * 3, intensity=self.intensity, intensity_range=self.intensity_range)


def _extent(image: str | Path | Volume) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in mm from right to left, back to front, bottom to top, and the voxel size as stored."""
    volume = image.as_image("image") if isinstance(image, Volume) else load_volume(str(image))
    affine, spacing = np.asarray(volume.affine), np.asarray(spacing_of(volume.affine))
    axes = nib.io_orientation(affine)[:, 0].astype(int)
    lengths = np.zeros(3)
    lengths[axes] = np.asarray(volume.shape[1:]) * spacing
    return lengths, spacing
