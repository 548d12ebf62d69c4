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

from dataclasses import dataclass

import torch
from torch import Tensor

from ..losses.correlation import LocalCorrelation
from .scan import Scan, grid_points, read

__all__ = ["Affine", "match_affine"]

LEVELS = ((4, 30), (2, 30))  # pooling and steps
LEARNING_RATE = 0.01
LAST = 0.3  # the part of the rate that the last step of a level has


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

    Args:
        moving, fixed: on grids with voxels of one size, which may have different shapes.
        window: of the local correlation, in voxels of the coarse copies.
    """
    device = fixed.image.device
    identity, half = torch.eye(3, device=device), max(fixed.size) / 2
    change, shift = (torch.zeros(*shape, device=device, requires_grad=True) for shape in ((3, 3), (3,)))
    for level, (factor, steps) in enumerate(LEVELS):
        image, region = fixed.pooled(factor)
        loss = LocalCorrelation(image, region, window)
        coarse, _ = moving.pooled(factor)
        points = grid_points(tuple(image.shape[2:]), factor, device) - fixed.center
        optimizer = torch.optim.Adam([change, shift], LEARNING_RATE / 2**level)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST, steps)
        for _ in range(steps):
            where = points @ (identity + change).T + shift * half + moving.center
            optimizer.zero_grad()
            loss(read(coarse, where, factor, moving.padding_mode)).sum().backward()
            optimizer.step()
            decay.step()
    return Affine(identity + change.detach(), fixed.center, moving.center + shift.detach() * half)
