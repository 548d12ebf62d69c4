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
"""Where voxels lie: the rule, ITK's own reading of the same bytes, and what is said where the two differ."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from geometries import OBLIQUE, PERMUTED, affine
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.fields import placement
from scripts.fields.placement import affine_of_itk, corners_apart, place_nifti, shear_of, without_shear
from scripts.fields.volumes import write_volume

SHAPE = (10, 12, 14)
SHIFTED = np.array(affine((1, 1, 1), origin=(10, -6, 4)))
APART = "12.33 mm"  # the length of (10, -6, 4)
UNITS = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}


def saved(path, sform, sform_code, qform, qform_code, unit="mm", kind=nib.Nifti1Image):
    image = kind(np.zeros(SHAPE, np.uint8), np.eye(4))
    image.set_sform(sform, sform_code)
    image.set_qform(qform, qform_code)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def placed(path):
    return place_nifti(nib.load(path).header)


def by_itk(path):
    return affine_of_itk(sitk.ReadImage(str(path)))


angles = st.tuples(*[st.floats(-180, 180)] * 3)
grids = st.builds(
    affine, st.tuples(*[st.floats(0.3, 5)] * 3), angles, st.tuples(*[st.floats(-200, 200)] * 3), st.just((1, 1, 1))
)


@settings(max_examples=60, deadline=None)
@given(grids, grids, st.integers(0, 4), st.integers(0, 4), st.sampled_from(sorted(UNITS)), st.booleans(), st.booleans())
def test_the_rule_is_nibabels_in_mm_and_itk_is_asked_itself(tmp_path_factory, one, other, s, q, unit, two, same):
    path = tmp_path_factory.mktemp("placement") / "volume.nii"
    kind = nib.Nifti2Image if two else nib.Nifti1Image
    saved(path, np.array(one), s, np.array(one if same else other), q, unit, kind)
    found = placed(path)
    scale = np.diag([*[UNITS[unit]] * 3, 1.0])
    np.testing.assert_allclose(found.affine, scale @ nib.load(path).affine)
    if not two:  # ITK 5.4 reads no NIfTI-2
        np.testing.assert_allclose(found.itk, by_itk(path), atol=1e-4 * UNITS[unit], rtol=1e-5)
    agree = corners_apart(found.affine, found.itk, SHAPE) < 0.05 * np.linalg.norm(found.affine[:3, :3], axis=0).min()
    if same and agree and s + q and UNITS[unit] == 1:
        assert found.note is None
    if not agree:
        assert "qform" in found.note and "mm" in found.note


@pytest.mark.parametrize(("codes", "words"), [((2, 1), "programs disagree"), ((1, 1), "its sform"), ((4, 3), "ITK")])
def test_forms_that_differ_are_told_with_the_distance(codes, words, tmp_path):
    found = placed(saved(tmp_path / "a.nii", SHIFTED, codes[0], np.eye(4), codes[1]))
    np.testing.assert_array_equal(found.affine, SHIFTED)
    assert words in found.note and APART in found.note and "qform" in found.note


def test_forms_that_differ_by_half_a_turn_are_told_although_itk_takes_them_for_alike(tmp_path):
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    found = placed(saved(tmp_path / "a.nii", turned, 2, np.eye(4), 1))
    np.testing.assert_array_equal(found.itk, turned)
    far = 2 * np.hypot(SHAPE[0] - 1, SHAPE[1] - 1)
    assert f"{far:.4g} mm" in found.note


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 0), (0, 3)])
def test_a_header_with_one_form_is_not_talked_about(codes, tmp_path):
    found = placed(saved(tmp_path / "a.nii", SHIFTED, codes[0], SHIFTED, codes[1]))
    assert found.note is None
    np.testing.assert_allclose(found.itk, SHIFTED, atol=1e-6)


def test_a_header_without_codes_is_a_guess(tmp_path):
    found = placed(saved(tmp_path / "a.nii", SHIFTED, 0, SHIFTED, 0))
    assert "sform_code and qform_code are 0" in found.note and "left and right are a guess" in found.note
    far = corners_apart(found.affine, by_itk(tmp_path / "a.nii"), SHAPE)
    assert f"{far:.4g} mm" in found.note and far > 10


@pytest.mark.parametrize("matrix", [OBLIQUE[0], PERMUTED[1]], ids=["oblique", "permuted"])
def test_what_is_written_lies_where_it_was_meant_for_all(matrix, tmp_path):
    itk = pytest.importorskip("itk")
    write_volume(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.float32), np.array(matrix))
    found = placed(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(found.affine, matrix, atol=1e-5)
    image = itk.imread(str(tmp_path / "a.nii.gz"))
    theirs = np.eye(4)
    theirs[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    theirs[:3, 3] = image.GetOrigin()
    header = nib.load(tmp_path / "a.nii.gz").header
    for other in (by_itk(tmp_path / "a.nii.gz"), np.diag([-1, -1, 1, 1]) @ theirs, header.get_qform()):
        np.testing.assert_allclose(other, matrix, atol=1e-4)
    assert found.note is None and header["sform_code"] == header["qform_code"] == 1


def test_shear_is_the_cosine_between_axes_and_can_be_taken_out():
    sheared = np.eye(4)
    sheared[0, 1] = 0.75  # the second axis is (0.75, 1, 0): 3, 4, 5
    assert shear_of(sheared) == pytest.approx(0.6)
    straight = without_shear(sheared)
    assert shear_of(straight) < 1e-12
    np.testing.assert_allclose(np.linalg.norm(straight[:3, :3], axis=0), [1, 1.25, 1])
    assert shear_of(np.array(OBLIQUE[0])) < 1e-12 and shear_of(np.diag([1.0, 0, 1, 1])) == np.inf
    torch.testing.assert_close(torch.from_numpy(without_shear(np.array(PERMUTED[1]))), PERMUTED[1])


def test_itk_is_asked_once_about_a_header_and_what_it_said_stays(monkeypatch):
    header = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.diag([2.0, 3.0, 5.0, 1.0])).header
    place_nifti(header).itk[:] = 0  # of a copy
    monkeypatch.setattr(placement.sitk, "ImageFileReader", None)
    assert np.allclose(place_nifti(header).itk, np.diag([2.0, 3.0, 5.0, 1.0]))
