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

"""The data check of train.yaml on cases of which it is known what its preprocessing leaves."""

from __future__ import annotations

import json
import logging

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform
from tiny_networks import shipped

SHAPE = (24, 16, 16)
STRUCTURES = {"1": "anterior", "2": "posterior"}
WHOLE = np.s_[4:20, 4:12, 4:12]


def label_with(*blocks) -> np.ndarray:
    """Structure k in the k-th block."""
    label = np.zeros(SHAPE, np.uint8)
    for number, block in enumerate(blocks, start=1):
        label[block] = number
    return label


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.float32)


@pytest.fixture
def check(tmp_path, write_json, caplog):
    """``check(labels, images=noise, spacings=1 mm, axes="RAS", **settings)``: (faults, warnings) as texts.

    The cases are called a, b, ...; u is unlabelled, and its label file cannot be read.
    """

    def store(kind, name, array, spacing=(1, 1, 1), axes="RAS"):
        volume = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
        path = tmp_path / kind / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(volume.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))), path)
        return f"{kind}/{name}.nii.gz"

    def run(labels, images=None, spacings=None, axes="RAS", **settings):
        entries = []
        for number, (name, label) in enumerate(zip("abc", labels, strict=False)):
            where = {"spacing": spacings[number] if spacings else (1, 1, 1), "axes": axes}
            image = noise(number) if images is None else images[number]
            entries.append(
                {"image": store("images", name, image, **where), "label": store("labels", name, label, **where)}
            )
        (tmp_path / "labels" / "u.nii.gz").write_bytes(b"opening this file raises")
        unlabelled = {"image": store("images", "u", noise(9)), "label": "labels/u.nii.gz"}
        write_json(
            tmp_path / "datalist.json",
            {"labels": STRUCTURES, "labeled": entries, "unlabeled": [] if spacings else [unlabelled]},
        )
        window = {"spatial_size": [16, 16, 16], "intensity": "window", "intensity_range": [0, 200]}
        fixed = {"dataset_dir": str(tmp_path), "num_labeled": None, "multiple": 8}
        fixed |= {"data_check::above": 0, "data_check::min_unlabeled": 0}
        caplog.clear()
        try:
            shipped("train.yaml", "data_check", **fixed | window | settings).run()
        except ValueError as error:
            return str(error), ""
        return "", "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)

    return run


def test_good_cases_pass_without_a_word(check):
    assert check([label_with(WHOLE)] * 2) == ("", "no label to train on holds posterior: it cannot be learnt")
    assert check([label_with(np.s_[4:12, 4:12, 4:12], np.s_[12:20, 4:12, 4:12])] * 2) == ("", "")


def test_values_outside_0_and_1_are_a_fault_of_each_case(check):
    own = [{"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True}]
    own[0]["allow_missing_keys"] = True
    faults, _ = check([label_with(WHOLE)], preprocessing={"_target_": "Compose", "transforms": own})
    assert faults.count("expected within [0, 1]") == 2  # a, and u, which has no label
    assert "case 'a': after preprocessing its values lie in [" in faults


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_the_share_of_a_structure_that_the_crop_takes_is_told_with_the_size_that_holds_it(check, axes):
    labels = [label_with(np.s_[0:10, 4:12, 4:12], np.s_[12:20, 4:12, 4:12])] * 2  # the crop begins at 4 of 24
    faults, warnings = check(labels, axes=axes)
    assert faults == ""
    assert "spatial_size (16, 16, 16) cuts structures off" in warnings
    assert "40 % of a (anterior)" in warnings or "40 % of b (anterior), 40 % of a (anterior)" in warnings
    assert "A spatial_size of (24, 16, 16) would hold them" in warnings
    assert check(labels, axes=axes, spatial_size=[24, 16, 16]) == ("", "")


@pytest.mark.parametrize(("thick", "warned"), [(100, False), (99, True)])
def test_up_to_one_percent_of_a_structure_may_go(check, thick, warned):
    label = label_with(np.s_[12:18, 4:12, 4:12], np.s_[8:12, 0:5, 0:5])
    label[3, 4, 4] = 2  # one voxel that the crop takes, beside 99 or 98 that it leaves
    label[8:12, 0:5, 0:5].flat[: 100 - thick + 1] = 0
    faults, warnings = check([label] * 2)
    assert faults == ""
    assert ("(posterior)" in warnings) is warned


def test_a_structure_outside_of_the_crop_stops_with_case_share_and_remedy(check):
    labels = [label_with(np.s_[6:12, 4:12, 4:12], np.s_[12:20, 4:12, 4:12]), label_with(WHOLE, np.s_[0:3, 4:12, 4:12])]
    faults, _ = check(labels)
    told = "case 'b': preprocessing leaves no voxel within spatial_size (16, 16, 16) of posterior (100 % outside)."
    assert f"found 1 fault:\n{told}" in faults
    assert "A spatial_size of (24, 16, 16) would hold them" in faults
    assert check(labels, spatial_size=[24, 16, 16]) == ("", "")


def test_a_structure_between_the_voxels_of_pixdim_stops_with_its_own_remedy(check):
    label = label_with(WHOLE, np.s_[7:8, 7:8, 7:8])
    assert check([label] * 2) == ("", "")
    faults, _ = check([label] * 2, pixdim=[4.0, 4.0, 4.0])
    assert "preprocessing leaves no voxel within spatial_size (16, 16, 16) of posterior (0 % outside)" in faults
    assert "smaller than a voxel of `pixdim`" in faults


def test_an_image_that_the_window_makes_constant_stops(check):
    faults, _ = check([label_with(WHOLE)] * 2, intensity_range=[-300, -200])
    assert "found 3 faults" in faults
    assert "case 'u': preprocessing makes the image constant: every voxel is 1." in faults


def test_an_image_with_less_than_one_percent_above_zero_is_not_scaled_and_stops(check):
    image = np.zeros(SHAPE, np.float32)
    image[8:11, 7:10, 7:10] = 500
    faults, _ = check([label_with(WHOLE)] * 2, [image, noise(1)], intensity="percentiles", intensity_range=[1, 99])
    assert "found 1 fault:\ncase 'a': after preprocessing its values lie in [0, 500], expected within [0, 1]" in faults
    assert "choose a wider `intensity_range`, such as [0, 100], or `intensity: window`" in faults
    wide = check([label_with(WHOLE)] * 2, [image, noise(1)], intensity="percentiles", intensity_range=[0, 100])
    assert wide[0] == ""


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize(("grey", "warned"), [(0.04, True), (0.06, False)])
def test_an_image_of_which_little_is_grey_is_warned_of_whatever_the_padding(check, size, grey, warned):
    image = np.full(SHAPE, 1000, np.float32)
    image.flat[:: round(1 / grey)] = 100
    image[12, 0, 0] = 0
    labels = [label_with(np.s_[4:12, 4:12, 4:12], np.s_[12:20, 4:12, 4:12])] * 2
    _, warnings = check(labels, [image, noise(1)], spatial_size=[size] * 3)
    assert ("lowest or highest value: 96 % of a. Look" in warnings) is warned
    assert ("hardly any grey" in warnings) is warned


@pytest.mark.parametrize(("other", "warned"), [((1, 1, 1.2), False), ((3, 3, 1), True)])
def test_voxel_sizes_that_differ_are_warned_of_unless_pixdim_makes_them_equal(check, other, warned):
    labels, spacings = (
        [label_with(np.s_[6:12, 4:12, 4:12], np.s_[12:18, 4:12, 4:12])] * 3,
        [(1, 1, 1), other, (1, 1, 1)],
    )
    _, warnings = check(labels, spacings=spacings, spatial_size=[24, 16, 16])
    assert ("a of 1 x 1 x 1 mm and b of 3 x 3 x 1 mm" in warnings) is warned
    assert ('the middle one is "[1,1,1]"' in warnings) is warned
    assert check(labels, spacings=spacings, spatial_size=[72, 48, 24], pixdim=[1.0, 1.0, 1.0]) == ("", "")


@pytest.mark.parametrize(
    ("blocks", "apart"),
    [
        ((np.s_[4:12, 4:8, 4:8], np.s_[12:20, 8:12, 8:12]), "a, b"),
        ((np.s_[4:13, 4:9, 4:9], np.s_[12:20, 8:12, 8:12]), None),
    ],
)
def test_labels_that_share_no_voxel_centre_on_centre_are_warned_of(check, blocks, apart):
    other = np.s_[4:6, 14:16, 14:16]
    labels = [label_with(blocks[0]), label_with(blocks[1])]
    labels[0][other] = labels[1][4:6, 12:14, 14:16] = 2
    faults, warnings = check(labels)
    assert faults == ""
    assert (f"overlaps with itself in any other label: {apart}. Align the cases first" in warnings) is bool(apart)


def test_the_same_voxels_of_another_structure_do_not_overlap(check):
    _, warnings = check([label_with(WHOLE), 2 * label_with(WHOLE)])
    assert "Align the cases first" in warnings


def test_without_preprocessing_the_files_alone_are_looked_at(check):
    label = label_with(np.s_[6:12, 4:12, 4:12], np.s_[0:3, 4:12, 4:12])
    assert check([label] * 2, **{"data_check::preprocessing": None}) == ("", "")


def test_a_size_that_does_not_fit_the_networks_is_told_first(check):
    faults, _ = check([label_with(WHOLE)] * 2, spatial_size=[16, 16], intensity_range=[-300, -200])
    assert "found 1 fault:\nspatial_size (16, 16)" in faults


@pytest.mark.parametrize("where", ["test", "validation"])
def test_a_case_to_score_may_be_empty_and_one_to_train_on_not(check, tmp_path, write_json, caplog, where):
    labels = [label_with(np.s_[4:12, 4:12, 4:12], np.s_[12:20, 4:12, 4:12])] * 2 + [label_with()]
    assert "found 1 fault:\ncase 'c': the label is empty" in check(labels)[0]
    listed = json.loads((tmp_path / "datalist.json").read_text())
    write_json(tmp_path / "datalist.json", listed | {where: [listed["labeled"].pop()]})
    window = {"spatial_size": [24, 16, 16], "intensity": "window", "intensity_range": [0, 200]}
    unlike = {
        "dataset_dir": str(tmp_path),
        "num_labeled": None,
        "multiple": 8,
        "data_check::above": 0,
        "data_check::min_unlabeled": 0,
    }
    caplog.clear()
    shipped("train.yaml", "data_check", **window | unlike).run()
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told.startswith("the label of c is empty")  # and nothing of cases that lie apart
