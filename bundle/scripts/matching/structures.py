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

"""What class probabilities say of a pair: an affine from the centres of the structures, and their overlap."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine import Affine
from .scan import grid_points, read, weighted_center

__all__ = ["overlap_loss", "structure_affine"]

MIN_VOXELS = 30.0  # of a structure whose centre is believed
MIN_STRUCTURES = 3  # fewer do not fix an affine
RIDGE = 10.0  # voxels squared: how far the centres must lie apart for the fit to leave an even scale
SCALES = (0.6, 1.6)
STEPS, LEARNING_RATE, HELD = 30, 0.02, 0.1


def structure_affine(moving: Tensor, fixed: Tensor, steps: int = STEPS) -> tuple[Affine, Tensor]:
    """Fit an affine to the centres of structures, weighted by the root of their volume, then improve their overlap.

    The fit is drawn towards an even scale about the common centre, the more the closer the structures lie together.

    Args:
        moving, fixed: class probabilities (B, C, D, H, W), background first; their grids may differ.
        steps: of the improvement.

    Returns:
        The affines, and for each pair whether it can be trusted: whether three structures were seen in both images.
    """
    (moving_mass, moving_centers), (fixed_mass, fixed_centers) = _centers(moving), _centers(fixed)
    common = torch.minimum(moving_mass, fixed_mass)
    weight = torch.where(common > MIN_VOXELS, common.sqrt(), 0.0)
    trusted = (weight > 0).sum(dim=1) >= MIN_STRUCTURES
    weight = (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6))[..., None]
    moving_middle, fixed_middle = (weight * moving_centers).sum(dim=1), (weight * fixed_centers).sum(dim=1)
    x, y = fixed_centers - fixed_middle[:, None], moving_centers - moving_middle[:, None]
    scale = (weight * x * y).sum(dim=(1, 2)) / (weight * x * x).sum(dim=(1, 2)).clamp(min=1e-6)
    eye = torch.eye(3, device=x.device)
    even = scale.clamp(*SCALES)[:, None, None] * eye
    weighted = (x * weight).transpose(1, 2)
    matrix = torch.linalg.solve(weighted @ x + RIDGE * eye, weighted @ y + RIDGE * even).transpose(1, 2)
    affine = Affine(matrix, fixed_middle, moving_middle)
    return _improve(affine, moving, fixed, steps), trusted


def overlap_loss(warped: Tensor, fixed: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the mean soft Dice of the structures of each pair: (B,), of probabilities (B, C - 1, D, H, W).

    A structure that neither image has counts as found.
    """
    both = (warped * fixed).sum(dim=(2, 3, 4))
    either = warped.square().sum(dim=(2, 3, 4)) + fixed.square().sum(dim=(2, 3, 4))
    return 1 - ((2 * both + smooth) / (either + smooth)).mean(dim=1)


def _centers(prob: Tensor) -> tuple[Tensor, Tensor]:
    """Volumes (B, C - 1) in voxels and centres (B, C - 1, 3) of the structures."""
    mass = prob[:, 1:].sum(dim=(2, 3, 4))
    return mass, weighted_center(prob[:, 1:], mass)


def _improve(affine: Affine, moving: Tensor, fixed: Tensor, steps: int) -> Affine:
    """Steps on the overlap at half the resolution, held near where they begin."""
    half_moving, half_fixed = (F.avg_pool3d(prob[:, 1:], 2) for prob in (moving, fixed))
    points = grid_points(tuple(half_fixed.shape[2:]), 2, fixed.device)
    change = torch.zeros_like(affine.matrix, requires_grad=True)
    shift = torch.zeros_like(affine.moving_point, requires_grad=True)
    optimizer = torch.optim.Adam([change, shift], LEARNING_RATE)

    def moved() -> Affine:
        return Affine(affine.matrix + change, affine.fixed_center, affine.moving_point + 10 * shift)

    for _ in range(steps):
        warped = read(half_moving, moved()(points), 2, "zeros")
        loss = overlap_loss(warped, half_fixed) + HELD * change.square().sum(dim=(1, 2))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    with torch.no_grad():
        return moved()
