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
"""Transforms of points of the world: matrices, displacement fields, their inverses, and chains of them.

All of them take points of the fixed image to points of the moving one, as registration defines them and as ITK
resamples. Points are RAS millimetres, as everywhere in memory. A chain moves points, never images: however many
transforms it has, an image or a label that is read at the points it gives is interpolated once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from .grids import POINTS_AT_ONCE, lps_to_ras, voxel_points
from .metrics import folding_percent
from .warping import sample_voxels

ITERATIONS = 100
TOLERANCE = 1e-4  # mm: a tenth of what rounding to float32 costs at 1 m
ROUNDING = 1e-3  # voxels: by which a point on the border of a grid may seem to lie outside
NO_INVERSE = 0.1  # mm: what is left of this size will not go away


class WorldTransform(Protocol):
    """What a chain is made of."""

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Move points (N, 3) in RAS mm."""

    def inverse(self) -> WorldTransform:
        """The transform that takes the points back."""


class AffineTransform:
    """A matrix.

    Args:
        matrix: (4, 4), from points of the fixed image to points of the moving one, RAS mm.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = torch.as_tensor(matrix, dtype=torch.float64)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Move points (N, 3) in RAS mm."""
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self) -> AffineTransform:
        """The transform by the inverse matrix.

        Raises:
            ValueError: the matrix has none.
        """
        inverse, failed = torch.linalg.inv_ex(self.matrix)
        if failed:
            raise ValueError(f"the affine transform {self.matrix.tolist()} has no inverse: it flattens the volume.")
        return AffineTransform(inverse)


class FieldTransform:
    """A displacement field on a grid: x goes to x + u(x), u linear between the voxels.

    The field is kept as its affine part A, fitted by least squares, and the remainder r on the grid:
    x + u(x) = A x + r(x). Inside the grid this is the field itself, as linear interpolation loses nothing of A.
    Outside, where ITK leaves points where they are, r goes on as at the nearest voxel of the border. A field that is
    zero all around its border, as those of registration are, ends there: A is the identity.

    Args:
        displacement: (X, Y, Z, 3), moving point minus fixed point, LPS mm.
        affine: (4, 4), voxel to RAS mm, of the grid.
        name: of the file it is from, for messages.
    """

    def __init__(self, displacement: torch.Tensor, affine: torch.Tensor, name: str = "field") -> None:
        self.displacement, self.affine, self.name = displacement.float(), torch.as_tensor(affine).double(), name
        self._to_voxel = AffineTransform(self.affine).inverse()
        vectors = lps_to_ras(displacement.double())
        slopes, mean = _linear_part(torch.zeros_like(vectors) if _ends(vectors) else vectors)
        middle = (torch.tensor(vectors.shape[:3], dtype=torch.float64) - 1) / 2
        by_voxel = torch.eye(4, dtype=torch.float64)  # what A adds to a voxel's own place
        by_voxel[:3, :3], by_voxel[:3, 3] = slopes, mean - slopes @ middle
        fitted = AffineTransform(by_voxel)(voxel_points(vectors.shape[:3], torch.eye(4)))
        self._remainder = (vectors - fitted).float().permute(3, 0, 1, 2)[None]
        moved = self.affine.clone()
        moved[:3] += by_voxel[:3]
        self.affine_part = AffineTransform(moved @ self._to_voxel.matrix)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Move points (N, 3) in RAS mm."""
        voxels = self._to_voxel(points)[None, None, None]
        remainder = sample_voxels(self._remainder, voxels, padding_mode="border")[0, :, 0, 0].T
        return self.affine_part(points) + remainder

    def inverse(self) -> InverseFieldTransform:
        """The transform that finds, point by point, where a point came from."""
        return InverseFieldTransform(self)

    def contains(self, points: torch.Tensor) -> torch.Tensor:
        """Whether points (N, 3) lie between the voxel centres of the grid, and not beyond the outermost: (N,)."""
        voxels, last = self._to_voxel(points), torch.tensor(self._remainder.shape[2:]) - 1
        return ((voxels >= -ROUNDING) & (voxels <= last + ROUNDING)).all(dim=-1)

    def folding_percent(self) -> float:
        """Percentage of the voxels where |J| is not of the sign of det A: there is no inverse there."""
        linear = self._to_voxel.matrix[:3, :3] @ self.affine_part.inverse().matrix[:3, :3]
        return float(folding_percent(torch.einsum("ij,bjxyz->bixyz", linear.float(), self._remainder)))


class InverseFieldTransform:
    """The inverse of a displacement field, by fixed-point iteration at each point that is asked for.

    x + u(x) = y is solved by x <- x - s A^-1 (x + u(x) - y) from x = A^-1 y. With A the identity and s = 1, this is
    v(p) = -u(p + v(p)), which converges where neighbouring displacements differ by less than their distance. A step
    that would make things worse is not taken, and s is halved for that point: so strong stretching is inverted, too.
    Where the field folds several points go to one, and what comes out is one of them or none; account is kept of what
    is left.

    Args:
        field: the field to invert.
    """

    def __init__(self, field: FieldTransform) -> None:
        self.field = field
        self.points, self.without, self.residual = 0, 0, 0.0
        self._back = field.affine_part.inverse()

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Find what the field takes to points (N, 3), RAS mm."""
        return self.search(points, self._back(points))

    def search(self, points: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Find what the field takes to points (N, 3), from where it is likely to be, (N, 3)."""
        found, step = start.clone(), torch.ones(len(points), 1, dtype=torch.float64)
        error = self.field(found) - points
        for _ in range(ITERATIONS):
            (left,) = (error.norm(dim=-1) > TOLERANCE).nonzero(as_tuple=True)
            if not len(left):
                break
            tried = found[left] - step[left] * (error[left] @ self._back.matrix[:3, :3].T)
            missed = self.field(tried) - points[left]
            better = missed.norm(dim=-1, keepdim=True) < error[left].norm(dim=-1, keepdim=True)
            found[left], error[left] = torch.where(better, tried, found[left]), torch.where(better, missed, error[left])
            step[left] = torch.where(better, step[left], step[left] / 2)
        self._keep_account(error.norm(dim=-1))
        return found

    def inverse(self) -> FieldTransform:
        """The field."""
        return self.field

    def report(self) -> dict[str, Any]:
        """How good the inverse is: JSON entries, over all points so far.

        ``residual_mm`` is the largest distance |T(x) - y| between a point and where its solution is taken.
        """
        return {
            "field": self.field.name,
            "residual_mm": self.residual,
            "percent_without_inverse": 100 * self.without / max(self.points, 1),
            "folding_percent": self.field.folding_percent(),
        }

    def _keep_account(self, residual: torch.Tensor) -> None:
        self.points += len(residual)
        self.without += int((residual > NO_INVERSE).sum())
        self.residual = max(self.residual, float(residual.max()))


class Chain:
    """Transforms one after the other.

    Args:
        steps: a point goes through the first, then through the second, and so on; no steps leave it where it is. For
            images this is the order of ``antsApplyTransforms -t``: what is named last touches the moving image first.
    """

    def __init__(self, steps: Sequence[WorldTransform]) -> None:
        self.steps = list(steps)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Move points (..., 3) in RAS mm; the same shape comes back, float64."""
        moved = points.reshape(-1, 3).double()
        if not self.steps:
            return moved.clone().reshape(points.shape)
        for step in self.steps:
            moved = torch.cat([step(part) for part in moved.split(POINTS_AT_ONCE)])
        return moved.reshape(points.shape)

    def trace(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Move points, and say which of them leave the grid of a field on their way.

        Args:
            points: (..., 3), RAS mm.

        Returns:
            Where they go (..., 3), float64, and whether a field is not defined where they come to it (...).
        """
        moved = points.reshape(-1, 3).double().clone()
        outside = torch.zeros(len(moved), dtype=torch.bool)
        for start in range(0, len(moved), POINTS_AT_ONCE):
            chunk = slice(start, start + POINTS_AT_ONCE)
            for step in self.steps:
                before, moved[chunk] = moved[chunk].clone(), step(moved[chunk])
                if isinstance(step, FieldTransform):
                    outside[chunk] |= ~step.contains(before)
                elif isinstance(step, InverseFieldTransform):
                    outside[chunk] |= ~step.field.contains(moved[chunk])
        return moved.reshape(points.shape), outside.reshape(points.shape[:-1])

    def inverse(self) -> Chain:
        """The inverses in the opposite order."""
        return Chain([step.inverse() for step in reversed(self.steps)])

    def report(self) -> list[dict[str, Any]]:
        """How good its inverses of fields are, one entry for each (:meth:`InverseFieldTransform.report`)."""
        return [step.report() for step in self.steps if isinstance(step, InverseFieldTransform)]


def _ends(vectors: torch.Tensor) -> bool:
    """Whether vectors (X, Y, Z, 3) are zero all around the border."""
    return not any(bool(vectors.select(axis, end).any()) for axis in range(3) for end in (0, -1))


def _linear_part(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least-squares slopes (3, 3), per voxel, and mean (3,) of vectors (X, Y, Z, 3): v = slopes (q - middle) + mean.

    The centred coordinates of a whole grid are orthogonal to each other, so that each slope is a fit of its own.
    """
    slopes = []
    for axis, size in enumerate(vectors.shape[:3]):
        centred = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        profile = vectors.mean(dim=[other for other in range(3) if other != axis])
        slopes.append(centred @ profile / max(float(centred @ centred), 1e-12))
    return torch.stack(slopes, dim=1), vectors.mean(dim=(0, 1, 2))
