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
"""What must hold between voxel fields, the world, and the programs that read our files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from geometries import (
    EQUAL,
    FILE,
    FIXED,
    GEOMETRIES,
    MOVING,
    OBLIQUE,
    ONE_GRID,
    affine,
    apply_with_itk,
    array,
    away_from_faces,
    generator,
    itk_image,
    noise,
    smooth_field,
)

from scripts.fields.grids import change_grid, lps_to_ras, outside_grid, ras_to_lps, voxel_points
from scripts.fields.metrics import jacobian_determinant
from scripts.fields.transform_files import write_displacement
from scripts.fields.warping import invert, warp, warp_label
from scripts.fields.world import displacement_lps, moving_points, sample_at, sample_label_at, transform_points


def test_ras_and_lps_differ_in_the_sign_of_x_and_y():
    points = torch.tensor([[1.0, 2.0, 3.0]])
    assert ras_to_lps(points).tolist() == [[-1.0, -2.0, 3.0]]
    assert torch.equal(lps_to_ras(ras_to_lps(points)), points)


@GEOMETRIES
def test_voxel_points_are_where_nibabel_and_itk_see_them(affines):
    index, matrix = (3, 5, 2), affines[0]
    point = voxel_points(FIXED, matrix)[index]
    np.testing.assert_allclose(point, nib.affines.apply_affine(matrix.numpy(), index), atol=1e-12)
    in_itk = itk_image(torch.zeros(FIXED), matrix).TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose(ras_to_lps(point), in_itk, atol=1e-9)


@GEOMETRIES
def test_the_written_field_applied_by_itk_equals_ours(affines, tmp_path):
    fixed, moving, grid = affines
    image, field = noise(), smooth_field()
    write_displacement(tmp_path / "warp.nii.gz", displacement_lps(field, fixed, moving, grid, FILE), grid)
    points = moving_points(field, fixed, moving, grid, FILE)
    ours = sample_at(image, moving, points)[0]
    theirs = apply_with_itk(
        tmp_path / "warp.nii.gz", itk_image(image[0], moving), itk_image(torch.zeros(FILE), grid), sitk.sitkLinear
    )
    comparable = away_from_faces(points, moving)
    assert (ours[comparable] != 0).float().mean() > 0.3  # not a comparison of nothing with nothing
    assert (ours - theirs)[comparable].abs().max() < EQUAL


@GEOMETRIES
def test_on_the_fixed_tensor_grid_itk_equals_our_warp(affines, tmp_path):
    # one shape for both, so that `warp` itself, as the networks use it, is the other side of the comparison
    fixed, moving, _ = affines
    image, field = noise(FIXED), smooth_field().double()
    write_displacement(tmp_path / "warp.nii", displacement_lps(field, fixed, moving, fixed, FIXED), fixed)
    ours = warp(image[None], field[None], padding_mode="border")[0, 0]
    theirs = apply_with_itk(
        tmp_path / "warp.nii", itk_image(image[0], moving), itk_image(torch.zeros(FIXED), fixed), sitk.sitkLinear
    )
    inside = torch.stack(torch.meshgrid(*(torch.arange(size) for size in FIXED), indexing="ij")) + field
    upper = torch.tensor(FIXED).view(3, 1, 1, 1) - 1
    inside = ((inside > 0) & (inside < upper)).all(dim=0)
    assert inside.float().mean() > 0.4
    assert (ours - theirs)[inside].abs().max() < EQUAL


@GEOMETRIES
def test_a_label_warped_by_itk_with_nearest_neighbours_equals_ours(affines, tmp_path):
    fixed, moving, grid = affines
    label = torch.randint(0, 5, (1, *MOVING), generator=generator(), dtype=torch.int16)
    write_displacement(tmp_path / "warp.nii.gz", displacement_lps(smooth_field(), fixed, moving, grid, FILE), grid)
    points = moving_points(smooth_field(), fixed, moving, grid, FILE)
    ours = sample_at(label, moving, points, mode="nearest")[0]
    reference = itk_image(torch.zeros(FILE), grid)
    theirs = apply_with_itk(tmp_path / "warp.nii.gz", itk_image(label[0], moving), reference, sitk.sitkNearestNeighbor)
    assert (ours == theirs).float().mean() > 0.999  # but for voxels half way between two, by rounding


def test_the_file_says_what_it_is(tmp_path):
    matrix = OBLIQUE[2]
    displacement = displacement_lps(smooth_field(), *OBLIQUE, FILE)
    write_displacement(tmp_path / "warp.nii.gz", displacement, matrix)
    file = nib.load(tmp_path / "warp.nii.gz")
    assert file.shape == (*FILE, 1, 3)
    assert file.get_data_dtype() == np.float32
    assert file.header["intent_code"] == 1007
    assert file.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(file.get_sform(), matrix, atol=1e-5)
    np.testing.assert_allclose(file.get_qform(), matrix, atol=1e-5)
    assert (file.header["sform_code"], file.header["qform_code"]) == (1, 1)
    np.testing.assert_array_equal(file.get_fdata(dtype=np.float32)[:, :, :, 0], displacement)
    assert [file.name for file in tmp_path.iterdir()] == ["warp.nii.gz"]


def test_a_field_read_as_ras_would_be_wrong(tmp_path):
    # the trap that the choice of the intent avoids: the same numbers under 1006 warp differently in ITK
    fixed, moving, grid = OBLIQUE
    write_displacement(tmp_path / "right.nii", displacement_lps(smooth_field(), fixed, moving, grid, FILE), grid)
    file = nib.load(tmp_path / "right.nii")
    file.header.set_intent(1006)
    nib.save(file, tmp_path / "wrong.nii")
    right, wrong = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))) for name in ("right.nii", "wrong.nii"))
    np.testing.assert_allclose(wrong, right * [-1, -1, 1], atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stretching_an_axis_by_two_doubles_the_volume_here_and_in_itk(axis, tmp_path):
    # axes along L, P and S: ITK's filter takes derivatives along the array axes and does not turn them into the world
    matrix = affine((1.2, 0.7, 2.5), origin=(5, -3, 8), flips=(-1, -1, 1))
    field = torch.zeros(1, 3, *FIXED)
    field[0, axis] = torch.arange(FIXED[axis]).view(*(-1 if k == axis else 1 for k in range(3)))
    write_displacement(tmp_path / "warp.nii", displacement_lps(field, matrix, matrix, matrix, FIXED), matrix)
    ours = jacobian_determinant(field)[0, 0]
    in_itk = sitk.DisplacementFieldJacobianDeterminant(
        sitk.ReadImage(str(tmp_path / "warp.nii"), sitk.sitkVectorFloat64)
    )
    inside = (slice(1, -1),) * 3
    torch.testing.assert_close(ours, torch.full(FIXED, 2.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(array(in_itk)[inside].float(), ours[inside], atol=1e-4, rtol=0)


@GEOMETRIES
def test_a_field_of_zeros_carries_each_voxel_to_the_one_of_the_same_index(affines):
    fixed, moving, _ = affines
    points = moving_points(torch.zeros(3, *FIXED), fixed, moving, fixed, FIXED)
    torch.testing.assert_close(points, voxel_points(FIXED, moving), atol=1e-9, rtol=0)
    if torch.equal(fixed, moving):
        displacement = displacement_lps(torch.zeros(3, *FIXED), fixed, moving, fixed, FIXED)
        torch.testing.assert_close(displacement, torch.zeros(*FIXED, 3), atol=1e-9, rtol=0)


def test_outside_the_fixed_tensor_the_displacement_of_the_border_goes_on():
    field = torch.zeros(3, *FIXED)
    field[0, 0], field[0, -1] = 1.5, -2.0
    matrix = affine((2, 1, 1))
    points = torch.tensor([[-9.0, 5.0, 5.0], [2 * FIXED[0] + 9.0, 5.0, 5.0]])
    moved = transform_points(points, field, matrix, matrix) - points
    torch.testing.assert_close(moved[:, 0], torch.tensor([3.0, -4.0], dtype=torch.float64))


def test_between_voxels_the_displacement_is_linear():
    field = smooth_field()
    middle = torch.tensor([[4.5, 7.0, 3.0]])
    moved = transform_points(middle, field[None], torch.eye(4), torch.eye(4)) - middle
    expected = (field[:, 4, 7, 3] + field[:, 5, 7, 3]).double() / 2
    torch.testing.assert_close(moved[0], expected, atol=1e-6, rtol=0)


def test_points_come_back_by_the_inverse_field():
    fixed, moving, _ = OBLIQUE
    field = 0.4 * smooth_field()
    points = voxel_points(FIXED, fixed)[5:-5, 5:-5, 5:-5].reshape(-1, 3)
    inverse, _ = invert(field[None].double())
    back = transform_points(transform_points(points, field, fixed, moving), inverse, moving, fixed)
    assert (back - points).norm(dim=-1).max() < 0.05  # mm; the inverse is interpolated


def test_a_large_grid_is_filled_in_slabs_without_a_seam(monkeypatch):
    whole = moving_points(smooth_field(), *OBLIQUE, FILE), displacement_lps(smooth_field(), *OBLIQUE, FILE)
    values = sample_at(noise(), OBLIQUE[1], whole[0])
    monkeypatch.setattr("scripts.fields.world.POINTS_AT_ONCE", 3 * FILE[1] * FILE[2] + 5)
    torch.testing.assert_close(moving_points(smooth_field(), *OBLIQUE, FILE), whole[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(displacement_lps(smooth_field(), *OBLIQUE, FILE), whole[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(sample_at(noise(), OBLIQUE[1], whole[0]), values, atol=1e-5, rtol=0)


@GEOMETRIES
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_at_its_own_voxels_the_image_comes_back(affines, mode):
    image = torch.cat([noise(), 2 * noise()])
    read = sample_at(image, affines[1], voxel_points(MOVING, affines[1]), mode)
    torch.testing.assert_close(read, image, atol=1e-9, rtol=0)
    in_float32 = sample_at(image.float(), affines[1], voxel_points(MOVING, affines[1]), mode)
    torch.testing.assert_close(in_float32, image.float(), atol=2e-3, rtol=0)


@GEOMETRIES
def test_voxels_of_one_grid_in_another_are_the_same_points_of_the_world(affines):
    voxels = torch.randint(0, 20, (50, 3))
    there = change_grid(voxels, affines[0], affines[1])
    in_world = [
        points @ matrix[:3, :3].T + matrix[:3, 3]
        for points, matrix in ((voxels.double(), affines[0]), (there, affines[1]))
    ]
    assert torch.allclose(*in_world, atol=1e-9)


def test_a_grid_reaches_to_the_outer_faces_of_its_border_voxels():
    mask = torch.zeros(12, 3, 3, dtype=torch.bool)
    mask[:, 1, 1] = True
    coarse = torch.eye(4, dtype=torch.float64)
    coarse[:3, :3] *= 3
    coarse[:3, 3] = torch.tensor([3.9, 1, 1])  # two voxels of 3 mm: from 2.4 to 8.4 mm
    assert outside_grid(mask, torch.eye(4), coarse, (2, 1, 1)).nonzero().flatten().tolist() == [0, 1, 2, 9, 10, 11]
    assert not outside_grid(mask, coarse, coarse, mask.shape).any()
    assert outside_grid(torch.zeros_like(mask), coarse, coarse, mask.shape).shape == (0,)


def test_beyond_the_outer_faces_lies_the_fill():
    image = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 4, 4)
    points = torch.tensor([[x, 1.0, 1.0] for x in (-0.6, -0.4, 2.5, 3.4, 3.6)])
    values = sample_at(image, torch.eye(4), points, fill=-1000.0)
    torch.testing.assert_close(values, torch.tensor([[-1000.0, 0.0, 2.5, 3.0, -1000.0]]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_at_its_own_voxels_the_label_comes_back(dtype):
    label = torch.tensor([0, 1, 7, 120])[torch.randint(0, 4, (1, *MOVING), generator=generator())].to(dtype)
    read = sample_label_at(label, OBLIQUE[1], voxel_points(MOVING, OBLIQUE[1]))
    assert read.dtype == dtype
    assert torch.equal(read, label)


def test_a_label_is_never_blended_into_another_id():
    label = torch.full((1, *MOVING), 205, dtype=torch.int16)
    label[:, 13:] = 850
    points = voxel_points(MOVING, torch.eye(4)) + torch.tensor([0.4, 0.0, 0.0])
    assert set(sample_label_at(label, torch.eye(4), points).unique().tolist()) == {205, 850}


def test_outside_the_label_is_background():
    label = torch.full((1, *MOVING), 600, dtype=torch.int16)
    points = torch.tensor([[5.0, 5.0, 5.0], [-2.0, 5.0, 5.0], [5.0, 5.0, 300.0]])
    assert sample_label_at(label, torch.eye(4), points).tolist() == [[600, 0, 0]]


def test_a_label_without_structures_stays_empty():
    points = voxel_points(FIXED, torch.eye(4))
    assert torch.equal(
        sample_label_at(torch.zeros(1, *MOVING, dtype=torch.uint8), torch.eye(4), points)[0].sum(), torch.tensor(0)
    )


def test_a_label_read_through_the_world_equals_the_label_warped_in_voxels():
    fixed, moving, _ = OBLIQUE
    label = (torch.rand(1, *FIXED, generator=generator()) * 4).to(torch.uint8)
    field = smooth_field()
    through_the_world = sample_label_at(label, moving, moving_points(field, fixed, moving, fixed, FIXED))
    inside = torch.stack(torch.meshgrid(*(torch.arange(size) for size in FIXED), indexing="ij")) + field
    inside = ((inside >= 0) & (inside <= torch.tensor(FIXED).view(3, 1, 1, 1) - 1)).all(dim=0)
    agree = (through_the_world == warp_label(label[None], field[None], 4)[0])[0]
    assert inside.float().mean() > 0.4
    assert agree[inside].float().mean() > 0.999  # but for near ties


@pytest.mark.parametrize(
    ("name", "shape", "matrix", "message"),
    [
        ("warp.mha", (4, 4, 4, 3), torch.eye(4), r"\.nii or \.nii\.gz"),
        ("warp.nii", (3, 4, 4, 4), torch.eye(4), r"\(X, Y, Z, 3\)"),
        ("warp.nii", (4, 4, 4, 3), torch.eye(3), "4x4"),
        (
            "warp.nii",
            (4, 4, 4, 3),
            torch.eye(4) + torch.eye(4).roll(1, 0) * torch.tensor([0.1, 0, 0, 0]),
            "right angles",
        ),
    ],
)
def test_a_field_that_no_file_can_hold_is_refused(name, shape, matrix, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_displacement(tmp_path / name, torch.zeros(shape), matrix)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(2, 3, 4, 4, 4), (2, 4, 4, 4), (4, 4, 4)])
def test_only_the_field_of_one_case_is_taken(shape):
    with pytest.raises(ValueError, match="one case"):
        moving_points(torch.zeros(shape), *ONE_GRID, FILE)


def test_a_broken_affine_is_named():
    with pytest.raises(ValueError, match="no inverse"):
        sample_at(noise(), torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0])), torch.zeros(1, 3))


def test_a_label_of_floating_point_is_refused():
    with pytest.raises(TypeError, match="float64"):
        sample_label_at(noise(), torch.eye(4), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("read", "shape"), [(sample_at, MOVING), (sample_label_at, MOVING), (sample_label_at, (2, *MOVING))]
)
def test_an_image_of_another_shape_is_refused(read, shape):
    with pytest.raises(ValueError, match=r"X, Y, Z\)"):
        read(torch.zeros(shape, dtype=torch.uint8), torch.eye(4), torch.zeros(1, 3))
