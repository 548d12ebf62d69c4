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
"""Between fields in voxels and the world: points in millimetres, and what lies there.

An affine is the 4x4 matrix from voxel indices to RAS millimetres of one tensor or file, as ``MetaTensor.affine`` and
nibabel have it. It must be that of the tensor the network saw, after cropping, padding and resampling, not the file's.
With A_f and A_m those of the fixed and the moving tensor, the fixed point A_f p comes from the moving point
A_m (p + u(p)). Files hold the difference, moving minus fixed, in LPS millimetres, as ITK has it.

Coordinates are computed in float64: at 300 mm a float32 is off by 3e-5 mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .grids import POINTS_AT_ONCE, apply_affine, as_affine, inside_grid, inverse_affine, ras_to_lps, voxel_points
from .warping import sample_voxels


def transform_points(
    points_ras: torch.Tensor, ddf: torch.Tensor, fixed_affine: torch.Tensor, moving_affine: torch.Tensor
) -> torch.Tensor:
    """Carry points of the fixed image to where they lie in the moving image.

    A field that pulls images from moving to fixed pushes points from fixed to moving: w goes to A_m (p + u(p)) with
    p = A_f^-1 w. Between voxels u is linear. Outside the fixed tensor (a crop of the file, as a rule) it goes on with
    the displacement, in voxels, of the nearest voxel of the border. For the other way use ``warping.invert``.

    Args:
        points_ras: shape (..., 3), RAS mm.
        ddf: the field of one case, shape (3, D, H, W) or (1, 3, D, H, W), in voxels of the fixed tensor; zero carries a
            point to the voxel of the same index.
        fixed_affine: shape (4, 4), of the fixed tensor.
        moving_affine: shape (4, 4), of the moving tensor.

    Returns:
        RAS points in mm, shape (..., 3), float64, on the device of the field.

    Raises:
        ValueError: when the field is not that of one case, or an affine is not 4x4 and invertible.
    """
    ddf = _single_field(ddf)
    points = points_ras.to(ddf.device, torch.float64)
    voxels = apply_affine(inverse_affine(as_affine(fixed_affine, ddf.device)), points)
    displacement = sample_voxels(ddf, voxels.reshape(1, 1, 1, -1, 3), padding_mode="border")
    return apply_affine(
        as_affine(moving_affine, ddf.device), voxels + displacement.reshape(3, -1).T.reshape(voxels.shape)
    )


def moving_points(
    ddf: torch.Tensor,
    fixed_affine: torch.Tensor,
    moving_affine: torch.Tensor,
    grid_affine: torch.Tensor,
    grid_shape: Sequence[int],
) -> torch.Tensor:
    """For every voxel of any grid in fixed space, the point of the moving image that comes to lie there.

    With the grid of the fixed file itself, images and labels at full resolution are interpolated once, from file to
    file. ``transform_points`` says what holds between and outside the voxels of the field.

    Args:
        ddf: shape (3, D, H, W) or (1, 3, D, H, W), in voxels of the fixed tensor.
        fixed_affine: shape (4, 4), of the fixed tensor.
        moving_affine: shape (4, 4), of the moving tensor.
        grid_affine: shape (4, 4), of the grid to fill.
        grid_shape: its number of voxels (X, Y, Z).

    Returns:
        RAS points in mm, shape (X, Y, Z, 3), float64: 24 bytes a voxel.

    Raises:
        ValueError: as ``transform_points``.
    """
    ddf = _single_field(ddf)
    moving = torch.empty(*grid_shape, 3, dtype=torch.float64, device=ddf.device)
    for slab, points in slabs(grid_shape, as_affine(grid_affine, ddf.device)):
        moving[slab] = transform_points(points, ddf, fixed_affine, moving_affine)
    return moving


def displacement_lps(
    ddf: torch.Tensor,
    fixed_affine: torch.Tensor,
    moving_affine: torch.Tensor,
    grid_affine: torch.Tensor,
    grid_shape: Sequence[int],
) -> torch.Tensor:
    """The field in the world, as files hold it: moving point minus fixed point, LPS, in mm.

    Args:
        ddf: shape (3, D, H, W) or (1, 3, D, H, W), in voxels of the fixed tensor; zero gives zero if, and only if, the
            two tensors share their affine.
        fixed_affine: shape (4, 4), of the fixed tensor.
        moving_affine: shape (4, 4), of the moving tensor.
        grid_affine: shape (4, 4), of the grid to fill.
        grid_shape: its number of voxels (X, Y, Z).

    Returns:
        Displacement, shape (X, Y, Z, 3), LPS mm, float32.

    Raises:
        ValueError: as ``transform_points``.
    """
    ddf = _single_field(ddf)
    displacement = torch.empty(*grid_shape, 3, dtype=torch.float32, device=ddf.device)
    for slab, points in slabs(grid_shape, as_affine(grid_affine, ddf.device)):
        # subtracted in float64: two points 300 mm from the origin, to be told apart by micrometres
        displacement[slab] = ras_to_lps(transform_points(points, ddf, fixed_affine, moving_affine) - points).float()
    return displacement


def sample_at(
    image: torch.Tensor,
    image_affine: torch.Tensor,
    points_ras: torch.Tensor,
    mode: str = "bilinear",
    fill: float = 0.0,
) -> torch.Tensor:
    """Read an image at points of the world.

    As in ITK, a point belongs to the image up to the outer faces of its border voxels, half a voxel beyond their
    centres, and has the border's value there; farther out it has ``fill``.

    Args:
        image: shape (C, X, Y, Z).
        image_affine: shape (4, 4), voxel to RAS mm; at the voxel centres themselves the image comes back.
        points_ras: shape (..., 3), RAS mm.
        mode: ``bilinear`` or ``nearest``.
        fill: value outside the image.

    Returns:
        Values, shape (C, ...), float32, or float64 for an image in float64, on the device of the image.

    Raises:
        ValueError: when the image has not four axes, or the affine is not 4x4 and invertible.
    """
    _check_image(image)
    image = image.as_subclass(torch.Tensor)
    image = image if image.dtype == torch.float64 else image.float()
    to_voxel = inverse_affine(as_affine(image_affine, image.device))
    points = points_ras.reshape(-1, 3)
    values = image.new_empty(image.shape[0], len(points))
    for start in range(0, len(points), POINTS_AT_ONCE):
        chunk = slice(start, start + POINTS_AT_ONCE)
        values[:, chunk] = _read(
            image, apply_affine(to_voxel, points[chunk].to(image.device, torch.float64)), mode, fill
        )
    return values.reshape(image.shape[0], *points_ras.shape[:-1])


def sample_label_at(label: torch.Tensor, affine: torch.Tensor, points_ras: torch.Tensor) -> torch.Tensor:
    """Read a label at points of the world without blending ids: each id linearly, and the strongest one wins.

    Outside the label is background; ties go to the background, and among structures to the lowest id.

    Args:
        label: integer ids, shape (1, X, Y, Z); 0 is background.
        affine: shape (4, 4), voxel to RAS mm; at the voxel centres themselves the label comes back.
        points_ras: shape (..., 3), RAS mm.

    Returns:
        Ids, shape (1, ...), of the type of the label.

    Raises:
        TypeError: when the label is not of an integer type.
        ValueError: when it has not the shape (1, X, Y, Z), or the affine is not 4x4 and invertible.
    """
    _check_image(label)
    if label.shape[0] != 1:
        raise ValueError(f"a label has one channel of ids, shape (1, X, Y, Z), got {tuple(label.shape)}.")
    if label.dtype.is_floating_point:
        raise TypeError(f"a label holds integer ids, got {label.dtype}: round and convert it, or use sample_at.")
    ids = label.as_subclass(torch.Tensor).int()
    rest, best = 1.0, 0.0
    winner = ids.new_zeros(1, *points_ras.shape[:-1])
    for structure in ids[ids != 0].unique():
        share = sample_at(ids == structure, affine, points_ras)
        rest = rest - share
        winner = torch.where(share > best, structure, winner)
        best = share.clamp(min=best)
    return winner.masked_fill(torch.as_tensor(rest >= best, device=ids.device), 0).to(label.dtype)


def _read(image: torch.Tensor, voxels: torch.Tensor, mode: str, fill: float) -> torch.Tensor:
    """Values (C, N) at voxel coordinates (N, 3), ``fill`` beyond the outer faces of the border voxels."""
    values = sample_voxels(image[None], voxels[None, None, None], mode=mode, padding_mode="border")[0, :, 0, 0]
    return values.masked_fill(~inside_grid(voxels, image.shape[1:]), fill)


def slabs(shape: Sequence[int], affine: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """World points of a grid, a few planes of the first axis at a time, so that a large file needs little memory."""
    planes = max(1, POINTS_AT_ONCE // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        stop = min(start + planes, shape[0])
        shift = torch.eye(4, dtype=torch.float64, device=affine.device)
        shift[0, 3] = start
        yield slice(start, stop), voxel_points((stop - start, *shape[1:]), affine @ shift)


def _single_field(ddf: torch.Tensor) -> torch.Tensor:
    """The field of one case as (1, 3, D, H, W) in float64."""
    field = ddf[None] if ddf.ndim == 4 else ddf
    if field.ndim != 5 or field.shape[:2] != (1, 3):
        raise ValueError(f"expected the field of one case, (3, D, H, W) or (1, 3, D, H, W), got {tuple(ddf.shape)}.")
    return field.detach().as_subclass(torch.Tensor).double()


def _check_image(image: torch.Tensor) -> None:
    if image.ndim != 4:
        raise ValueError(f"expected an image of shape (C, X, Y, Z), got {tuple(image.shape)}.")
