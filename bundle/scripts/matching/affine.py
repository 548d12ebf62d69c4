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

__all__ = ["Affine", "match_affine"]

COARSE, FINE = (4, 30), (2, 30)  # pooling and steps
LEARNING_RATE = 0.01
LAST = 0.3  # the part of the rate that the last step of a level has
TURNS = 25.0  # degrees of the further starts, one each way about each axis


@dataclass(frozen=True)
class Affine:
    """Points of the moving from points of the fixed image, in voxels: ``matrix @ (p - fixed_center) + moving_point``.

    Args:
        matrix: (3, 3); the identity and equal centres change nothing.
        fixed_center, moving_point: (3,).
    """

    matrix: Tensor
    fixed_center: Tensor
    moving_point: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Move points (..., 3)."""
        return (points - self.fixed_center) @ self.matrix.T + self.moving_point


def match_affine(moving: Scan, fixed: Scan, window: int = 5) -> Affine:
    """Find the affine by which the moving image looks most like the fixed one.

    The coarsest copies are tried from seven starts, centre on centre: as they lie, and turned each way about each axis.
    The best of them goes on.

    Args:
        moving, fixed: on grids with voxels of one size, which may have different shapes.
        window: of the local correlation, in voxels of the coarse copies.
    """
    matrices = _starts(fixed.image.device)
    shifts = torch.zeros(len(matrices), 3, device=matrices.device)
    for level, rate in ((COARSE, LEARNING_RATE), (FINE, LEARNING_RATE / 2)):
        matrices, shifts, losses = _descend(matrices, shifts, moving, fixed, level, rate, window)
        best = losses.argmin()
        matrices, shifts = matrices[best, None], shifts[best, None]
    return Affine(matrices[0], fixed.center, moving.center + shifts[0])


def _descend(
    matrices: Tensor, shifts: Tensor, moving: Scan, fixed: Scan, level: tuple[int, int], rate: float, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps from several starts side by side: matrices (B, 3, 3), shifts of the centre (B, 3), and the losses (B,)."""
    (factor, steps), half = level, max(fixed.size) / 2
    image, region = (volume.expand(len(matrices), -1, -1, -1, -1) for volume in fixed.pooled(factor))
    coarse = moving.pooled(factor)[0].expand(len(matrices), -1, -1, -1, -1)
    loss = LocalCorrelation(image, region, window)
    points = grid_points(tuple(image.shape[2:]), factor, image.device) - fixed.center
    change, shift = torch.zeros_like(matrices, requires_grad=True), (shifts / half).requires_grad_()
    optimizer = torch.optim.Adam([change, shift], rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST, steps)

    def dissimilarity() -> Tensor:
        turned = torch.einsum("dhwj,bij->bdhwi", points, matrices + change)
        where = turned + (shift * half + moving.center)[:, None, None, None]
        return loss(read(coarse, where, factor, moving.padding_mode))

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
