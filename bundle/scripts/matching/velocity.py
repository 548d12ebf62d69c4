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

"""A stationary velocity on finer and finer grids, by steps on the likeness of a pair and its own smoothness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.metrics import jacobian_determinant
from ..fields.warping import integrate
from ..losses.correlation import LocalCorrelation
from .affine import LAST, Affine
from .scan import Scan, grid_points, read
from .structures import overlap_loss

__all__ = ["LEVELS", "Level", "displacement_of", "match_velocity"]

SMOOTHINGS = 30  # at most, of the few places where a field folds
LEAST_VOLUME = 0.05  # of a voxel after moving, as a share: less is next to a fold, on another grid


class Level(NamedTuple):
    """A velocity on every ``stride``-th voxel, optimised for ``steps`` on images pooled by ``pooling``."""

    stride: int
    pooling: int
    steps: int


SQUARINGS = 5
LEVELS = (Level(4, 2, 30), Level(2, 2, 30), Level(2, 1, 20))


def match_velocity(
    moving: Scan,
    fixed: Scan,
    affine: Affine,
    levels: Sequence[Level] = LEVELS,
    window: int = 5,
    smoothness: float = 0.2,
    structures: tuple[Tensor, Tensor] | None = None,
    overlap: float = 1.0,
    similarity: float = 1.0,
    learning_rate: float = 0.4,
    start: Tensor | None = None,
    squarings: int = SQUARINGS,
) -> Tensor:
    """Find the velocities whose integrals, followed by the affines, make moving images most like fixed ones.

    Args:
        moving, fixed: as for the affine.
        affine: from fixed to moving points.
        levels: coarse to fine.
        window: of the local correlation, in voxels of the images that a level sees.
        smoothness: weight of the squared gradient of the velocity.
        structures: class probabilities (B, C, D, H, W) of both, background first, that are to overlap as well.
        overlap: weight of that.
        similarity: weight of the local correlation.
        learning_rate: about how far a point moves in a step, in voxels.
        start: velocities (B, 3, d, h, w) to begin with, in voxels of the fixed images; None: nothing moves.
        squarings: of the integration.

    Returns:
        The velocities on every ``stride``-th voxel of the last level, in voxels of the fixed images:
        :func:`displacement_of` is u, and p goes to affine(p + u(p)).
    """
    velocity = start
    for level in levels:
        size = [side // level.stride for side in fixed.size]
        start = fixed.image.new_zeros(len(fixed.image), 3, *size) if velocity is None else _resized(velocity, size)
        velocity = start.detach().clone().requires_grad_()
        image, region = fixed.pooled(level.pooling)
        correlation = LocalCorrelation(image, region, window)
        coarse, _ = moving.pooled(level.pooling)
        if structures is not None:
            moving_prob, fixed_prob = (F.avg_pool3d(p[:, 1:], level.pooling) for p in structures)
        points = grid_points(tuple(image.shape[2:]), level.pooling, image.device)
        optimizer = torch.optim.Adam([velocity], learning_rate)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST, level.steps)
        for _ in range(level.steps):
            where = affine(points + displacement_of(velocity, level.stride, image.shape[2:], squarings).movedim(1, -1))
            total = smoothness * _roughness(velocity, level.stride)
            if similarity:
                warped = read(coarse, where, level.pooling, moving.padding_mode)
                total = total + similarity * correlation(warped).sum()
            if structures is not None:
                carried = read(moving_prob, where, level.pooling, "zeros")
                total = total + overlap * overlap_loss(carried, fixed_prob).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            decay.step()
    with torch.no_grad():
        return _unfolded(velocity.detach(), levels[-1].stride, fixed.size, squarings + 1)


def _unfolded(velocity: Tensor, stride: int, size: Sequence[int], squarings: int) -> Tensor:
    """Smooth a velocity around the voxels where what it integrates to folds, or nearly; as often as it takes."""
    for _ in range(SMOOTHINGS):
        folded = jacobian_determinant(displacement_of(velocity, stride, size, squarings)) < LEAST_VOLUME
        if not bool(folded.any()):
            break
        near = F.adaptive_max_pool3d(folded.float(), tuple(velocity.shape[2:]))
        near = F.max_pool3d(near, 3, stride=1, padding=1)
        velocity = torch.lerp(velocity, _mean_of_neighbours(velocity), _mean_of_neighbours(near))
    return velocity


def _mean_of_neighbours(volume: Tensor) -> Tensor:
    return F.avg_pool3d(F.pad(volume, (1,) * 6, mode="replicate"), 3, stride=1)


def displacement_of(velocity: Tensor, stride: int, size: Sequence[int], squarings: int = SQUARINGS + 1) -> Tensor:
    """The integral of a velocity in voxels of the full grid, on a grid of ``size`` with the same extent."""
    return _resized(stride * integrate(velocity / stride, squarings), size)


def _resized(field: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(field.shape[2:]) == tuple(size):
        return field
    return F.interpolate(field, size=tuple(size), mode="trilinear", align_corners=False)


def _roughness(velocity: Tensor, stride: int) -> Tensor:
    """Summed over the pairs."""
    return sum(velocity.diff(dim=axis).square().mean() for axis in (2, 3, 4)) * len(velocity) / stride**2
