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

"""The grid that others are brought to: that of a reference, its axes turned, cut to a region, in other voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.transforms import Orientation

from ..data.original import Original
from ..fields.grids import spacing_of

__all__ = ["Grid", "TargetGrid"]

REGIONS = ("foreground", "label")

#: shape (X, Y, Z), and affine (4, 4), voxel to RAS mm, float64
Grid = tuple[tuple[int, ...], torch.Tensor]


@dataclass(frozen=True)
class TargetGrid:
    """How a grid is made of a reference; without options it is the reference's own.

    Args:
        pixdim: voxel size along the axes of the grid in mm, or one number for all of them. Along the last voxels there
            is a part of a voxel more where it does not divide the region.
        size: the number of voxels along the axes instead: whatever the region measures is divided by them, as in
            DeepRS, Section 4.1 (128 x 128 x 96).
        region: what of the reference is kept: None for all of it; ``foreground``, what is above the lowest value of
            its image; ``label``, its structures.
        margin: mm around the region, as far as the volume goes.
        orientation: where the axes of the grid lead to, such as RAS; None leaves them as those of the reference.

    Raises:
        ValueError: an option is not of its kind, or both `pixdim` and `size` are given.
    """

    pixdim: Sequence[float] | float | None = None
    size: Sequence[int] | None = None
    region: str | None = None
    margin: float = 0.0
    orientation: str | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.region not in REGIONS:
            raise ValueError(f"`region` should be null or one of {', '.join(REGIONS)}, found {self.region!r}.")
        if self.pixdim is not None and self.size is not None:
            raise ValueError("`pixdim` and `size` both say how large the voxels are: set one of them to null.")
        if self.pixdim is not None and not (torch.as_tensor(self.pixdim, dtype=torch.float64) > 0).all():
            raise ValueError(f"`pixdim` should be one or three lengths in mm above 0, found {self.pixdim!r}.")
        if self.size is not None and (len(self.size) != 3 or min(self.size) < 1):
            raise ValueError(f"`size` should be three numbers of voxels above 0, found {self.size!r}.")

    def of(self, reference: Original) -> Grid:
        """The grid that this reference gives; the outer faces of its first voxels are those of the region.

        Raises:
            ValueError: the region is empty.
        """
        if self.orientation is not None:
            turn = Orientation(self.orientation, labels=None)
            label = None if reference.label is None else turn(reference.label)
            reference = Original(reference.case, turn(reference.image), label)
        affine = torch.as_tensor(reference.image.affine, dtype=torch.float64).as_subclass(torch.Tensor)
        own = torch.tensor(spacing_of(affine), dtype=torch.float64)
        first, last = self._box(reference, own)
        extent = (last - first + 1) * own
        if self.size is not None:
            shape = torch.tensor(self.size)
            voxel = extent / shape
        else:
            voxel = own if self.pixdim is None else torch.as_tensor(self.pixdim, dtype=torch.float64).expand(3)
            shape = (extent / voxel - 1e-6).ceil().int().clamp(min=1)  # what divides, but for rounding, adds no voxel
        scale = torch.eye(4, dtype=torch.float64)
        scale[:3, :3] = torch.diag(voxel / own)
        scale[:3, 3] = first - 0.5 + 0.5 * voxel / own
        return tuple(shape.tolist()), affine @ scale

    def _box(self, reference: Original, spacing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first and the last voxel of the region along each axis, its margin included."""
        first, last = torch.zeros(3), torch.tensor(reference.image.shape[1:]) - 1
        if self.region is None:
            return first, last
        image = reference.image.as_tensor()
        inside = image > image.min() if self.region == "foreground" else reference.label.as_tensor() > 0
        if not inside.any():
            raise ValueError(f"case '{reference.case}', the reference, has no {self.region} to cut the region around.")
        voxels, around = inside[0].nonzero(), (self.margin / spacing).ceil()
        return (voxels.amin(0) - around).clamp(min=0), torch.minimum(voxels.amax(0) + around, last)
