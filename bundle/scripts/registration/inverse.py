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
"""The map of a registration the other way, and how far it is from taking points back."""

from __future__ import annotations

from typing import Any

import torch

from ..fields.grids import apply_affine, as_affine, change_grid, inside_grid, voxel_points
from ..fields.maps import covering_grid, field_on_grid, map_on_grid
from ..fields.transforms import AffineTransform, Chain
from ..fields.world import slabs
from ..matching.match import Match
from .pair import Registered, Subject


@torch.no_grad()
def invert_pair(result: Registered, transform: Chain, moving: Subject, fixed: Subject) -> tuple[Chain, dict[str, Any]]:
    """Invert the map of a pair: the inverse of its affine, then that of its field, on the same grid.

    The latter is sought by iteration at each voxel: from where the velocity leads that the field is the integral of,
    turned round, where the state knows it; else from the voxel itself.

    Args:
        result: of registering the pair.
        transform: its map, a field and an affine.
        moving, fixed: the pair.

    Returns:
        The inverse, and for ``summary.json`` what it began with and the residual: the distances in mm of fixed points
        from where they come to there and back, over the voxels of the networks' size in the fixed file that go to the
        inside of the moving one.
    """
    field, outside = transform.steps
    here = voxel_points(field.displacement.shape[:3], field.affine)
    points = here.reshape(-1, 3)
    start = points if result.match is None else _turned_round(result.match, fixed)(points)
    found = field.inverse().search(points, start).reshape(here.shape)
    inverse = Chain([outside.inverse(), field_on_grid(found - here, field.affine)])
    residual = _residual(transform, inverse, moving, fixed)
    mean, largest = (float(residual.mean()), float(residual.max())) if len(residual) else (None, None)
    made_of = "field" if result.match is None else "velocity and affine"
    return inverse, {"made_of": made_of, "residual_mm": {"mean": mean, "max": largest}}


def _turned_round(match: Match, fixed: Subject) -> Chain:
    """Where the velocity leads backwards, without the affine."""
    back = match.integral(-1.0)[0].cpu().movedim(0, -1)
    affine = as_affine(fixed.network.affine)
    moved = apply_affine(affine, voxel_points(back.shape[:3], torch.eye(4)) + back)
    return map_on_grid(moved, affine, AffineTransform(torch.eye(4)))


def _residual(transform: Chain, inverse: Chain, moving: Subject, fixed: Subject) -> torch.Tensor:
    affine, shape = covering_grid(
        fixed.network.affine, fixed.network.shape[1:], fixed.file.affine, fixed.file.shape[1:]
    )
    distances = []
    for _, points in slabs(shape, affine):
        points = points[_inside(points, fixed)]
        there = transform(points)
        reached = _inside(there, moving)
        distances.append((inverse(there[reached]) - points[reached]).norm(dim=-1))
    return torch.cat(distances)


def _inside(points: torch.Tensor, subject: Subject) -> torch.Tensor:
    voxels = change_grid(points, torch.eye(4), subject.file.affine)
    return inside_grid(voxels, subject.file.shape[1:])
