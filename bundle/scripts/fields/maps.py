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
"""The map of a registration as files hold it, by which images, labels and points are carried, here as elsewhere.

Programs of ITK leave a point where it is as soon as it lies outside of a displacement field, which would tear the image
at the border of the networks' grid. So the map is x -> A (x + r(x)): A fits all of it; the remainder r is on the grid
it was computed on, linear between the voxels, and fades to zero in a margin around it. Outside, A goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .grids import apply_affine, change_grid, ras_to_lps, spacing_of, voxel_points
from .transforms import AffineTransform, Chain, FieldTransform, WorldTransform
from .world import moving_points, slabs

STEEPEST = 0.5  # of the fade: from 1 on it would fold
WIDEST = 24  # voxels of a margin
FINEST = 2.0**-12  # voxels: displacements are rounded to it
LEAST_GROWTH = 0.1  # of a volume by A: less is no fit of a map that can be inverted


def map_of_field(
    ddf: torch.Tensor,
    fixed_affine: torch.Tensor,
    moving_affine: torch.Tensor,
    outside: AffineTransform | None = None,
) -> Chain:
    """The map of a field in voxels.

    Args:
        ddf: (3, D, H, W) or (1, 3, D, H, W), in voxels of the fixed tensor; zero gives the affine that takes voxels of
            one tensor to those of the other.
        fixed_affine, moving_affine: (4, 4), of the tensors, voxel to RAS mm.
        outside: A, where it is known; None: what fits best.

    Returns:
        A field and an affine, in the order in which a point goes through them.
    """
    ddf, shape = ddf.detach().cpu(), ddf.shape[-3:]
    return map_on_grid(moving_points(ddf, fixed_affine, moving_affine, fixed_affine, shape), fixed_affine, outside)


def map_on_grid(moved: torch.Tensor, affine: torch.Tensor, outside: AffineTransform | None = None) -> Chain:
    """The map that takes the voxels of a grid to given points.

    Args:
        moved: (X, Y, Z, 3), RAS mm, float64.
        affine: (4, 4), voxel to RAS mm, of the grid.
        outside: A, where it is known; None: what fits best.

    Returns:
        As :func:`map_of_field`.
    """
    affine = torch.as_tensor(affine, dtype=torch.float64).as_subclass(torch.Tensor)
    here = voxel_points(moved.shape[:3], affine)
    if outside is None:
        outside = _fit(moved, here, affine)
    remainder, grid = _fade((outside.inverse()(moved) - here).float(), affine)
    return Chain([field_on_grid(remainder, grid), outside])


def field_on_grid(remainder: torch.Tensor, affine: torch.Tensor) -> FieldTransform:
    """The field of displacements (X, Y, Z, 3) in RAS mm, rounded as files have it."""
    return FieldTransform(rounded(ras_to_lps(remainder).float(), affine), affine)


def rounded(displacement: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Displacements in mm to a 4096th of the smallest side of a voxel: files then pack well."""
    unit = FINEST * 2.0 ** math.floor(math.log2(min(spacing_of(affine))))
    return (displacement / unit).round() * unit


def points_on_grid(transform: WorldTransform, affine: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Where the voxels of a grid go: (X, Y, Z, 3), RAS mm, float64."""
    moved = torch.empty(*shape, 3, dtype=torch.float64)
    for slab, points in slabs(shape, affine):
        moved[slab] = transform(points)
    return moved


def displacement_on_grid(transform: WorldTransform, affine: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """How far the voxels of a grid go: (X, Y, Z, 3), LPS mm, float32."""
    displacement = torch.empty(*shape, 3)
    for slab, points in slabs(shape, affine):
        displacement[slab] = ras_to_lps(transform(points) - points).float()
    return displacement


def covering_grid(
    affine: torch.Tensor, shape: Sequence[int], other_affine: torch.Tensor, other_shape: Sequence[int]
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The grid that goes on with the voxels of the first so far that it holds the other one, up to its outer faces.

    Args:
        affine, shape: of the first; where it holds the other, it is the result.
        other_affine, other_shape: of the other.

    Returns:
        Affine (4, 4) and shape.
    """
    corners = torch.tensor(list(itertools.product(*((-0.5, side - 0.5) for side in other_shape))))
    corners = change_grid(corners, other_affine, affine)
    first = corners.amin(dim=0).floor().clamp(max=0).long()
    last = torch.maximum(corners.amax(dim=0).ceil().long(), torch.tensor(shape) - 1)
    return _shifted(affine, first), tuple((last - first + 1).tolist())


def _fit(moved: torch.Tensor, here: torch.Tensor, affine: torch.Tensor) -> AffineTransform:
    """The affine that fits best; where that one flattens the volume, the shift."""
    fitted = FieldTransform(ras_to_lps(moved - here), affine).affine_part
    if float(torch.linalg.det(fitted.matrix[:3, :3]).abs()) > LEAST_GROWTH:
        return fitted
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = (moved - here).mean(dim=(0, 1, 2))
    return AffineTransform(shift)


def _fade(remainder: torch.Tensor, affine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A remainder (X, Y, Z, 3) in mm with a margin around it, at whose end it is zero; with the affine of this grid."""
    widths, weights = [], torch.ones(())
    for axis, voxel in enumerate(spacing_of(affine)):
        size = remainder.shape[axis]
        largest = float(remainder.index_select(axis, torch.tensor([0, size - 1])).norm(dim=-1).max())
        width = min(max(math.ceil(1.5 * largest / STEEPEST / voxel), 1), WIDEST)
        t = torch.linspace(0, 1, width + 1)[1:]
        fade = 1 - t * t * (3 - 2 * t)  # its steepest slope is 1.5 / width
        weights = weights[..., None] * torch.cat([fade.flip(0), torch.ones(size), fade])
        widths.append(width)
    around = [width for width in reversed(widths) for _ in range(2)]
    padded = F.pad(remainder.movedim(-1, 0)[None], around, mode="replicate")[0].movedim(0, -1)
    return padded * weights[..., None], _shifted(affine, -torch.tensor(widths))


def _shifted(affine: torch.Tensor, voxel: torch.Tensor) -> torch.Tensor:
    """The affine of a grid whose first voxel is another one."""
    shifted = torch.as_tensor(affine, dtype=torch.float64).as_subclass(torch.Tensor).clone()
    shifted[:3, 3] = apply_affine(shifted, voxel.double())
    return shifted
