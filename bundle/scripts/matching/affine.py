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

"""An affine from the images: centres onto each other, then steps on the local correlation of coarse copies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..losses.correlation import LocalCorrelation
from .scan import Scan, grid_points, read

__all__ = ["Affine", "likeness", "match_affine"]

COARSE, FINE = (4, 30), (2, 30)  # pooling and steps
LEARNING_RATE = 0.01
LAST = 0.3  # the part of the rate that the last step of a level has
TURNS = 25.0  # degrees of the further starts, one each way about each axis


@dataclass(frozen=True)
class Affine:
    """Points of the moving from points of the fixed images, in voxels: ``matrix @ (p - fixed_center) + moving_point``.

    Args:
        matrix: (B, 3, 3); the identity and equal centres change nothing.
        fixed_center, moving_point: (B, 3).
    """

    matrix: Tensor
    fixed_center: Tensor
    moving_point: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Move points (B, D, H, W, 3), or the same (D, H, W, 3) of all: (B, D, H, W, 3)."""
        around = points - self.fixed_center[:, None, None, None]
        return torch.einsum("bdhwj,bij->bdhwi", around, self.matrix) + self.moving_point[:, None, None, None]

    @staticmethod
    def identity(moving: Scan, fixed: Scan) -> Affine:
        """Voxel onto voxel."""
        center = fixed.image.new_zeros(len(fixed.image), 3)
        return Affine(torch.eye(3, device=center.device).repeat(len(center), 1, 1), center, center)


def match_affine(moving: Scan, fixed: Scan, window: int = 5) -> Affine:
    """Find the affines by which moving images look most like fixed ones.

    The coarsest copies are tried from seven starts, centre on centre: as they lie, and turned each way about each axis.
    The best of them goes on.

    Args:
        moving, fixed: on grids with voxels of one size, which may have different shapes.
        window: of the local correlation, in voxels of the coarse copies.
    """
    starts, pairs = _starts(fixed.image.device), len(fixed.image)
    matrices, shifts = starts.repeat(pairs, 1, 1), fixed.image.new_zeros(pairs * len(starts), 3)
    for level, rate in ((COARSE, LEARNING_RATE), (FINE, LEARNING_RATE / 2)):
        matrices, shifts, losses = _descend(matrices, shifts, moving, fixed, level, rate, window)
        best = losses.view(pairs, -1).argmin(dim=1) + torch.arange(pairs, device=losses.device) * (len(losses) // pairs)
        matrices, shifts = matrices[best], shifts[best]
    return Affine(matrices, fixed.center, moving.center + shifts)


@torch.no_grad()
def likeness(affine: Affine, moving: Scan, fixed: Scan, window: int = 5) -> Tensor:
    """Local correlation (B,) of half-size images after affines: 1 for the same, 0 for nothing in common.

    Args:
        affine: from fixed to moving points.
        moving, fixed, window: as for :func:`match_affine`.
    """
    image, region = fixed.pooled(2)
    points = grid_points(tuple(image.shape[2:]), 2, image.device)
    return 1 - LocalCorrelation(image, region, window)(
        read(moving.pooled(2)[0], affine(points), 2, moving.padding_mode)
    )


def _descend(
    matrices: Tensor, shifts: Tensor, moving: Scan, fixed: Scan, level: tuple[int, int], rate: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps from the starts of all pairs side by side: matrices (N, 3, 3), shifts of the centre (N, 3), losses (N,)."""
    (factor, steps), half, each = level, max(fixed.size) / 2, len(matrices) // len(fixed.image)
    image, region = (volume.repeat_interleave(each, dim=0) for volume in fixed.pooled(factor))
    coarse = moving.pooled(factor)[0].repeat_interleave(each, dim=0)
    fixed_center, moving_center = (scan.center.repeat_interleave(each, dim=0) for scan in (fixed, moving))
    loss = LocalCorrelation(image, region, window)
    points = grid_points(tuple(image.shape[2:]), factor, image.device)
    change, shift = torch.zeros_like(matrices, requires_grad=True), (shifts / half).requires_grad_()
    optimizer = torch.optim.Adam([change, shift], rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST, steps)

    def dissimilarity() -> Tensor:
        affine = Affine(matrices + change, fixed_center, moving_center + shift * half)
        return loss(read(coarse, affine(points), factor, moving.padding_mode))

    for _ in range(steps):
        optimizer.zero_grad()
        dissimilarity().sum().backward()
        optimizer.step()
        decay.step()
    with torch.no_grad():
        return matrices + change, shift * half, dissimilarity()


def _starts(device: torch.device) -> Tensor:
    """The identity, and turns both ways about the three axes: (7, 3, 3)."""
    generators = torch.tensor(
        [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
    )
    turns = torch.matrix_exp(torch.cat([generators, -generators]) * math.radians(TURNS))
    return torch.cat([torch.eye(3)[None], turns]).to(device)
