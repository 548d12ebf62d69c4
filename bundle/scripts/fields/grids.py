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
"""Grids in the world: the millimetres of a voxel, the voxel of a millimetre, and what lies outside.

An affine is the 4x4 matrix from voxel indices to RAS millimetres of one tensor or file, as ``MetaTensor.affine`` and
nibabel have it. Coordinates are computed in float64: at 300 mm a float32 is off by 3e-5 mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

#: how many points are computed with at a time, in float64
POINTS_AT_ONCE = 2**21


def ras_to_lps(points: torch.Tensor) -> torch.Tensor:
    """Turn points or vectors from RAS (nibabel, MONAI) into LPS (ITK, DICOM): x and y change their sign.

    Args:
        points: shape (..., 3).

    Returns:
        The same points in LPS, shape (..., 3).
    """
    return points * points.new_tensor([-1, -1, 1])


def lps_to_ras(points: torch.Tensor) -> torch.Tensor:
    """Turn points or vectors from LPS (ITK, DICOM) into RAS (nibabel, MONAI): x and y change their sign.

    Args:
        points: shape (..., 3).

    Returns:
        The same points in RAS, shape (..., 3).
    """
    return ras_to_lps(points)


def spacing_of(affine: torch.Tensor | np.ndarray) -> tuple[float, ...]:
    """Measure the voxel size along the three array axes.

    Args:
        affine: shape (4, 4), voxel to RAS mm; the identity gives 1 mm.

    Returns:
        Three lengths in mm.
    """
    return tuple(as_affine(affine)[:3, :3].norm(dim=0).tolist())


def voxel_points(shape: Sequence[int], affine: torch.Tensor) -> torch.Tensor:
    """Where the voxel centres of a grid lie in the world.

    Args:
        shape: number of voxels along the three array axes (X, Y, Z).
        affine: shape (4, 4), voxel to RAS mm; the identity gives the indices.

    Returns:
        RAS points in mm, shape (X, Y, Z, 3), float64.
    """
    affine = as_affine(affine)
    axes = [torch.arange(size, dtype=torch.float64, device=affine.device) for size in shape]
    return apply_affine(affine, torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))


def change_grid(voxels: torch.Tensor, affine: torch.Tensor, grid_affine: torch.Tensor) -> torch.Tensor:
    """Carry voxel coordinates of one grid over to another grid of the same world.

    Args:
        voxels: shape (..., 3), in voxels of the first grid.
        affine: shape (4, 4), of the first grid; the same as the other gives the coordinates back.
        grid_affine: shape (4, 4), of the other grid.

    Returns:
        Coordinates in voxels of the other grid, shape (..., 3), float64.

    Raises:
        ValueError: when an affine is not 4x4 and invertible.
    """
    return apply_affine(inverse_affine(as_affine(grid_affine)) @ as_affine(affine), voxels.double())


def inside_grid(voxels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Whether voxel coordinates lie between the outer faces of the border voxels of a grid.

    Args:
        voxels: shape (..., 3).
        shape: number of voxels of the grid along the three array axes.

    Returns:
        Shape (...).
    """
    return ((voxels >= -0.5) & (voxels <= voxels.new_tensor(shape) - 0.5)).all(dim=-1)


def outside_grid(
    mask: torch.Tensor, affine: torch.Tensor, grid_affine: torch.Tensor, grid_shape: Sequence[int]
) -> torch.Tensor:
    """Tell which voxels of a mask another grid, such as a crop, does not hold.

    As in ``sample_at``, a grid reaches to the outer faces of its border voxels.

    Args:
        mask: bool, shape (X, Y, Z), with N voxels that are true.
        affine: shape (4, 4), of the mask.
        grid_affine: shape (4, 4), of the grid; that of the mask, with its shape, holds everything.
        grid_shape: its number of voxels along the three array axes.

    Returns:
        Whether the centre lies outside, shape (N,), in the order of ``mask.nonzero()``.

    Raises:
        ValueError: when an affine is not 4x4 and invertible.
    """
    chunks = mask.as_subclass(torch.Tensor).nonzero().split(POINTS_AT_ONCE)
    return torch.cat([~inside_grid(change_grid(chunk, affine, grid_affine), grid_shape) for chunk in chunks])


def apply_affine(affine: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return points @ affine[:3, :3].T + affine[:3, 3]


def as_affine(affine: torch.Tensor | np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    affine = torch.as_tensor(affine, dtype=torch.float64, device=device)
    if affine.shape != (4, 4):
        raise ValueError(f"an affine is one 4x4 matrix from voxels to RAS mm, got shape {tuple(affine.shape)}.")
    return affine.as_subclass(torch.Tensor)


def inverse_affine(affine: torch.Tensor) -> torch.Tensor:
    inverse, failed = torch.linalg.inv_ex(affine)
    if failed:
        raise ValueError(f"the affine {affine.tolist()} has no inverse: the header of its file is broken.")
    return inverse
