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
"""One reader for each format: the same voxels in the same millimetres, of the file that was named."""

from __future__ import annotations

import gzip
import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import ImageReader
from monai.transforms import Compose, Orientationd

from scripts.data.cases import Cases
from scripts.data.checks import DataCheck
from scripts.data.image_checks import check_cases, check_files
from scripts.data.label_map_files import SaveLabelMapd
from scripts.data.original import read_label, read_original
from scripts.data.readers import LoadVolumed, load_volume
from scripts.data.transforms import LabelsToClassesd
from scripts.data.volumes import read_volume
from scripts.fields.placement import affine_of_itk
from scripts.registration.pair import load_subject

SHAPE = (5, 6, 7)
BOX = np.zeros(SHAPE, np.int16)
BOX[1:3, 2:5, 3:5] = 1
SPACES = {  # where the axes of a header lead to, in RAS
    "left-posterior-superior": (-1, -1, 1), "LPS": (-1, -1, 1), "right-anterior-superior": (1, 1, 1), "RAS": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "LAS": (-1, 1, 1),
}  # fmt: skip


def three_readings(path):
    """By the data check, by `load_volume`, and in preprocessing: arrays and affines."""
    faults = []
    checked = read_volume(str(path), "image", faults)
    assert not faults
    one = load_volume(path)
    other = LoadVolumed(["image"], ensure_channel_first=True)({"image": str(path)})["image"]
    return [(checked.array, checked.affine), *((v[0].numpy(), np.asarray(v.affine)) for v in (one, other))]


@pytest.mark.parametrize(
    ("named", "beside"), [("w.nii.gz", "w.nii"), ("w.nii", "w.nii.gz"), ("w.hdr", "w.nii"), ("w.nii.gz", "w.hdr")]
)
def test_the_named_file_is_the_one_that_is_read(named, beside, tmp_path):
    for name, value in ((beside, 9), (named, 3)):
        kind = nib.Nifti1Pair if name.endswith(".hdr") else nib.Nifti1Image
        nib.save(kind(np.full(SHAPE, value, np.int16), np.eye(4)), tmp_path / name)
    for array, _ in three_readings(tmp_path / named):
        assert (array == 3).all()
    assert (read_label(str(tmp_path / named)) == 3).all()


def nrrd(path, space, rest="space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n"):
    head = f"NRRD0004\ntype: short\ndimension: 3\n{f'space: {space}' if space else '# nothing'}\nsizes: 5 6 7\n{rest}"
    path.write_bytes(f"{head}endian: little\nencoding: raw\n\n".encode() + BOX.tobytes(order="F"))
    return path


@pytest.mark.parametrize("space", SPACES)
def test_an_nrrd_lies_where_its_space_says(space, tmp_path):
    sign = np.array(SPACES[space])
    expected = np.diag([*(sign * [2, 3, 4]), 1.0])
    expected[:3, 3] = sign * [10, 20, 30]
    for array, affine in three_readings(nrrd(tmp_path / "a.nrrd", space)):
        np.testing.assert_array_equal(array, BOX)
        np.testing.assert_allclose(affine, expected)
    np.testing.assert_allclose(affine_of_itk(sitk.ReadImage(str(tmp_path / "a.nrrd"))), expected)


@pytest.mark.parametrize(
    ("space", "rest", "words"),
    [
        ("scanner-xyz", "", "lies in the space 'scanner-xyz', expected left-posterior-superior"),
        ("3D-left-handed", "", "lies in the space '3D-left-handed'"),
        ("LPS", 'space units: "um" "um" "um"\n', "is in um, which ITK takes for mm"),
    ],
)
def test_an_nrrd_of_another_space_or_unit_is_refused_by_name(space, rest, words, tmp_path):
    path = nrrd(tmp_path / "a.nrrd", space, "space directions: (2,0,0) (0,3,0) (0,0,4)\n" + rest)
    with pytest.raises(ValueError, match=words):
        load_volume(path)
    faults = []
    assert read_volume(str(path), "image", faults) is None and words in faults[0]
    with pytest.raises(ValueError, match=words):
        LoadVolumed(["image"])({"image": str(path)})


def test_an_nrrd_without_a_space_is_a_guess_that_is_told(tmp_path, caplog):
    check_files([("moving", nrrd(tmp_path / "a.nrrd", None, "spacings: 2 3 4\n"))])
    assert "names no space: left and right are a guess" in caplog.text


class Turned(ImageReader):
    """What pynrrd is where it is installed: a reader that would give other axes."""

    def verify_suffix(self, filename):
        return True

    def read(self, data, **kwargs):
        return np.zeros(SHAPE)

    def get_data(self, img):
        return img, {"affine": np.eye(4), "original_affine": np.eye(4), "spatial_shape": SHAPE}


def test_other_readers_have_no_say(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", "RAS")
    image = LoadVolumed(["image"], reader=Turned, ensure_channel_first=True)({"image": str(path)})["image"]
    np.testing.assert_array_equal(image[0].numpy(), BOX)


def test_analyze_is_refused(tmp_path):
    nib.save(nib.AnalyzeImage(BOX, np.eye(4)), tmp_path / "a.hdr")
    with pytest.raises(ValueError, match="no NIfTI but .*Analyze.*nobody knows where left is"):
        load_volume(tmp_path / "a.hdr")


def test_a_unit_is_believed(tmp_path):
    image = nib.Nifti1Image(BOX, np.diag([500.0, 700, 900, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "mouse.nii.gz")
    for _, affine in three_readings(tmp_path / "mouse.nii.gz"):
        np.testing.assert_allclose(affine, np.diag([0.5, 0.7, 0.9, 1]))


def image_with_two_forms(path, sform, qform=None):
    file = nib.Nifti1Image((100 + 50 * BOX + np.arange(BOX.size).reshape(SHAPE) % 7).astype(np.float32), sform)
    file.set_sform(sform, 2)
    file.set_qform(np.eye(4) if qform is None else qform, 1)
    nib.save(file, path)
    return path


SHIFTED = np.array([[1.0, 0, 0, 10], [0, 1, 0, -6], [0, 0, 1, 4], [0, 0, 0, 1]])
QUARTER = np.array([[0.0, -1, 0, 3], [1, 0, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]])  # another order of the axes


@pytest.mark.parametrize("sform", [SHIFTED, QUARTER], ids=["shifted", "turned"])
def test_a_label_drawn_in_an_itk_program_lies_on_its_image_in_every_command(sform, tmp_path, caplog):
    case = {"case": "a", "image": str(image_with_two_forms(tmp_path / "image.nii.gz", sform))}
    seen = sitk.ReadImage(case["image"])
    sitk.WriteImage(sitk.Cast(seen > 140, sitk.sitkUInt8), str(tmp_path / "label.nii.gz"))
    case["label"] = str(tmp_path / "label.nii.gz")
    assert check_cases([case], [1]) == BOX.size
    assert "qform" in caplog.text and "mm about where its voxels lie" in caplog.text
    loaded = LoadVolumed(["image", "label"], ensure_channel_first=True)(case)
    original, subject = read_original(case), load_subject(case, lambda data: {"image": None}, [1])
    for image, label in (
        (loaded["image"], loaded["label"]),
        (original.image, original.label),
        (subject.file, subject.label),
    ):
        np.testing.assert_array_equal(label[0].numpy(), BOX)
        np.testing.assert_allclose(np.asarray(label.affine), sform)
        np.testing.assert_allclose(np.asarray(image.affine), sform)
    turned = Compose([Orientationd(["image", "label"], axcodes="LSA", labels=None)])(loaded)
    np.testing.assert_array_equal(turned["image"].numpy() > 140, turned["label"].numpy() == 1)


def test_a_label_on_neither_form_is_refused_and_the_forms_are_named(tmp_path, write_volume):
    image = image_with_two_forms(tmp_path / "image.nii.gz", SHIFTED)
    label = write_volume(tmp_path / "label.nii.gz", BOX, np.diag([2.0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"do not share a grid[\s\S]*header of the image.*qform"):
        check_cases([{"case": "a", "image": str(image), "label": str(label)}], [1])
    with pytest.raises(ValueError, match="do not share a grid"):
        read_original({"case": "a", "image": str(image), "label": str(label)})


def test_the_check_tells_of_many_such_cases_in_few_lines(tmp_path, caplog):
    listed = []
    for name in "abcdef":
        image_with_two_forms(tmp_path / f"{name}.nii.gz", SHIFTED + np.eye(4)[:, [3]] * 0)
        listed.append({"case": name, "image": str(tmp_path / f"{name}.nii.gz")})
    with caplog.at_level(logging.WARNING):
        DataCheck(Cases({1: "box"}, unlabeled=tuple(listed)), (16, 16, 16), min_labeled=0).run()
        load_volume(listed[0]["image"])
    assert caplog.text.count("12.33 mm") == 3 and "3 more cases: d, e, f" in caplog.text


@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_sheared_header_is_refused_at_the_check_with_what_would_be_lost(qform_code, tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    file = nib.Nifti1Image((BOX + np.arange(BOX.size).reshape(SHAPE) % 7).astype(np.float32), np.eye(4))
    file.set_qform(np.eye(4), qform_code)
    file.header["sform_code"], file.header["srow_x"] = 2, sheared[0]
    nib.save(nib.Nifti1Image(file.dataobj, None, file.header), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").affine[0, 1] == np.float32(0.2)
    words = r"sheared header: two of its axes are not at right angles \(cosine 0\.196\d.*up to \d\.\d+ mm off"
    with pytest.raises(ValueError, match=rf"--moving '.*a\.nii\.gz': the image has a {words}"):
        check_files([("moving", tmp_path / "a.nii.gz")])
    with pytest.raises(ValueError, match=rf"case 'a': the image has a {words}"):
        case = {"case": "a", "image": str(tmp_path / "a.nii.gz")}
        DataCheck(Cases({1: "box"}, unlabeled=(case,)), (16, 16, 16), min_labeled=0).run()


@pytest.fixture
def sloped(tmp_path):
    """A label of ids 1, 2 and 850 that are integers with a slope of 0.01, as nibabel may write one."""
    label = BOX.copy()
    label[3, 3, 3], label[4, 4, 4] = 2, 850
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int32)
    header.set_data_shape(SHAPE)
    header.set_sform(np.eye(4), 1)
    header["scl_slope"], header["scl_inter"], header["vox_offset"], header["magic"] = 0.01, 0, 352, b"n+1"
    with gzip.open(tmp_path / "label.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(4) + (label * np.int32(100)).astype("<i4").tobytes(order="F"))
    assert not np.isin(nib.load(tmp_path / "label.nii.gz").get_fdata(), [0, 1, 2, 850]).all()
    return tmp_path / "label.nii.gz", label


def test_ids_with_a_slope_are_whole_in_every_command(sloped, tmp_path, write_volume):
    path, label = sloped
    image = write_volume(tmp_path / "image.nii.gz", np.arange(BOX.size, dtype=np.float32).reshape(SHAPE))
    case = {"case": "a", "image": str(image), "label": str(path)}
    np.testing.assert_array_equal(read_label(str(path))[0].numpy(), label)
    assert check_cases([case], [1, 2, 850]) == BOX.size
    DataCheck(Cases({1: "a", 2: "b", 850: "c"}, (case,)), (16, 16, 16)).run()
    raw = {"label": nib.load(path).get_fdata()}
    classes = LabelsToClassesd(["label"], label_ids=[1, 2, 850])(raw)["label"]
    np.testing.assert_array_equal(classes, np.select([label == 850], [3], label))


def test_fractions_are_no_ids(sloped, tmp_path, write_volume):
    half = BOX.astype(np.float32)
    half[0, 0, 0] = 0.99
    path = write_volume(tmp_path / "half.nii.gz", half)
    with pytest.raises(ValueError, match="holds numbers with fractions"):
        read_label(str(path))
    with pytest.raises(ValueError, match=r"unknown label 0\.99 \(1 voxel\)"):
        LabelsToClassesd(["label"], label_ids=[1])({"label": half})


def test_a_label_map_of_inferring_lies_on_its_image_for_itk_and_nibabel(tmp_path):
    image = load_volume(image_with_two_forms(tmp_path / "image.nii.gz", QUARTER))
    label = image.clone()
    label[0] = label[0] > 140
    SaveLabelMapd(["pred"], str(tmp_path))({"pred": label.to(torch.int16), "case": "a"})
    result = tmp_path / "a_seg.nii.gz"
    np.testing.assert_allclose(nib.load(result).affine, QUARTER)
    np.testing.assert_allclose(affine_of_itk(sitk.ReadImage(str(result))), QUARTER, atol=1e-6)
