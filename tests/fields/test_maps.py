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
"""The map of a registration: what is written is what carries images, in the field's grid, around it and far away."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from geometries import FILE, FIXED, GEOMETRIES, OBLIQUE, affine, generator, smooth_field

from scripts.fields.grids import change_grid, ras_to_lps, voxel_points
from scripts.fields.maps import covering_grid, displacement_on_grid, map_of_field, points_on_grid
from scripts.fields.metrics import jacobian_determinant
from scripts.fields.transform_files import read_transform, write_chain, write_displacement
from scripts.fields.transforms import AffineTransform, Chain
from scripts.fields.world import moving_points

VOXEL = 3e-4  # of a voxel: a little more than what remainders are rounded to


def write(folder, transform, affines):
    """Both files of a map, as registration writes them."""
    write_chain(folder / "map.h5", transform.steps)
    cover = covering_grid(affines[0], FIXED, affines[2], FILE)
    write_displacement(folder / "map.nii.gz", displacement_on_grid(transform, *cover), cover[0])


def by_itk(path, points):
    """Where SimpleITK takes points (N, 3), RAS mm, with a file."""
    if path.suffix == ".h5":
        transform = sitk.ReadTransform(str(path))
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    moved = [transform.TransformPoint(point) for point in ras_to_lps(points).tolist()]
    return ras_to_lps(torch.tensor(moved, dtype=torch.float64))


def farthest(one, other):
    return float((one - other).norm(dim=-1).max())


def anywhere(grid, low, high, number=400):
    """Random points (N, 3), RAS mm, between multiples of the sides of the file."""
    sides = torch.tensor(FILE) - 1
    voxels = (low + (high - low) * torch.rand(number, 3, generator=generator(), dtype=torch.float64)) * sides
    return AffineTransform(grid)(voxels)


@GEOMETRIES
def test_at_the_voxels_of_the_networks_the_map_is_their_field(affines):
    fixed, moving, _ = affines
    found = map_of_field(smooth_field(), fixed, moving)(voxel_points(FIXED, fixed))
    truth = moving_points(smooth_field(), fixed, moving, fixed, FIXED)
    apart = (change_grid(found, torch.eye(4), moving) - change_grid(truth, torch.eye(4), moving)).norm(dim=-1)
    assert apart.max() < 2 * VOXEL


@GEOMETRIES
@pytest.mark.parametrize(("name", "low", "high"), [("map.h5", -3.0, 4.0), ("map.nii.gz", 0.0, 1.0)])
def test_itk_takes_a_point_where_we_take_it_inside_and_with_the_transform_anywhere(affines, name, low, high, tmp_path):
    transform = map_of_field(smooth_field(), *affines[:2])
    write(tmp_path, transform, affines)
    points = anywhere(affines[2], low, high)
    inside = ((change_grid(points, torch.eye(4), affines[0]) - torch.tensor(FIXED) / 2).abs() < 8).all(dim=-1)
    assert (points - transform(points)).norm(dim=-1)[inside].mean() > 1 or low < 0
    assert farthest(transform(points), by_itk(tmp_path / name, points)) < 1e-3
    assert farthest(transform(points), Chain(read_transform(tmp_path / name))(points)) < 1e-3


def test_far_away_the_affine_that_fits_best_goes_on(tmp_path):
    matrix = affine((1.1, 0.9, 1.2), (20, -15, 30), (5, -8, 12))
    fixed, moving, _ = OBLIQUE
    here = voxel_points(FIXED, fixed)
    ddf = change_grid(AffineTransform(matrix)(here), torch.eye(4), moving) - voxel_points(FIXED, torch.eye(4))
    transform = map_of_field(ddf.movedim(-1, 0), fixed, moving)
    far = 500 * torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    assert farthest(transform(far), AffineTransform(matrix)(far)) < 1e-3
    write_chain(tmp_path / "map.h5", transform.steps)
    assert farthest(by_itk(tmp_path / "map.h5", far), AffineTransform(matrix)(far)) < 1e-3


@pytest.mark.parametrize("amplitude", [0.5, 3.0])
def test_nothing_tears_or_folds_on_the_way_out_of_the_grid(amplitude):
    fixed, moving, grid = OBLIQUE
    transform = map_of_field(smooth_field(amplitude=amplitude), fixed, moving)
    field = transform.steps[0]
    here = voxel_points(field.displacement.shape[:3], field.affine)
    moved = change_grid(Chain([field])(here), torch.eye(4), field.affine)
    in_voxels = moved - change_grid(here, torch.eye(4), field.affine)
    assert jacobian_determinant(in_voxels.movedim(-1, 0)[None].float()).min() > 0.05
    centre = change_grid(torch.tensor(FIXED) / 2, fixed, torch.eye(4))
    ways = torch.randn(20, 3, generator=generator(), dtype=torch.float64)
    steps = torch.linspace(0, 80, 4000, dtype=torch.float64)[:, None, None]
    walked = transform(centre + steps * ways / ways.norm(dim=1, keepdim=True))
    assert walked.diff(dim=0).norm(dim=-1).max() < 5 * 80 / 4000  # mm a step of 0.02 mm


def test_a_field_of_zeros_is_the_affine_between_the_two_grids():
    transform = map_of_field(torch.zeros(3, *FIXED), *OBLIQUE[:2])
    assert not transform.steps[0].displacement.any()
    torch.testing.assert_close(transform.steps[1].matrix, OBLIQUE[1] @ OBLIQUE[0].inverse(), atol=1e-9, rtol=0)


def test_a_map_that_flattens_the_volume_goes_on_as_a_shift():
    flat = -voxel_points(FIXED, torch.eye(4)).movedim(-1, 0) * torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1)
    transform = map_of_field(flat, torch.eye(4), torch.eye(4))
    torch.testing.assert_close(transform.steps[1].matrix[:3, :3], torch.eye(3).double())


@GEOMETRIES
def test_a_grid_is_continued_by_whole_voxels_until_it_holds_the_other(affines):
    grid, shape = covering_grid(affines[0], FIXED, affines[2], FILE)
    first = change_grid(torch.zeros(3), affines[0], grid)
    torch.testing.assert_close(first, first.round(), atol=1e-9, rtol=0)
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, side - 0.5]) for side in FILE))
    voxels = change_grid(corners, affines[2], grid)
    assert (voxels > -1e-9).all() and (voxels < torch.tensor(shape) - 1 + 1e-9).all()
    assert covering_grid(grid, shape, affines[2], FILE)[1] == shape


def test_files_of_a_large_image_are_as_small_as_what_the_networks_saw(tmp_path):
    file, shape = (320, 320, 200), (80, 80, 50)
    grid = affine((4, 4, 4), origin=(1.5, 1.5, 1.5))
    transform = map_of_field(smooth_field(shape, 3.0) + 0.5 * smooth_field(shape).flip(1), grid, grid)
    cover = covering_grid(grid, shape, torch.eye(4), file)
    write_chain(tmp_path / "map.h5", transform.steps)
    write_displacement(tmp_path / "map.nii.gz", displacement_on_grid(transform, *cover), cover[0])
    assert cover[1] == (82, 82, 52)
    assert all(os.path.getsize(tmp_path / name) < 10e6 for name in ("map.h5", "map.nii.gz"))
    corners = torch.cartesian_prod(*(torch.tensor([0.0, side - 1.0]) for side in file)).double()
    for name in ("map.h5", "map.nii.gz"):
        np.testing.assert_allclose(by_itk(tmp_path / name, corners), transform(corners), atol=1e-3)


def test_a_large_grid_is_filled_in_slabs_without_a_seam(monkeypatch):
    transform = map_of_field(smooth_field(), *OBLIQUE[:2])
    whole = points_on_grid(transform, OBLIQUE[2], FILE), displacement_on_grid(transform, OBLIQUE[2], FILE)
    monkeypatch.setattr("scripts.fields.world.POINTS_AT_ONCE", 3 * FILE[1] * FILE[2] + 5)
    torch.testing.assert_close(points_on_grid(transform, OBLIQUE[2], FILE), whole[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(displacement_on_grid(transform, OBLIQUE[2], FILE), whole[1], atol=1e-5, rtol=0)
