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
"""Transforms of points: what is known of them by calculation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from geometries import FILE, FIXED, GEOMETRIES, affine, generator, smooth_field

from scripts.fields.grids import voxel_points
from scripts.fields.transforms import AffineTransform, Chain, FieldTransform
from scripts.fields.world import displacement_lps, moving_points

TURNED = affine((1.1, 0.9, 1.2), (20, -15, 30), (5, -8, 12))


def points_in(matrix, shape, number=500, margin=0.0):
    """Random points of the world in a grid, (N, 3)."""
    low, high = margin, torch.tensor(shape) - 1 - margin
    voxels = low + torch.rand(number, 3, generator=generator(), dtype=torch.float64) * (high - low)
    return AffineTransform(matrix)(voxels)


def on_file(affines, amplitude=2.0):
    """A field as registration writes it, on the grid of the file."""
    fixed, moving, grid = affines
    return FieldTransform(displacement_lps(smooth_field(amplitude=amplitude), fixed, moving, grid, FILE), grid)


def farthest(one, other):
    return float((one - other).norm(dim=-1).max())


@GEOMETRIES
def test_at_the_voxels_of_its_grid_a_field_is_the_registration(affines):
    fixed, moving, grid = affines
    points = voxel_points(FILE, grid)
    moved = Chain([on_file(affines)])(points)
    assert moved.shape == points.shape
    assert farthest(moved, moving_points(smooth_field(), fixed, moving, grid, FILE)) < 1e-5


@GEOMETRIES
def test_the_inverse_takes_every_point_back(affines):
    field = on_file(affines, amplitude=0.5)
    inverse = field.inverse()
    points = points_in(affines[2], FILE)
    assert farthest(inverse(field(points)), points) < 1e-3
    assert farthest(field(points), points) > 0.1
    assert 0 < inverse.report()["residual_mm"] < 1e-3
    assert inverse.report()["percent_without_inverse"] == inverse.report()["folding_percent"] == 0
    assert inverse.inverse() is field


def test_a_field_that_is_a_matrix_is_that_matrix_everywhere_and_so_is_its_inverse():
    points = voxel_points(FIXED, affine((1.5, 1, 2), (10, 0, 40)))
    displacement = (AffineTransform(TURNED)(points) - points) * torch.tensor([-1, -1, 1])
    field = FieldTransform(displacement, affine((1.5, 1, 2), (10, 0, 40)))
    torch.testing.assert_close(field.affine_part.matrix, TURNED, atol=1e-4, rtol=0)
    anywhere = 200 * torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    assert farthest(field(anywhere), AffineTransform(TURNED)(anywhere)) < 1e-2
    assert farthest(field.inverse()(anywhere), AffineTransform(TURNED).inverse()(anywhere)) < 1e-2


def test_outside_its_grid_a_field_goes_on_as_at_the_border():
    bump = torch.zeros(8, 8, 8, 3)
    bump[-1, :, :, 1] = bump[0, :, :, 1] = 4.0  # even: without a slope, so that the affine part is the mean
    field = FieldTransform(bump, torch.eye(4))
    points = torch.tensor([[-50.0, 3.0, 3.0], [0.0, 3.0, 3.0], [90.0, 3.0, 3.0]]).double()
    torch.testing.assert_close(field(points) - points, torch.tensor([[0.0, -4.0, 0.0]] * 3).double(), atol=1e-5, rtol=0)
    moved, outside = Chain([field]).trace(points)
    assert outside.tolist() == [True, False, True]
    assert Chain([field]).inverse().trace(moved)[1].tolist() == [True, False, True]


def test_where_a_field_folds_there_is_no_inverse_and_that_is_said():
    # x -> x + 6 sin(x): |J| = 1 + 6 cos(x)
    x = torch.linspace(0, 4 * np.pi, 40)
    field = torch.zeros(40, 6, 6, 3)
    field[..., 0] = -6 * torch.sin(x).view(-1, 1, 1)
    grid = affine((float(x[1]), 1, 1))
    inverse = FieldTransform(field, grid, "folded.nii.gz").inverse()
    inverse(points_in(grid, (40, 6, 6)))
    report = inverse.report()
    assert report["field"] == "folded.nii.gz" and report["residual_mm"] > 0.1
    assert 1 < report["percent_without_inverse"] < 50  # elsewhere one of several is found
    expected = 100 * float((1 + 6 * torch.cos(x) <= 0).float().mean())
    assert report["folding_percent"] == pytest.approx(expected, abs=6)


def test_a_mirrored_field_does_not_fold():
    points = voxel_points(FIXED, torch.eye(4))
    mirrored = points * torch.tensor([-1, 1, 1]) + torch.tensor([FIXED[0] - 1.0, 0, 0])
    field = FieldTransform((mirrored - points) * torch.tensor([-1, -1, 1]), torch.eye(4))
    assert field.folding_percent() == 0
    assert farthest(field.inverse()(mirrored.reshape(-1, 3)), points.reshape(-1, 3)) < 1e-3


def test_a_point_goes_through_the_first_step_first():
    double, shift = torch.eye(4), torch.eye(4)
    double[0, 0], shift[0, 3] = 2.0, 10.0
    chain = Chain([AffineTransform(double), AffineTransform(shift)])
    point = torch.tensor([[3.0, 1.0, 1.0]])
    assert chain(point).tolist() == [[16.0, 1.0, 1.0]]
    assert chain.inverse()(chain(point)).tolist() == [[3.0, 1.0, 1.0]]
    assert Chain([])(point).tolist() == point.tolist()


def test_a_large_chain_is_taken_in_parts_without_a_seam(monkeypatch):
    affines = (affine((1, 1, 1)),) * 3
    chain = Chain([AffineTransform(TURNED), on_file(affines), AffineTransform(TURNED).inverse()])
    points = points_in(affines[0], FILE)
    whole = chain.trace(points)
    monkeypatch.setattr("scripts.fields.transforms.POINTS_AT_ONCE", 7)
    in_parts = chain.trace(points)
    torch.testing.assert_close(in_parts[0], whole[0], atol=1e-9, rtol=0)
    assert torch.equal(in_parts[1], whole[1]) and 0 < whole[1].sum() < len(points)


def test_a_matrix_that_flattens_has_no_inverse():
    with pytest.raises(ValueError, match="has no inverse"):
        AffineTransform(torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0]))).inverse()
