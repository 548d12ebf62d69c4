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

"""Images as matching sees them: intensities, the region that counts, and coarser copies of both."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Scan", "grid_points", "pad_to_multiple", "read"]

#: share of voxels at the lowest value from which on that is a background, as around a stripped brain
BACKGROUND = 0.1
#: of the sides: the coarsest grid has every fourth voxel
MULTIPLE = 4


class Scan:
    """Images (B, 1, D, H, W) in [0, 1] on a grid of even voxels, continued at its far ends to multiples of four.

    Where a good part of the voxels has the lowest value, that is a background: it does not count, and lies around the
    grid as well. Otherwise the image is a cut-out that goes on outside. All images of a batch are of one kind.

    Args:
        image: finite.
    """

    def __init__(self, image: Tensor) -> None:
        image = image.float()
        above = image > image.amin(dim=(1, 2, 3, 4), keepdim=True)
        self.given = tuple(image.shape[2:])
        self.has_background = float((~above).float().mean()) > BACKGROUND
        self.padding_mode = "zeros" if self.has_background else "border"
        self.image = pad_to_multiple(image, "constant" if self.has_background else "replicate")
        self.region = pad_to_multiple(above.float() if self.has_background else torch.ones_like(image), "constant")
        self.size = tuple(self.image.shape[2:])

    @cached_property
    def center(self) -> Tensor:
        """Centre of mass of what is not background, else that of the grid; (B, 3), voxels."""
        if not self.has_background:
            return self.image.new_tensor([[(side - 1) / 2 for side in self.given]]).repeat(len(self.image), 1)
        weight = self.image[:, 0] * self.region[:, 0]
        return weighted_center(weight, weight.sum(dim=(1, 2, 3)))

    def pooled(self, factor: int) -> tuple[Tensor, Tensor]:
        """Image and region averaged over cubes of ``factor`` voxels; a quarter of a cube in the region is enough."""
        if factor == 1:
            return self.image, self.region
        image, region = (F.avg_pool3d(volume, factor) for volume in (self.image, self.region))
        return image, (region > 0.25).float()


def pad_to_multiple(volume: Tensor, mode: str) -> Tensor:
    """Continue a volume (B, C, D, H, W) at its far ends so that each side is a multiple of four."""
    missing = [part for side in reversed(volume.shape[2:]) for part in (0, -side % MULTIPLE)]
    return F.pad(volume, missing, mode=mode) if any(missing) else volume


def weighted_center(weight: Tensor, mass: Tensor) -> Tensor:
    """Centre of mass (..., 3) in voxels of weights (..., D, H, W) whose sums are ``mass``."""
    centers = []
    for axis, others in enumerate(((-2, -1), (-3, -1), (-3, -2))):
        along = torch.arange(weight.shape[axis - 3], dtype=weight.dtype, device=weight.device)
        centers.append((weight.sum(dim=others) * along).sum(dim=-1) / mass.clamp(min=1e-6))
    return torch.stack(centers, dim=-1)


def grid_points(size: tuple[int, ...], factor: int, device: torch.device) -> Tensor:
    """Centres of cubes of ``factor`` voxels, in voxels of the full grid: (*size, 3)."""
    axes = [torch.arange(side, device=device) * float(factor) + (factor - 1) / 2 for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def read(image: Tensor, points: Tensor, factor: int, padding_mode: str) -> Tensor:
    """Read a pooled image (B, C, D, H, W) at points (B, ..., 3) in voxels of the full grid: (B, C, ...)."""
    scale = points.new_tensor([2 / side for side in image.shape[2:]]) / factor
    # the cube i holds the voxels from i * factor - 0.5 on; -1 and 1 are the outer faces
    grid = ((points + 0.5) * scale - 1).flip(-1)
    return F.grid_sample(image, grid, padding_mode=padding_mode, align_corners=False)
