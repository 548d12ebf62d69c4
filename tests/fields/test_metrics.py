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
"""What must hold for the measures of quality."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

from scripts.fields.metrics import (
    dice_per_structure,
    folding_percent,
    jacobian_at_grid,
    jacobian_determinant,
    sdlogj,
    surface_distances,
    target_registration_error,
)
from scripts.fields.world import displacement_lps

GRID = (8, 7, 9)


def linear_field(matrix: torch.Tensor, grid: tuple[int, ...] = GRID) -> torch.Tensor:
    """u(p) = matrix p, so that the Jacobian is det(I + matrix) everywhere."""
    points = torch.stack(torch.meshgrid(*(torch.arange(size).float() for size in grid), indexing="ij"))
    return torch.einsum("ij,jdhw->idhw", matrix, points)[None]


def entry(row: int, column: int, value: float) -> torch.Tensor:
    matrix = torch.zeros(3, 3)
    matrix[row, column] = value
    return matrix


def box(*ranges: slice, structure: int = 1) -> torch.Tensor:
    label = torch.zeros(1, 1, 20, 20, 20, dtype=torch.uint8)
    label[(0, 0, *ranges)] = structure
    return label


CUBE = box(slice(5, 14), slice(5, 14), slice(5, 14))
BRICK = box(slice(5, 18), slice(6, 13), slice(4, 12))


@pytest.mark.parametrize(
    ("matrix", "determinant"),
    [
        pytest.param(torch.zeros(3, 3), 1.0, id="identity"),
        pytest.param(entry(0, 0, 1.0), 2.0, id="axis 0 stretched by 2"),
        pytest.param(entry(1, 1, 1.0), 2.0, id="axis 1 stretched by 2"),
        pytest.param(entry(2, 2, 1.0), 2.0, id="axis 2 stretched by 2"),
        pytest.param(entry(0, 0, -1.5), -0.5, id="fold along axis 0"),
        pytest.param(entry(0, 2, -1.5), 1.0, id="shear of axis 0 along axis 2"),
        pytest.param(entry(2, 0, -1.5), 1.0, id="shear of axis 2 along axis 0"),
        pytest.param(-0.5 * torch.eye(3), 0.125, id="half the size"),
    ],
)
def test_jacobian_of_a_linear_field(matrix, determinant):
    jacobian = jacobian_determinant(linear_field(matrix))
    assert jacobian.shape == (1, 1, *GRID)
    torch.testing.assert_close(jacobian, torch.full_like(jacobian, determinant), atol=1e-5, rtol=0)


def test_jacobian_of_any_linear_field_is_that_of_its_matrix():
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    jacobian = jacobian_determinant(linear_field(matrix))
    torch.testing.assert_close(jacobian, torch.det(torch.eye(3) + matrix).expand_as(jacobian), atol=1e-3, rtol=0)


def test_differences_are_central_inside_and_one_sided_at_the_border():
    field = torch.zeros(1, 3, 5, 3, 3)
    field[0, 0] = torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0]).view(-1, 1, 1)
    along_axis = jacobian_determinant(field)[0, 0, :, 1, 1] - 1
    torch.testing.assert_close(along_axis, torch.tensor([1.0, 2.0, 4.0, 6.0, 7.0]))


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 4), (3, 4, 4, 4), (1, 3, 4, 1, 4)])
def test_jacobian_refuses_what_is_no_field(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, D, H, W\)"):
        jacobian_determinant(torch.zeros(shape))


def test_jacobian_does_not_change_the_field():
    field = linear_field(entry(0, 1, 0.5))
    before = field.clone()
    jacobian_determinant(field)
    assert torch.equal(field, before)


# ---- the determinant in millimetres, on the grid of a file


def affine_of(spacing, degrees=0.0, origin=(0.0, 0.0, 0.0)):
    """Voxel to RAS mm of a grid that is turned about the third axis."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    affine = torch.eye(4, dtype=torch.float64)
    affine[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    affine[:3, :3] *= torch.tensor(spacing)
    affine[:3, 3] = torch.tensor(origin)
    return affine


def jacobian_of(ddf, fixed, moving, grid, shape):
    return jacobian_at_grid(partial(displacement_lps, ddf, fixed, moving), grid, shape)


def test_without_a_displacement_on_one_grid_no_volume_changes():
    affine = affine_of((2, 1.5, 3), 20, (9, -40, 300))
    jacobian = jacobian_of(torch.zeros(3, *GRID), affine, affine, affine_of((1.2, 1, 2), -8), (6, 5, 1))
    assert jacobian.shape == (6, 5, 1)
    torch.testing.assert_close(jacobian, torch.ones_like(jacobian), atol=1e-4, rtol=0)


@pytest.mark.parametrize("axis", range(3))
def test_stretching_one_axis_by_2_doubles_the_volume_on_a_finer_grid(axis):
    affine, file = affine_of((2, 1.5, 3), 20), affine_of((1, 1, 2), 20)
    inside = file @ affine_of((1, 1, 1), 0, (4, 3, 3))  # central differences must not reach beyond the crop
    jacobian = jacobian_of(linear_field(entry(axis, axis, 1.0)), affine, affine, inside, (4, 4, 4))
    torch.testing.assert_close(jacobian, torch.full_like(jacobian, 2.0), atol=1e-4, rtol=0)


def test_two_images_of_different_voxels_differ_in_volume_though_the_field_is_zero():
    fixed, moving = affine_of((2, 1, 3), 20), affine_of((1, 1, 2), -15, (30, 0, 5))
    jacobian = jacobian_of(torch.zeros(3, *GRID), fixed, moving, fixed, GRID)
    torch.testing.assert_close(jacobian, torch.full_like(jacobian, 2 / 6), atol=1e-4, rtol=0)


def test_a_large_grid_is_done_in_slabs_that_do_not_show(monkeypatch):
    ddf = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(0))
    arguments = (ddf, affine_of((2, 1, 3)), affine_of((1, 1, 2)), affine_of((1.1, 1, 2)), (9, 6, 7))
    whole = jacobian_of(*arguments)
    monkeypatch.setattr("scripts.fields.metrics.POINTS_AT_ONCE", 2 * 6 * 7)
    torch.testing.assert_close(jacobian_of(*arguments), whole, atol=1e-5, rtol=0)


def test_folding_is_counted_per_sample():
    fields = torch.cat([linear_field(torch.zeros(3, 3)), linear_field(entry(1, 1, -2.0))])
    assert folding_percent(fields).tolist() == [0.0, 100.0]


def test_a_determinant_of_zero_is_a_fold():
    assert folding_percent(linear_field(entry(2, 2, -1.0))).item() == 100


def test_folding_is_a_share_of_the_whole_grid():
    field = torch.zeros(1, 3, 10, 4, 4)
    field[0, 0, 5] = -3.0  # slope -1.5 one voxel before, +1.5 one voxel behind
    assert folding_percent(field).item() == pytest.approx(10.0)


@pytest.mark.parametrize("stretch", [0.0, 0.7, -0.4])
def test_a_uniform_scaling_has_no_spread(stretch):
    assert sdlogj(linear_field(stretch * torch.eye(3))).item() == pytest.approx(0, abs=1e-5)


def test_spread_of_two_halves_is_half_the_distance_of_their_logarithms():
    field = torch.zeros(1, 3, 4, 4, 4)
    half = linear_field(entry(1, 1, 1.0), (4, 4, 4))
    for near, far in ((0, 2), (1, 3)):  # planes do not differ along axis 0: only the slope along axis 1 counts
        field[0, 1, near], field[0, 1, far] = 0.0, half[0, 1, far]
    assert sdlogj(field).item() == pytest.approx(math.log(2) / 2, rel=1e-5)


def test_a_fold_counts_as_a_heavy_compression_not_as_nan():
    fields = torch.cat([linear_field(entry(0, 0, -1.5)), linear_field(torch.zeros(3, 3))], dim=2)
    assert torch.isfinite(sdlogj(fields)).all()
    assert sdlogj(fields).item() > 5


def test_dice_of_two_boxes():
    overlap, sizes = 9 * 7 * 7, 9**3 + 13 * 7 * 8
    dice = dice_per_structure(CUBE, BRICK, num_classes=2)
    assert dice.shape == (1, 1)
    assert dice.item() == pytest.approx(2 * overlap / sizes)


def test_dice_is_one_for_equal_labels():
    label = torch.randint(0, 4, (2, 1, *GRID), generator=torch.Generator().manual_seed(0))
    assert torch.equal(dice_per_structure(label, label, num_classes=4), torch.ones(2, 3))


def test_dice_follows_the_rules_for_empty_structures():
    # structure 1 in both, 2 only predicted, 3 only true, 4 in neither
    pred = CUBE.clone()
    truth = CUBE.clone()
    pred[..., 0], truth[..., 0] = 2, 3
    dice = dice_per_structure(pred, truth, num_classes=5)
    torch.testing.assert_close(dice, torch.tensor([[1.0, 0.0, 0.0, math.nan]]), equal_nan=True)


@pytest.mark.parametrize("measure", [dice_per_structure, lambda p, t, n: surface_distances(p, t, n, (1, 1, 1))])
def test_labels_of_different_shape_are_refused(measure):
    with pytest.raises(ValueError, match="differ in shape"):
        measure(CUBE, CUBE[..., :-1], 2)


def test_one_hot_labels_are_refused():
    with pytest.raises(ValueError, match=r"\(B, 1, D, H, W\)"):
        dice_per_structure(torch.zeros(1, 3, *GRID), torch.zeros(1, 3, *GRID), 3)


def test_asd_is_the_mean_of_the_two_directed_averages():
    asd = surface_distances(CUBE, BRICK, 2, (1, 1, 1))["asd"].item()
    one_way, other_way = (
        compute_average_surface_distance(a, b, include_background=True).item()
        for a, b in ((CUBE, BRICK), (BRICK, CUBE))
    )
    assert asd == pytest.approx((one_way + other_way) / 2, rel=1e-5)
    assert asd == pytest.approx(1.2777, abs=5e-5)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1.5, 3.0)])
def test_hd95_is_that_of_monai(spacing):
    expected = compute_hausdorff_distance(CUBE, BRICK, include_background=True, percentile=95, spacing=spacing)
    assert surface_distances(CUBE, BRICK, 2, spacing)["hd95"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distances_are_in_mm_along_the_axis_of_the_shift(axis):
    plane, shifted = (torch.zeros(1, 1, 12, 12, 12) for _ in range(2))
    plane.select(axis + 2, 3)[:] = 1
    shifted.select(axis + 2, 5)[:] = 1
    spacing = (0.5, 2.0, 3.0)
    distances = surface_distances(plane, shifted, 2, spacing)
    assert distances["asd"].item() == pytest.approx(2 * spacing[axis])
    assert distances["hd95"].item() == pytest.approx(2 * spacing[axis])


def test_equal_surfaces_are_at_distance_zero():
    assert {key: value.item() for key, value in surface_distances(CUBE, CUBE, 2, (1, 2, 3)).items()} == {
        "hd95": 0,
        "asd": 0,
        "surface_dice_1": 1,
        "surface_dice_2": 1,
    }


def test_distances_of_a_missing_structure_are_nan_and_the_others_stand():
    pred, truth = CUBE.clone(), BRICK.clone()
    pred[0, 0, 0, 0, 0] = 2  # 2 is only predicted, 3 only true, 4 in neither
    truth[0, 0, 0, 0, 0] = 3
    scores = surface_distances(pred, truth, 5, (1, 1, 1))
    for name in ("hd95", "asd"):
        assert torch.isfinite(scores[name]).tolist() == [True, False, False, False]


def test_what_was_missed_or_invented_counts_as_0_in_the_surface_dice_and_what_is_nowhere_does_not():
    pred, truth = CUBE.clone(), BRICK.clone()
    pred[0, 0, 0, 0, 0] = 2  # 2 is only predicted, 3 only true, 4 in neither
    truth[0, 0, 0, 0, 0] = 3
    scores = surface_distances(pred, truth, 5, (1, 1, 1))
    for name in ("surface_dice_1", "surface_dice_2"):
        found, invented, missed, nowhere = scores[name].tolist()
        assert 0 < found < 1 and (invented, missed) == (0, 0) and math.isnan(nowhere)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1.5, 3.0)])
@pytest.mark.parametrize("voxels", [1, 2])
def test_the_surface_dice_is_that_of_monai_at_so_many_of_the_smallest_sides(voxels, spacing):
    pred, truth = (torch.cat([label == 0, label == 1], dim=1) for label in (CUBE, BRICK))
    tolerance = [voxels * min(spacing) + 1e-4]
    expected = compute_surface_dice(pred, truth, tolerance, spacing=spacing).item()
    found = surface_distances(CUBE, BRICK, 2, spacing)[f"surface_dice_{voxels}"].item()
    assert 0 < expected < 1 and found == pytest.approx(expected, rel=1e-5)


def test_a_surface_one_voxel_away_agrees_within_one_voxel_and_one_two_voxels_away_within_two():
    for shift, expected in ((1, (1, 1)), (2, (0, 1)), (3, (0, 0))):
        plane, shifted = (torch.zeros(1, 1, 12, 12, 12) for _ in range(2))
        plane[:, :, 3], shifted[:, :, 3 + shift] = 1, 1
        scores = surface_distances(plane, shifted, 2, (0.3, 0.9, 0.7))
        assert (scores["surface_dice_1"].item(), scores["surface_dice_2"].item()) == expected


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, -1, 1)])
def test_spacing_must_be_three_positive_numbers(spacing):
    with pytest.raises(ValueError, match="three positive numbers"):
        surface_distances(CUBE, BRICK, 2, spacing)


def test_surface_distances_take_one_case_at_a_time():
    batch = torch.cat([CUBE, BRICK])
    with pytest.raises(ValueError, match="batch of 2"):
        surface_distances(batch, batch, 2, (1, 1, 1))


def test_landmark_errors_are_euclidean():
    points = torch.tensor([[0.0, 0.0, 0.0], [10.0, -5.0, 2.0]])
    moved = points + torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, -2.0]])
    assert target_registration_error(points, moved).tolist() == [5.0, 2.0]


@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 2), (4, 2)), ((3,), (3,))])
def test_landmarks_must_correspond(shapes):
    with pytest.raises(ValueError, match="landmarks"):
        target_registration_error(*(torch.zeros(shape) for shape in shapes))
