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
"""How good a registration or a segmentation is: overlap, surface distance, regularity of the field, landmarks.

Dice and the distances between surfaces come from MONAI; the Jacobian determinant and what follows from it are ours,
since MONAI has none. Labels are maps of contiguous classes, 0 being background; the structures 1 to K are reported.
NaN stands for "not defined here" and is to be left out of a mean, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.metrics import compute_dice
from monai.metrics.utils import get_edge_surface_distance

from .grids import POINTS_AT_ONCE, lps_to_ras

SMALLEST_JACOBIAN, LARGEST_JACOBIAN = 1e-9, 1e9
TOLERANCES = {"surface_dice_1": 1, "surface_dice_2": 2}  # in voxels, of their smallest side
SURFACE_SCORES = ("hd95", "asd", *TOLERANCES)
ROUNDING = 1 + 1e-5  # distances are float32


def jacobian_determinant(ddf: torch.Tensor) -> torch.Tensor:
    """Compute det(I + grad u): how much a voxel's volume grows under p -> p + u(p).

    1 is no change, 2 twice the volume, 0 or less a fold. Differences are central inside and one-sided at the border.
    The fixed and the moving grid being scaled alike, the value is the same in voxels and in millimetres; whatever their
    scales, :func:`jacobian_at_grid` has it in millimetres.

    Args:
        ddf: shape (B, 3, D, H, W), in voxels, channels in the order of the array axes; zero gives 1 everywhere.

    Returns:
        The determinant, shape (B, 1, D, H, W), float32, or float64 for a field in float64.

    Raises:
        ValueError: when the shape is not that of a field, or an axis has a single voxel.
    """
    if ddf.ndim != 5 or ddf.shape[1] != 3 or min(ddf.shape[2:]) < 2:
        raise ValueError(
            f"the Jacobian needs a field of shape (B, 3, D, H, W) with at least two voxels along each axis, "
            f"got {tuple(ddf.shape)}."
        )
    ddf = ddf.as_subclass(torch.Tensor)
    ddf = ddf if ddf.dtype == torch.float64 else ddf.float()
    # slopes[j][:, i] is the derivative of component i along axis j, so the determinant is that of the three columns
    slopes = torch.gradient(ddf, dim=(2, 3, 4))
    first, second, third = (slope.clone() for slope in slopes)
    for axis, column in enumerate((first, second, third)):
        column[:, axis] += 1
    return (first * torch.linalg.cross(second, third, dim=1)).sum(dim=1, keepdim=True)


def jacobian_at_grid(
    displacement_on: Callable[[torch.Tensor, Sequence[int]], torch.Tensor],
    grid_affine: torch.Tensor,
    grid_shape: Sequence[int],
) -> torch.Tensor:
    """Compute how much the volume in millimetres grows from fixed to moving, at each voxel of any grid in fixed space.

    It is the determinant of d(moving point) / d(fixed point), by central differences over the neighbours on that grid;
    those of the outermost voxels lie outside of it. It may miss a fold smaller than two of its voxels.

    Args:
        displacement_on: gives the displacement (X, Y, Z, 3), LPS mm, on the grid of an affine and a shape; zero has the
            determinant 1.
        grid_affine: shape (4, 4), voxel to RAS mm, of the grid to fill.
        grid_shape: its number of voxels (X, Y, Z); an axis may have a single one.

    Returns:
        The determinant, shape (X, Y, Z), float32.

    Raises:
        ValueError: when an affine is not 4x4 and invertible.
    """
    affine = torch.as_tensor(grid_affine, dtype=torch.float64).as_subclass(torch.Tensor)
    to_voxels = torch.linalg.inv(affine[:3, :3]).float()
    determinant = torch.empty(*grid_shape, dtype=torch.float32)
    planes = max(1, POINTS_AT_ONCE // (grid_shape[1] * grid_shape[2]))
    for start in range(0, grid_shape[0], planes):
        slab = determinant[start : start + planes]
        corner = torch.eye(4, dtype=torch.float64)  # a margin of one voxel on every side
        corner[:3, 3] = torch.tensor([start - 1, -1, -1])
        displacement = displacement_on(affine @ corner, [size + 2 for size in slab.shape])
        in_voxels = torch.einsum("ij,xyzj->ixyz", to_voxels, lps_to_ras(displacement))
        slab.copy_(jacobian_determinant(in_voxels[None])[0, 0, 1:-1, 1:-1, 1:-1])
    return determinant


def folding_percent(ddf: torch.Tensor) -> torch.Tensor:
    """Share of voxels whose Jacobian determinant is not positive, in percent of the whole grid.

    Args:
        ddf: shape (B, 3, D, H, W), in voxels; zero gives 0.

    Returns:
        One value per sample, shape (B,).
    """
    return 100 * (jacobian_determinant(ddf) <= 0).float().mean(dim=(1, 2, 3, 4))


def sdlogj(ddf: torch.Tensor) -> torch.Tensor:
    """Standard deviation over the grid of the logarithm of the Jacobian determinant: how uneven the field is.

    The determinant is cut to [1e-9, 1e9] first, so that a fold counts as a heavy compression.

    Args:
        ddf: shape (B, 3, D, H, W), in voxels; zero gives 0, and so does any uniform scaling.

    Returns:
        One value per sample, shape (B,).
    """
    logarithm = jacobian_determinant(ddf).clamp(SMALLEST_JACOBIAN, LARGEST_JACOBIAN).log()
    return logarithm.std(dim=(1, 2, 3, 4), correction=0)


def dice_per_structure(pred: torch.Tensor, truth: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Dice overlap 2|A and B| / (|A| + |B|) of every structure, from 0 to 1.

    A structure absent from both maps has no Dice (NaN); one that is found where there is none, or missed, has 0.

    Args:
        pred: predicted classes, shape (B, 1, D, H, W).
        truth: true classes, shape (B, 1, D, H, W); equal to ``pred`` gives 1.
        num_classes: number of classes, background included.

    Returns:
        Shape (B, K) with K = ``num_classes - 1``.

    Raises:
        ValueError: when the shapes differ.
    """
    pred, truth = _one_hot(pred, num_classes), _one_hot(truth, num_classes)
    _check_same_shape(pred, truth)
    dice = compute_dice(pred, truth, include_background=False, ignore_empty=False)
    absent = ~(pred | truth)[:, 1:].flatten(start_dim=2).any(dim=2)
    return dice.masked_fill(absent, torch.nan)


def surface_distances(
    pred: torch.Tensor, truth: torch.Tensor, num_classes: int, spacing: Sequence[float]
) -> dict[str, torch.Tensor]:
    """Distances between the surfaces of every structure of one case, in millimetres, and how much of them agrees.

    With the distances from each surface voxel of one map to the nearest one of the other, in either direction: ``hd95``
    is the greater of the two 95th percentiles, ``asd`` the mean of the two averages. MONAI's symmetric
    ``SurfaceDistanceMetric`` pools the two sets instead, which favours the larger surface. ``surface_dice_1`` and
    ``surface_dice_2`` are the share of both surfaces, 0 to 1, that lies within one or two voxels of the other one, a
    voxel being its smallest side: what MONAI's ``SurfaceDiceMetric`` gives for these tolerances. It is 0 for a
    structure that was missed, or found where there is none, which has no distance.

    Args:
        pred: predicted classes of one case, shape (1, 1, D, H, W).
        truth: true classes, of the same shape; equal to ``pred`` gives 0.
        num_classes: number of classes, background included.
        spacing: size of a voxel along the three array axes, in mm.

    Returns:
        ``hd95``, ``asd``, ``surface_dice_1`` and ``surface_dice_2``, each of shape (K,) with K = ``num_classes - 1``.
        NaN: a distance where a structure is empty in either map, a share where it is empty in both.

    Raises:
        ValueError: when the shapes differ, there is more than one case, or the spacing is not three positive numbers.
    """
    spacing = tuple(float(size) for size in spacing)
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"spacing must be three positive numbers in mm, got {spacing}.")
    pred, truth = _one_hot(pred, num_classes), _one_hot(truth, num_classes)
    _check_same_shape(pred, truth)
    if pred.shape[0] != 1:
        raise ValueError(f"surface_distances takes one case at a time, got a batch of {pred.shape[0]}.")
    scores = [_surface_scores(pred[0, index], truth[0, index], spacing) for index in range(1, num_classes)]
    return {name: torch.tensor([each[name] for each in scores]) for name in SURFACE_SCORES}


def target_registration_error(points_a: torch.Tensor, points_b: torch.Tensor) -> torch.Tensor:
    """Distance between corresponding landmarks, in millimetres.

    Args:
        points_a: shape (N, 3), in mm.
        points_b: shape (N, 3), in mm, of the same space and order; equal to ``points_a`` gives 0.

    Returns:
        One distance per landmark, shape (N,).

    Raises:
        ValueError: when the shapes differ or are not (N, 3).
    """
    if points_a.shape != points_b.shape or points_a.ndim != 2 or points_a.shape[1] != 3:
        raise ValueError(
            f"landmarks must be two lists of one length, shape (N, 3), got {tuple(points_a.shape)} and "
            f"{tuple(points_b.shape)}."
        )
    return (points_a - points_b).norm(dim=1)


def _surface_scores(pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...]) -> dict[str, float]:
    """The distances and shares of one structure, from binary maps of shape (D, H, W)."""
    if not (pred.any() and truth.any()):
        share = 0.0 if pred.any() or truth.any() else torch.nan
        return {"hd95": torch.nan, "asd": torch.nan, **dict.fromkeys(TOLERANCES, share)}
    _, directed, _ = get_edge_surface_distance(pred, truth, spacing=spacing, symmetric=True)
    both = torch.cat(list(directed))
    return {
        "hd95": max(float(torch.quantile(distance, 0.95)) for distance in directed),
        "asd": sum(float(distance.mean()) for distance in directed) / 2,
        **{name: float((both <= n * min(spacing) * ROUNDING).float().mean()) for name, n in TOLERANCES.items()},
    }


def _one_hot(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Binary maps (B, num_classes, D, H, W) of a map of classes."""
    if label.ndim != 5 or label.shape[1] != 1:
        raise ValueError(f"expected a map of classes of shape (B, 1, D, H, W), got {tuple(label.shape)}.")
    label = label.as_subclass(torch.Tensor)
    return label == torch.arange(num_classes, device=label.device).view(1, -1, 1, 1, 1)


def _check_same_shape(pred: torch.Tensor, truth: torch.Tensor) -> None:
    if pred.shape != truth.shape:
        raise ValueError(
            f"prediction {tuple(pred.shape)} and truth {tuple(truth.shape)} (classes one-hot) differ in shape: "
            "resample one to the grid of the other first."
        )
