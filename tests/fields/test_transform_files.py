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
"""Files of transforms: SimpleITK applies what we write, and we apply what SimpleITK writes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from geometries import (
    EQUAL,
    FILE,
    GEOMETRIES,
    MOVING,
    OBLIQUE,
    ONE_GRID,
    PERMUTED,
    affine,
    array,
    away_from_faces,
    generator,
    itk_image,
    noise,
    smooth_field,
)

from scripts.fields.grids import ras_to_lps
from scripts.fields.transform_files import read_transform, write_chain, write_displacement, write_field_transform
from scripts.fields.transforms import AffineTransform, Chain, FieldTransform
from scripts.fields.world import displacement_lps, moving_points, sample_at

LINEAR = {
    "translation": sitk.TranslationTransform(3, (5.0, -3.0, 2.0)),
    "euler": sitk.Euler3DTransform((10.0, 4.0, -3.0), 0.2, -0.1, 0.3, (1.0, 2.0, 3.0)),
    "similarity": sitk.Similarity3DTransform(1.2, (0.0, 0.0, 1.0), 0.3, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
    "affine": sitk.AffineTransform((1.1, 0.1, 0.0, -0.2, 0.9, 0.1, 0.0, 0.1, 1.0), (3.0, -2.0, 1.0), (9.0, 8.0, 7.0)),
}


def displacement(affines):
    fixed, moving, grid = affines
    return displacement_lps(smooth_field(), fixed, moving, grid, FILE)


def points_in_the_file(grid, number=40):
    """Random points (N, 3), RAS mm, well inside the fixed file."""
    voxels = 1 + torch.rand(number, 3, generator=generator(), dtype=torch.float64) * (torch.tensor(FILE) - 3)
    return AffineTransform(grid)(voxels)


def by_itk(transform, points):
    """SimpleITK moves points (N, 3) in RAS mm."""
    moved = [transform.TransformPoint(point) for point in ras_to_lps(points).tolist()]
    return ras_to_lps(torch.tensor(moved, dtype=torch.float64))


@GEOMETRIES
@pytest.mark.parametrize("interpolator", [sitk.sitkLinear, sitk.sitkNearestNeighbor], ids=["linear", "nearest"])
def test_the_transform_applied_by_itk_equals_our_warp(affines, interpolator, tmp_path):
    fixed, moving, grid = affines
    write_field_transform(tmp_path / "pair_transform.h5", displacement(affines), grid)
    points = moving_points(smooth_field(), fixed, moving, grid, FILE)
    image = noise()
    mode = "bilinear" if interpolator == sitk.sitkLinear else "nearest"
    ours = sample_at(image, moving, points, mode)[0]
    transform = sitk.ReadTransform(str(tmp_path / "pair_transform.h5"))
    reference = itk_image(torch.zeros(FILE), grid)
    theirs = array(sitk.Resample(itk_image(image[0], moving), reference, transform, interpolator, 0.0))
    comparable = away_from_faces(points, moving)
    assert (ours[comparable] != 0).float().mean() > 0.3
    assert ((ours - theirs)[comparable].abs() < EQUAL).float().mean() > (0.999 if mode == "nearest" else 0.99999)


@GEOMETRIES
@pytest.mark.parametrize("name", ["pair_transform.h5", "pair_warp.nii.gz"])
def test_points_moved_by_itk_by_us_from_the_file_and_by_the_network_are_the_same(affines, name, tmp_path):
    fixed, moving, grid = affines
    write = write_field_transform if name.endswith("h5") else write_displacement
    write(tmp_path / name, displacement(affines), grid)
    if name.endswith("h5"):
        transform = sitk.ReadTransform(str(tmp_path / name))
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / name), sitk.sitkVectorFloat64))
    points = points_in_the_file(grid)
    ours = Chain(read_transform(tmp_path / name))(points)
    torch.testing.assert_close(ours, by_itk(transform, points), atol=1e-4, rtol=0)
    at_voxels = moving_points(smooth_field(), fixed, moving, grid, FILE)
    there = sample_at(at_voxels.permute(3, 0, 1, 2), grid, points).T  # where the network's warp takes them, linearly
    torch.testing.assert_close(ours, there, atol=1e-4, rtol=0)


def test_the_transform_file_holds_one_field_in_double(tmp_path):
    write_field_transform(tmp_path / "t.h5", displacement(OBLIQUE), OBLIQUE[2])
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    assert isinstance(transform, sitk.DisplacementFieldTransform)
    field = transform.GetDisplacementField()
    assert field.GetPixelID() == sitk.sitkVectorFloat64 and field.GetSize() == FILE
    np.testing.assert_array_equal(sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3), displacement(OBLIQUE).numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["t.h5"]


def test_a_field_in_ras_under_intent_1006_is_read_as_itk_reads_it(tmp_path):
    write_displacement(tmp_path / "lps.nii.gz", displacement(OBLIQUE), OBLIQUE[2])
    file = nib.load(tmp_path / "lps.nii.gz")
    turned = nib.Nifti1Image(file.get_fdata(dtype=np.float32) * np.float32([-1, -1, 1]), file.affine, file.header)
    turned.header.set_intent(1006)
    nib.save(turned, tmp_path / "ras.nii.gz")
    (lps,), (ras,) = (read_transform(tmp_path / name) for name in ("lps.nii.gz", "ras.nii.gz"))
    torch.testing.assert_close(lps.displacement, displacement(OBLIQUE))
    torch.testing.assert_close(ras.displacement, lps.displacement)
    torch.testing.assert_close(lps.affine, OBLIQUE[2], atol=1e-5, rtol=0)


def test_a_field_in_another_image_format_is_the_same_field(tmp_path):
    write_displacement(tmp_path / "field.nii.gz", displacement(PERMUTED), PERMUTED[2])
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "field.nii.gz")), str(tmp_path / "field.nrrd"))
    (field,) = read_transform(tmp_path / "field.nrrd")
    torch.testing.assert_close(field.displacement, displacement(PERMUTED))
    torch.testing.assert_close(field.affine, PERMUTED[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("suffix", ["tfm", "txt", "mat", "h5"])
@pytest.mark.parametrize("kind", LINEAR)
def test_every_linear_transform_of_itk_moves_points_as_in_itk(kind, suffix, tmp_path):
    sitk.WriteTransform(LINEAR[kind], str(tmp_path / f"t.{suffix}"))
    points = points_in_the_file(OBLIQUE[2])
    ours = Chain(read_transform(tmp_path / f"t.{suffix}"))(points)
    torch.testing.assert_close(ours, by_itk(LINEAR[kind], points), atol=1e-9, rtol=0)


def test_a_composite_of_itk_keeps_its_order(tmp_path):
    write_field_transform(tmp_path / "field.h5", displacement(OBLIQUE), OBLIQUE[2])
    inner = sitk.CompositeTransform([LINEAR["affine"], LINEAR["euler"]])
    composite = sitk.CompositeTransform([LINEAR["similarity"], sitk.ReadTransform(str(tmp_path / "field.h5")), inner])
    composite.FlattenTransform()
    sitk.WriteTransform(composite, str(tmp_path / "composite.h5"))
    points = points_in_the_file(OBLIQUE[2])
    inside = Chain(read_transform(tmp_path / "composite.h5")).trace(points)
    theirs = by_itk(composite, points)
    assert 0.1 < inside[1].float().mean() < 0.9  # some leave the field, where ITK leaves them in place and we do not
    torch.testing.assert_close(inside[0][~inside[1]], theirs[~inside[1]], atol=1e-4, rtol=0)


def test_a_chain_is_written_as_a_composite_that_itk_applies_alike(tmp_path):
    small = torch.eye(4)
    small[:3, 3] = torch.tensor([1.0, -0.5, 0.8])
    field = FieldTransform(displacement(OBLIQUE), OBLIQUE[2])
    chain = Chain([AffineTransform(small), field, AffineTransform(affine((1.1, 0.9, 1), (10, 5, -20)))])
    write_chain(tmp_path / "chain.h5", chain.steps)
    points = points_in_the_file(OBLIQUE[2])
    ours, outside = chain.trace(points)
    theirs = by_itk(sitk.ReadTransform(str(tmp_path / "chain.h5")), points)
    torch.testing.assert_close(ours[~outside], theirs[~outside], atol=1e-4, rtol=0)
    assert len(read_transform(tmp_path / "chain.h5")) == 3 and outside.float().mean() < 0.3


def test_an_inverse_of_a_field_is_no_composite(tmp_path):
    chain = Chain([FieldTransform(displacement(OBLIQUE), OBLIQUE[2])]).inverse()
    with pytest.raises(ValueError, match=r"'chain\.h5': a chain with the inverse of a field.*Name a \.nii\.gz"):
        write_chain("chain.h5", chain.steps)


def test_a_missing_transform_is_named():
    with pytest.raises(FileNotFoundError, match=r"no such transform: 'none\.h5'"):
        read_transform("none.h5")


@pytest.mark.parametrize("name", ["t.pt", "t.json"])
def test_a_file_that_is_no_transform_by_its_name_is_refused(name, tmp_path):
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=rf"'{name}': a transform is one of \.h5"):
        read_transform(tmp_path / name)


def test_the_parameters_of_elastix_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "TransformParameters.0.txt").write_text('(Transform "AffineTransform")\n(NumberOfParameters 12)\n')
    with pytest.raises(ValueError, match="cannot read.*transformix -def all"):
        read_transform(tmp_path / "TransformParameters.0.txt")


def test_a_transform_of_another_kind_is_refused(tmp_path):
    spline = sitk.BSplineTransformInitializer(itk_image(torch.zeros(MOVING), ONE_GRID[0]), [3, 3, 3])
    sitk.WriteTransform(spline, str(tmp_path / "spline.h5"))
    with pytest.raises(ValueError, match="holds a BSplineTransform, expected.*TransformToDisplacementField"):
        read_transform(tmp_path / "spline.h5")


def test_a_transform_of_the_plane_is_refused(tmp_path):
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "plane.tfm"))
    with pytest.raises(ValueError, match="2 dimensions, expected 3"):
        read_transform(tmp_path / "plane.tfm")


def test_a_field_that_does_not_say_what_it_holds_is_refused(tmp_path, write_volume):
    path = write_volume(tmp_path / "field.nii.gz", np.zeros((4, 4, 4, 1, 3), np.float32))
    with pytest.raises(ValueError, match="intent code is 0, expected 1007"):
        read_transform(path)


def test_an_image_is_no_field(tmp_path):
    sitk.WriteImage(itk_image(torch.zeros(MOVING), ONE_GRID[0]), str(tmp_path / "image.nrrd"))
    with pytest.raises(ValueError, match="no displacement field|as a displacement field"):
        read_transform(tmp_path / "image.nrrd")


def test_a_field_with_nan_is_refused(tmp_path):
    broken = displacement(OBLIQUE)
    broken[3, 4, 5, 1] = torch.nan
    write_field_transform(tmp_path / "field.h5", broken, OBLIQUE[2])  # in a NIfTI the reader makes it 0
    with pytest.raises(ValueError, match=r"'field\.h5' holds displacements that are not finite"):
        read_transform(tmp_path / "field.h5")
