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

import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, Invertd, LoadImaged, ResizeWithPadOrCropd, Spacingd

from scripts.data.original import read_label
from scripts.data.transforms import ClassesToLabelsd, LabelsToClassesd, SafeSpacingd, find_strays

MMWHS = (205, 420, 500, 550, 600, 820, 850)
AFFINE = np.array([[0.0, -2, 0, 10], [1.5, 0, 0, -4], [0, 0, 3, 7], [0, 0, 0, 1]])


def label_of(ids, dtype=torch.int16):
    values = torch.tensor([0, *ids]).to(dtype).reshape(1, -1, 1, 1)
    return MetaTensor(values, affine=torch.tensor(AFFINE), meta={"filename_or_obj": "/data/ct_1007.nii.gz"})


@pytest.mark.parametrize("ids", [(1,), (1, 2), (3, 7, 40), MMWHS, (850, 205), tuple(range(1, 256)), (1, 70000)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_ids_become_contiguous_classes_and_come_back(ids, dtype):
    data = {"label": label_of(ids, dtype)}
    classes = LabelsToClassesd("label", ids)(data)
    assert classes["label"].flatten().tolist() == list(range(len(ids) + 1))
    assert classes["label"].dtype == torch.uint8
    back = ClassesToLabelsd("label", ids)(classes)["label"]
    assert back.flatten().tolist() == [0, *ids]


@pytest.mark.parametrize(
    ("ids", "dtype"), [((1, 255), torch.uint8), ((1, 256), torch.int16), (MMWHS, torch.int16), ((40000,), torch.int32)]
)
def test_ids_are_written_in_the_smallest_type_that_holds_them(ids, dtype):
    assert ClassesToLabelsd("pred", ids)({"pred": torch.zeros(1, 2, 2, 2)})["pred"].dtype == dtype


def test_a_label_in_uint8_can_be_compared_with_ids_above_255():
    label = label_of((205,), torch.uint8)
    assert LabelsToClassesd("label", (205, 850))({"label": label})["label"].flatten().tolist() == [0, 1]


def test_the_affine_and_the_file_name_survive():
    label = LabelsToClassesd("label", MMWHS)({"label": label_of(MMWHS)})["label"]
    back = ClassesToLabelsd("label", MMWHS)({"label": label})["label"]
    for result in (label, back):
        np.testing.assert_array_equal(result.affine, AFFINE)
        assert result.meta["filename_or_obj"] == "/data/ct_1007.nii.gz"


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arrays_and_tensors_stay_what_they_are(kind):
    label = kind([[0, 9], [9, 4]])
    classes = LabelsToClassesd("label", (4, 9))({"label": label})["label"]
    assert type(classes) is type(label)
    assert classes.tolist() == [[0, 2], [2, 1]]


def test_the_input_is_left_as_it_was():
    label = label_of(MMWHS)
    LabelsToClassesd("label", MMWHS)({"label": label})
    assert label.flatten().tolist() == [0, *MMWHS]


def test_an_unlabelled_subject_passes():
    data = {"image": torch.zeros(1)}
    assert LabelsToClassesd("label", (1,), allow_missing_keys=True)(data) == data
    with pytest.raises(KeyError, match="label"):
        LabelsToClassesd("label", (1,))(data)


def test_a_stray_id_names_case_file_voxels_and_known_ids():
    data = {"label": label_of((205, 421, 421))}
    with pytest.raises(ValueError) as error:
        LabelsToClassesd("label", MMWHS)(data)
    for part in ("case 'ct_1007'", "/data/ct_1007.nii.gz", "421 (2 voxels)", "205, 420, 500", "`labels`"):
        assert part in str(error.value)


def test_the_name_in_the_datalist_goes_before_that_of_the_file():
    with pytest.raises(ValueError, match="case 'patient 7'"):
        LabelsToClassesd("label", (1,))({"label": label_of((2,)), "case": "patient 7"})


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), -1, 1e9])
def test_values_that_are_no_ids_are_refused(value):
    with pytest.raises(ValueError, match="unknown label"):
        LabelsToClassesd("label", (1, 2))({"label": torch.tensor([0, 1, value])})


def test_a_label_resampled_by_linear_interpolation_is_recognised():
    with pytest.raises(ValueError, match="linear interpolation"):
        LabelsToClassesd("label", (1, 2))({"label": torch.linspace(0, 2, 50)})


def test_many_stray_values_are_counted_not_listed():
    with pytest.raises(ValueError, match="and 92 more"):
        LabelsToClassesd("label", (1,))({"label": torch.arange(102)})


@pytest.mark.parametrize(
    ("values", "strays"),
    [
        ([0, 1, 2], {}),
        ([0, 3, 3, 1], {3: 2}),
        ([-1, 0.5, 0.5], {-1: 1, 0.5: 2}),
        ([], {}),
    ],
)
def test_strays_are_counted(values, strays):
    assert find_strays(torch.tensor(values), (1, 2)) == strays


def test_nan_is_one_stray_however_many_voxels_have_it():
    strays = find_strays(torch.tensor([float("nan")] * 3 + [5.0]), (1,))
    assert list(strays.values()) == [1, 3]


@pytest.mark.parametrize("classes", [[0, 3], [-1], [0.5]])
def test_classes_that_do_not_exist_are_refused(classes):
    with pytest.raises(ValueError, match=r"'pred' should hold the classes 0\.\.2"):
        ClassesToLabelsd("pred", (205, 850))({"pred": torch.tensor(classes)})


@pytest.mark.parametrize("ids", [(), (0, 1), (1, 1), (-2,), range(1, 257)])
@pytest.mark.parametrize("transform", [LabelsToClassesd, ClassesToLabelsd])
def test_impossible_ids_are_refused_at_once(transform, ids):
    with pytest.raises(ValueError, match="label_ids"):
        transform("label", ids)


def chain(spacing, **options):
    return Compose(
        [
            LoadImaged(("image", "image_label"), ensure_channel_first=True),
            spacing(("image", "image_label"), (0.5, 1.0, 1.0), mode=("bilinear", "nearest"), **options),
        ]
    )


@pytest.fixture
def files(tmp_path, write_case):
    image = write_case(tmp_path, "a", affine=AFFINE)
    label = tmp_path / "labels" / "a.nii.gz"
    return {"image": str(image), "image_label": str(label), "image_path": str(image)}


def test_spacing_leaves_entries_alone_that_only_begin_like_a_key(files):
    result = chain(SafeSpacingd)(files)
    assert result["image_path"] == files["image_path"]
    with pytest.raises(RuntimeError):  # the reason why SafeSpacingd exists
        chain(Spacingd)(files)


def test_spacing_equals_that_of_monai(files):
    ours = chain(SafeSpacingd)(files)
    load = LoadImaged(("x", "y"), ensure_channel_first=True)
    monai = Spacingd(("x", "y"), (0.5, 1.0, 1.0), mode=("bilinear", "nearest"))
    theirs = monai(load({"x": files["image"], "y": files["image_label"]}))
    assert torch.equal(ours["image"], theirs["x"])
    assert torch.equal(ours["image_label"], theirs["y"])
    np.testing.assert_allclose(ours["image"].affine, theirs["x"].affine)
    np.testing.assert_allclose(np.linalg.norm(ours["image"].affine[:3, :3], axis=0), (0.5, 1, 1))


def test_spacing_lets_a_label_be_missing(files):
    del files["image_label"]
    image = LoadImaged("image", ensure_channel_first=True)(files)
    result = SafeSpacingd(("image", "image_label"), 1.0, allow_missing_keys=True)(image)
    assert result.keys() == files.keys()
    with pytest.raises(KeyError, match="image_label"):
        SafeSpacingd(("image", "image_label"), 1.0)(image)


def test_a_prediction_returns_to_the_grid_of_its_file(files):
    preprocessing = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            SafeSpacingd("image", (3.0, 4.0, 6.0)),
            ResizeWithPadOrCropd("image", (8, 8, 8)),
        ]
    )
    data = preprocessing(files)
    data["pred"] = data["image"].clone()
    result = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True)(data)["pred"]
    assert result.shape == (1, 8, 10, 9)
    np.testing.assert_allclose(result.affine, AFFINE, atol=1e-6)


def test_a_subject_ends_as_float32_and_uint8_with_the_affine_of_its_crop(files):
    keys = ("image", "image_label")
    subject = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            LabelsToClassesd("image_label", (1, 2)),
            SafeSpacingd(keys, (1.0, 1.0, 1.5), mode=("bilinear", "nearest")),
            ResizeWithPadOrCropd(keys, (8, 8, 8)),
            EnsureTyped(keys, dtype=(torch.float32, torch.uint8)),
        ]
    )(files)
    assert (subject["image"].dtype, subject["image_label"].dtype) == (torch.float32, torch.uint8)
    assert set(subject["image_label"].unique().tolist()) <= {0, 1, 2}
    np.testing.assert_allclose(subject["image"].affine, subject["image_label"].affine)
    # The crop keeps the centre: both centres are one point in the world.
    centre_before = AFFINE @ [*((np.array([8, 10, 9]) - 1) / 2), 1]
    centre_after = subject["image"].affine.numpy() @ [3.5, 3.5, 3.5, 1]
    np.testing.assert_allclose(centre_after, centre_before, atol=1.0)


@pytest.mark.parametrize(
    "transform", [LabelsToClassesd("y", (4, 9)), ClassesToLabelsd("y", (4, 9)), SafeSpacingd(("y", "y_label"), 1.0)]
)
def test_transforms_survive_pickling(transform):
    data = {"y": MetaTensor(torch.zeros(1, 2, 2, 2)), "y_label": MetaTensor(torch.zeros(1, 2, 2, 2))}
    result = pickle.loads(pickle.dumps(transform))(data)
    assert torch.equal(result["y"], transform(data)["y"])


def test_an_id_that_float32_cannot_tell_from_its_neighbour_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label_ids has 312782546, and 16777215 is the largest"):
        LabelsToClassesd("label", [1, 312782546])
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 2**24 + 2, np.int32), np.eye(4)), tmp_path / "atlas.nii.gz")
    with pytest.raises(ValueError, match=r"atlas\.nii\.gz holds the id 16777218"):
        read_label(str(tmp_path / "atlas.nii.gz"))
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 2**24 - 1, np.int32), np.eye(4)), tmp_path / "atlas.nii.gz")
    assert (read_label(str(tmp_path / "atlas.nii.gz")) == 2**24 - 1).all()
