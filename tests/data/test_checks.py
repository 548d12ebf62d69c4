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

from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from scripts.data.cases import Cases, load_cases
from scripts.data.checks import DataCheck
from scripts.data.transforms import LabelsToClassesd

LABELS = {1: "anterior", 2: "posterior"}
AFFINE = np.diag([0.5, 1.0, 2.0, 1.0])


def entry(folder, name, labeled=True):
    case = {"case": name, "image": str(folder / "images" / f"{name}.nii.gz")}
    return case | ({"label": str(folder / "labels" / f"{name}.nii.gz")} if labeled else {})


@pytest.fixture
def make(tmp_path, write_case):
    """Cases of which `a` (labelled) can be spoilt after it was written: ``make()``, spoil, then check."""

    def write(labels=LABELS, ids=(1, 2)):
        for name in ("a", "b"):
            write_case(tmp_path, name, ids, affine=AFFINE)
        write_case(tmp_path, "u", None, affine=AFFINE)
        return Cases(labels, (entry(tmp_path, "a"), entry(tmp_path, "b")), (entry(tmp_path, "u", labeled=False),))

    return write


def faults_of(cases, spatial_size=(16, 16, 16), **options):
    with pytest.raises(ValueError) as error:
        DataCheck(cases, spatial_size, **options).run()
    return str(error.value)


def image_of(cases):
    return cases.labeled[0]["image"]


def test_good_cases_pass_and_are_listed(make, caplog):
    with caplog.at_level(logging.INFO):
        DataCheck(make(), (16, 16, 32), multiple=16, min_labeled=2, min_unlabeled=1).run()
    header, a, b, u = caplog.text.splitlines()[1:]
    assert header.split()[0] == "case"
    assert a.split()[:6] == ["a", "labeled", "8x10x9", "0.5x1x2", "RAS", "float32"]
    assert a.split()[-3:] == ["1", "2", "ok"]
    assert u.split()[:3] == ["u", "unlabeled", "8x10x9"]
    assert u.split()[-2:] == ["-", "ok"]


def test_the_label_file_of_an_unlabelled_case_is_never_opened(make, tmp_path, caplog):
    cases = make()
    (tmp_path / "labels" / "u.nii.gz").write_bytes(b"opening this file raises")
    DataCheck(cases, (16, 16, 16)).run()
    cases = load_cases(tmp_path, labels=LABELS)
    assert "u" in {case["case"] for case in cases.labeled}
    assert "case 'u': the label cannot be read" in faults_of(cases)


@pytest.mark.parametrize("ids", [(205, 420, 500, 550, 600, 820), (850, 205), (1, 21, 40)])
def test_ids_with_holes_are_known_when_they_have_names(make, ids):
    DataCheck(make({label_id: str(label_id) for label_id in sorted(ids)}, ids), (16, 16, 16)).run()


def test_a_stray_id_names_case_id_and_voxels(make):
    text = faults_of(make(LABELS, (1, 421)))
    assert "case 'a': unknown label 421 (30 voxels)" in text
    assert "case 'b': unknown label 421 (30 voxels)" in text


def test_every_fault_is_reported_not_the_first_alone(make, tmp_path, write_volume):
    cases = make()
    write_volume(tmp_path / "images" / "a.nii.gz", np.full((8, 10, 9), np.nan, np.float32), AFFINE)
    write_volume(tmp_path / "labels" / "b.nii.gz", np.zeros((8, 10, 9), np.uint8), AFFINE)
    (tmp_path / "images" / "u.nii.gz").unlink()
    text = faults_of(cases, spatial_size=(16, 20, 16), multiple=8, min_labeled=3)
    assert "found 5 faults" in text
    for part in ("case 'a': the image holds 720", "case 'b': the label is empty", "case 'u': the image is missing"):
        assert part in text
    assert "multiples of 8" in text
    assert "at least 3 labelled cases, found 2" in text


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.zeros((8, 10, 9), np.int16), "the image is constant: every voxel is 0"),
        (np.full((8, 10, 9), np.inf), "720 values that are not finite"),
        (np.arange(1440.0).reshape(8, 10, 9, 2), "not one 3D volume of numbers: shape 8x10x9x2"),
        (np.arange(80.0).reshape(8, 10), "not one 3D volume of numbers: shape 8x10,"),
        (np.arange(80.0).reshape(8, 10, 1), "not one 3D volume of numbers: shape 8x10x1,"),
    ],
)
def test_a_useless_image_is_refused(make, tmp_path, write_volume, array, fault):
    cases = make()
    write_volume(tmp_path / "images" / "u.nii.gz", array, AFFINE)
    text = faults_of(cases)
    assert "found 1 fault:" in text
    assert "case 'u': the image" in text
    assert fault in text


@pytest.mark.parametrize("content", [b"", b"no volume"])
def test_a_file_that_cannot_be_read_is_a_fault_of_its_case(make, content):
    cases = make()
    with open(image_of(cases), "wb") as file:
        file.write(content)
    text = faults_of(cases)
    assert "found 1 fault:" in text
    assert f"case 'a': the image cannot be read: {image_of(cases)}" in text


@pytest.mark.parametrize(
    ("shape", "affine", "expected"),
    [
        ((8, 10, 8), AFFINE, "shape    image (8, 10, 9)  label (8, 10, 8)  voxels"),
        ((8, 10, 9), np.diag([0.5, 1, 2.5, 1]), "spacing  image (0.5, 1, 2)  label (0.5, 1, 2.5)  mm"),
        ((8, 10, 9), np.diag([-0.5, 1, 2, 1]), "axes     image RAS  label LAS"),
        ((8, 10, 9), AFFINE + np.diag([5.0], 3), "origin   image (0, 0, 0)  label (5, 0, 0)  mm"),
    ],
)
def test_a_label_on_another_grid_is_refused_with_what_differs(make, tmp_path, write_volume, shape, affine, expected):
    cases = make()
    write_volume(tmp_path / "labels" / "a.nii.gz", np.ones(shape, np.uint8), affine)
    text = faults_of(cases)
    assert "case 'a': label and image do not share a grid" in text
    assert expected in text
    assert "found 1 fault:" in text


@pytest.mark.parametrize(("shift", "fits"), [(0.04, True), (0.06, False)])
def test_the_tolerance_is_in_voxels_of_the_finest_axis(make, tmp_path, write_volume, shift, fits):
    cases = make()
    affine = AFFINE.copy()
    affine[1, 3] = shift  # mm; the finest spacing is 0.5 mm, so 0.1 voxel is 0.05 mm
    write_volume(tmp_path / "labels" / "a.nii.gz", np.ones((8, 10, 9), np.uint8), affine)
    if fits:
        DataCheck(cases, (16, 16, 16)).run()
    else:
        assert "0.12 voxels apart; 0.1 is tolerated" in faults_of(cases)
        DataCheck(cases, (16, 16, 16), same_grid_tolerance=0.2).run()


def test_a_case_in_two_lists_is_refused(make, tmp_path):
    cases = make()
    again = Cases(LABELS, cases.labeled, cases.unlabeled, test=(entry(tmp_path, "a"),))
    assert f"case 'a' in 'test' is the image of case 'a' in 'labeled': {image_of(cases)}" in faults_of(again)


def test_the_same_image_under_another_name_is_still_the_same_case(make, tmp_path):
    cases = make()
    (tmp_path / "images" / "link.nii.gz").symlink_to(image_of(cases))
    linked = Cases(LABELS, cases.labeled, (entry(tmp_path, "link", labeled=False),))
    assert "case 'link' in 'unlabeled' is the image of case 'a' in 'labeled'" in faults_of(linked)


def test_two_images_of_one_name_are_refused(make, tmp_path, write_case):
    cases = make()
    write_case(tmp_path / "site2", "a", affine=AFFINE)
    text = faults_of(Cases(LABELS, cases.labeled, test=(entry(tmp_path / "site2", "a"),)))
    assert "case 'a' is the name of two images, in 'labeled' and in 'test'" in text


@pytest.mark.parametrize(
    ("size", "multiple", "nearest"),
    [
        ((50, 64, 48), 16, "(48 or 64, 64, 48)"),
        ((10, 16, 16), 16, "(16, 16, 16)"),
        ((40, 56, 41), 8, "(40, 56, 40 or 48)"),
        ((0, 16, 16), 16, "(16, 16, 16)"),
    ],
)
def test_a_wrong_spatial_size_is_refused_with_the_multiple_and_the_nearest(make, size, multiple, nearest):
    text = faults_of(make(), size, multiple=multiple)
    assert f"multiples of {multiple}" in text
    assert f"The nearest are {nearest}" in text


def test_a_size_that_leaves_the_networks_one_voxel_to_normalise_is_refused(make):
    assert "expected a side above 16" in faults_of(make(), (16, 16, 16), multiple=16, above=16)
    DataCheck(make(), (16, 32, 16), multiple=16, above=16).run()


@pytest.mark.parametrize("size", [(48, 64, 48), [16, 16, 16]])
def test_a_size_the_networks_can_halve_passes(make, size):
    DataCheck(make(), size, multiple=16).run()


def test_one_number_for_all_axes_is_refused_as_no_other_config_takes_it(make):
    with pytest.raises(ValueError, match=r"spatial_size 48: expected a number for each axis: \[48, 48, 48\]"):
        DataCheck(make(), 48)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("spoil", ["flat", "nan"])
def test_a_header_that_puts_voxels_nowhere_is_a_fault_of_its_case(make, labeled, spoil):
    cases = make()
    path = (cases.labeled if labeled else cases.unlabeled)[0]["image"]
    image = nib.load(path)
    image.header["qform_code"], image.header["sform_code"] = 0, 1
    if spoil == "flat":  # the third axis along the first; where lengths do not fit the voxels, MONAI mends the header
        image.header["srow_x"], image.header["srow_z"] = (0.5, 0, 2, 0), (0, 0, 0, 0)
    else:
        image.header["srow_x"] = (0.5, 0, 0, np.nan)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    text = faults_of(cases)
    assert f"case '{'a' if labeled else 'u'}': the image has a header that puts its voxels nowhere" in text


def test_a_case_that_preprocessing_fails_on_is_named_and_the_others_are_checked(make):
    def failing(data):
        raise RuntimeError("applying transform") from ValueError(f"no {data['case']}")

    text = faults_of(make(), preprocessing=failing)
    assert text.startswith("the data check found 3 faults:")
    assert all(f"case '{name}': preprocessing fails: " in text and f"ValueError: no {name}" in text for name in "abu")


def test_too_few_cases_are_refused(make):
    text = faults_of(make(), min_labeled=4, min_unlabeled=40)
    assert "at least 4 labelled cases, found 2" in text
    assert "at least 40 unlabelled cases, found 1" in text


def test_a_structure_that_no_training_label_holds_is_warned_of(make, caplog):
    DataCheck(make({1: "anterior", 2: "posterior", 3: "middle"}), (16, 16, 16)).run()
    assert "no label to train on holds middle" in caplog.text


@pytest.mark.parametrize("dtype", [">i2", "<u1", "<u2", "<i4", ">f4", "<f8"])
def test_any_numeric_type_and_byte_order_is_read(make, tmp_path, write_volume, dtype, caplog):
    cases = make()
    write_volume(tmp_path / "labels" / "a.nii.gz", np.ones((8, 10, 9), dtype), AFFINE)
    write_volume(tmp_path / "images" / "a.nii.gz", np.arange(720).reshape(8, 10, 9).astype(dtype), AFFINE)
    with caplog.at_level(logging.INFO):
        DataCheck(cases, (16, 16, 16)).run()
    assert np.dtype(dtype).name in caplog.text


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_formats_of_itk_are_on_the_grid_that_nibabel_says(make, tmp_path, suffix):
    cases = make()
    label = sitk.GetImageFromArray(np.ones((9, 10, 8), np.uint8))
    label.SetSpacing((0.5, 1, 2))
    label.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # ITK's axes point left and posterior: this is RAS
    path = tmp_path / f"label{suffix}"
    sitk.WriteImage(label, str(path))
    DataCheck(Cases(LABELS, ({**cases.labeled[0], "label": str(path)},)), (16, 16, 16)).run()


def test_the_check_and_the_transform_agree_on_strays(make):
    cases = make(LABELS, (1, 7))
    with pytest.raises(ValueError) as error:
        LabelsToClassesd("label", cases.label_ids)({"label": np.array([1, *[7] * 30]), "case": "a"})
    assert str(error.value) in faults_of(cases)


def test_the_hippocampus_passes(hippocampus):
    cases = load_cases(hippocampus, num_labeled=4, num_unlabeled=40)
    DataCheck(cases, (40, 56, 40), multiple=8, min_labeled=4, min_unlabeled=40).run()
