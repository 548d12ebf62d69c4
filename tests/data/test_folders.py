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
"""Folders as people have them become cases without a file being renamed, or are refused with what would help."""

from __future__ import annotations

import os
import re

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series

from scripts.data.cases import load_cases, load_images
from scripts.data.volumes import read_volume
from scripts.files.pairing import Rule

EYE = np.eye(4)


@pytest.fixture
def touch(tmp_path):
    """``touch("a/b.nii.gz", ...)``: empty files, for what looks at names alone."""

    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


@pytest.fixture
def put(tmp_path, write_volume):
    """``put("a/b.nii.gz", 3, 7)``: a volume with background and these ids."""

    def put(name, *ids):
        array = np.zeros((4, 4, 4), np.int16)
        array.reshape(-1)[: len(ids)] = ids
        return write_volume(tmp_path / name, array)

    return put


def pairs_of(cases):
    """Names of images by case, and of labels, of all cases."""
    every = (*cases.labeled, *cases.validation, *cases.test, *cases.unlabeled)
    return {c["case"]: (os.path.basename(c["image"]), os.path.basename(c.get("label", ""))) for c in every}


def refusal(folder, kind=ValueError, **options):
    with pytest.raises(kind) as stopped:
        load_cases(folder, **{"labels": {1: "a"}, **options})
    return str(stopped.value)


# ---- images/ and labels/ by rules


@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("*_T1w.nii.gz", "*_dseg.nii.gz"),
        ("*_T1w", "*_dseg"),
        ("sub-*_T1w.nii.gz", "sub-*_dseg.nii.gz"),
    ],
)
def test_a_case_is_what_the_stars_stand_for(touch, image_name, label_name):
    names = [f"images/sub-{i}_T1w.nii.gz" for i in "1234"] + ["images/sub-1_T2w.nii.gz", "images/sub-2_FLAIR.nii.gz"]
    folder = touch(*names, *[f"labels/sub-{i}_dseg.nii.gz" for i in "123"], "labels/sub-1_probseg.nii.gz")
    cases = load_cases(folder, labels={1: "a"}, image_name=image_name, label_name=label_name)
    name = "sub-{}" if image_name[0] == "*" else "{}"
    expected = {name.format(i): (f"sub-{i}_T1w.nii.gz", f"sub-{i}_dseg.nii.gz") for i in "123"}
    assert pairs_of(cases) == {**expected, name.format(4): ("sub-4_T1w.nii.gz", "")}
    assert [case["case"] for case in cases.unlabeled] == [name.format(4)]


@pytest.mark.parametrize("suffix", [".hdr", ".nii.gz"])
@pytest.mark.parametrize("with_suffix", [True, False, ".img"])
def test_the_names_of_lpba40_pair_by_rules(touch, suffix, with_suffix):
    names = [f"images/S{i:02d}.delineation.skullstripped{suffix}" for i in range(1, 5)]
    names += [f"labels/S{i:02d}.delineation.structure.label{suffix}" for i in range(1, 5)]
    if suffix == ".hdr":
        names += [name.replace(".hdr", ".img") for name in names]
    end = {True: suffix, False: "", ".img": ".img" if suffix == ".hdr" else suffix}[with_suffix]
    rules = {"image_name": f"*.delineation.skullstripped{end}", "label_name": f"*.delineation.structure.label{end}"}
    cases = load_cases(touch(*names), labels={21: "a"}, **rules)
    assert sorted(pairs_of(cases)) == ["S01", "S02", "S03", "S04"]
    assert len(cases.labeled) == 4


def test_lpba40_as_it_is_handed_out_a_folder_for_each_subject(touch):
    names = [f"S{i:02d}/S{i:02d}.delineation.{kind}.hdr" for i in range(1, 5) for kind in ("skullstripped", "other")]
    names += [f"S{i:02d}/S{i:02d}.delineation.structure.label.hdr" for i in range(1, 5)]
    rules = {"image_name": "*.delineation.skullstripped", "label_name": "*.delineation.structure.label"}
    cases = load_cases(touch(*names), labels={21: "a"}, **rules)
    assert sorted(case["case"] for case in cases.labeled) == ["S01", "S02", "S03", "S04"]


def test_a_pair_of_hdr_and_img_is_read_where_it_is_a_nifti_and_refused_where_left_is_not_known(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    label = np.zeros((4, 4, 4), np.int16)
    label[0, 0, :2] = 21, 34
    nib.save(nib.Nifti1Pair(label, EYE), tmp_path / "images" / "S01.skull.hdr")
    nib.save(nib.Nifti1Pair(label, EYE), tmp_path / "labels" / "S01.label.hdr")
    cases = load_cases(tmp_path, image_name="*.skull.img", label_name="*.label.hdr")
    assert cases.labels == {21: "21", 34: "34"}
    nib.save(nib.AnalyzeImage(label, EYE), tmp_path / "images" / "S01.skull.hdr")
    faults = []
    assert read_volume(cases.labeled[0]["image"], "image", faults) is None
    assert "of which nobody knows where left is" in faults[0]


def test_a_refusal_shows_what_was_found_and_its_option_pairs_it(touch):
    folder = touch(
        *[f"{k}/sub-{i:02d}_{s}.nii.gz" for i in range(12) for k, s in (("images", "T1w"), ("labels", "dseg"))]
    )
    message = refusal(folder)
    assert "12 images, 12 labels, 0 pairs; nearest names: sub-00_T1w.nii.gz and sub-00_dseg.nii.gz" in message
    rules = dict(re.findall(r'--(\w+) "([^"]*)"', message))
    assert rules == {"image_name": "*_T1w.nii.gz", "label_name": "*_dseg.nii.gz"} and "12 pairs by" in message
    assert len(pairs_of(load_cases(folder, labels={1: "a"}, **rules))) == 12


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("S{:02d}.delineation.skullstripped.hdr", "S{:02d}.delineation.structure.label.hdr"),
        ("img{:04d}.nii.gz", "label{:04d}.nii.gz"),
        ("case_{:02d}_ct.nii.gz", "seg_case_{:02d}.nii.gz"),
        ("{:02d}.nii", "{:02d}_manual.nii.gz"),
        ("volume-{}.nii", "segmentation-{}.nii"),
    ],
)
def test_the_option_that_is_named_pairs_what_people_have(touch, image, label):
    folder = touch(*[f"images/{image}".format(i) for i in range(12)], *[f"labels/{label}".format(i) for i in range(12)])
    message = refusal(folder)
    rules = dict(re.findall(r'--(\w+) "([^"]*)"', message))
    cases = load_cases(folder, labels={1: "a"}, **rules)
    assert len(cases.unlabeled) == 0 and len(pairs_of(cases)) == 12


def test_the_rules_are_found_where_few_of_many_images_have_a_label(touch):
    folder = touch(
        *[f"images/p{i:03d}_ct.nii.gz" for i in range(90)], *[f"labels/p{i}_seg.nii.gz" for i in (702, 80, 71)]
    )
    for name in ("p080", "p071"):
        (folder / "labels" / f"{name}_seg.nii.gz").touch()
    message = refusal(folder)
    assert "90 images, 5 labels, 0 pairs; nearest names: p0" in message
    assert '2 pairs by --image_name "*_ct.nii.gz" --label_name "*_seg.nii.gz"' in message


def test_names_that_share_nothing_are_refused_with_an_example_of_a_rule(touch):
    folder = touch("images/anna.nii.gz", "images/bert.nii.gz", "labels/0001.mha")
    message = refusal(folder)
    assert "2 images, 1 labels, 0 pairs" in message and "'*_T1w.nii.gz'" in message


def test_labels_without_images_are_told_with_the_counts(touch, caplog):
    folder = touch(*[f"images/{i}.nii.gz" for i in "abc"], "labels/a.nii.gz", "labels/x_seg.nii.gz")
    assert len(load_cases(folder, labels={1: "a"}).labeled) == 1
    assert "3 images, 2 labels, 1 pairs" in caplog.text and "left out: x_seg" in caplog.text


def test_a_rule_that_fits_nothing_shows_what_there_is(touch):
    folder = touch("images/a_T2w.nii.gz", "labels/a.nii.gz")
    message = refusal(folder, FileNotFoundError, image_name="*_T1w.nii.gz")
    assert "--image_name '*_T1w.nii.gz' fits no file" in message and "1 volumes: a_T2w.nii.gz" in message


@pytest.mark.parametrize("text", ["T1w.nii.gz", "*_*_T1w.nii.gz", "a/*_T1w.nii.gz"])
def test_a_rule_has_one_star_and_no_folder(text):
    with pytest.raises(ValueError, match="--image_name .*expected the name of a file with one star"):
        Rule(text, "image_name")


def test_two_files_of_one_case_are_refused(touch):
    folder = touch("images/a_T1w.nii.gz", "images/a_T1w.nii")
    assert "case 'a' has two files" in refusal(folder, image_name="*_T1w")


def test_rules_are_passed_over_with_a_warning_where_a_datalist_names_the_files(touch, write_json, caplog):
    folder = touch("images/a.nii.gz", "labels/a.nii.gz")
    entry = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}
    write_json(folder / "datalist.json", {"labels": {"1": "a"}, "labeled": [entry]})
    assert len(load_cases(folder, image_name="*_T1w.nii.gz").labeled) == 1
    assert "--image_name *_T1w.nii.gz is passed over" in caplog.text


def test_images_to_segment_are_found_by_a_rule(touch):
    folder = touch("a_T1w.nii.gz", "a_T2w.nii.gz", "b_T1w.nii.gz")
    assert [case["case"] for case in load_images(folder, image_name="*_T1w.nii.gz")] == ["a", "b"]


# ---- ids without names


def test_ids_that_nobody_names_have_their_numbers_as_names(put):
    put("images/a.nii.gz", 1)
    put("images/b.nii.gz", 1)
    put("labels/a.nii.gz", 205, 850)
    put("labels/b.nii.gz", 3)
    cases = load_cases(put("images/c.nii.gz").parents[1])
    assert cases.labels == {3: "3", 205: "205", 850: "850"} and len(cases.labeled) == 2


def test_names_of_the_config_need_no_label_to_be_read(touch):
    assert load_cases(touch("images/a.nii.gz", "labels/a.nii.gz"), labels={4: "x"}).labels == {4: "x"}


def test_a_label_that_cannot_be_read_for_its_ids_is_named(touch):
    folder = touch("images/a.nii.gz", "labels/a.nii.gz")
    assert re.match("case 'a': the label cannot be read: .*a.nii.gz", refusal(folder, labels=None))


def test_images_among_the_labels_are_suspected_by_the_number_of_their_values(tmp_path, write_volume):
    noise = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    write_volume(tmp_path / "images" / "a.nii.gz", noise)
    write_volume(tmp_path / "labels" / "a.nii.gz", noise)
    assert "511 ids or more; expected at most 255. Are they images?" in refusal(tmp_path, labels=None)


def test_labels_without_any_structure_are_refused(put):
    put("images/a.nii.gz")
    folder = put("labels/a.nii.gz").parents[1]
    assert "hold nothing but background" in refusal(folder, labels=None)


def test_images_alone_need_names_for_ids(touch):
    assert "there is no label file in" in refusal(touch("images/a.nii.gz"), labels=None)


# ---- DICOM


def test_a_series_is_one_image_and_folders_of_series_are_as_many(tmp_path):
    volume = np.arange(4 * 4 * 3).reshape(4, 4, 3)
    for name in ("1.2.3", "anna"):
        write_series(tmp_path / name, volume)
    (tmp_path / "empty").mkdir()
    (one,) = load_images(tmp_path / "anna")
    assert one == {"case": "anna", "image": str(tmp_path / "anna")}
    assert [case["case"] for case in load_images(tmp_path)] == ["1.2.3", "anna"]


# ---- real data, by links


def test_the_brain_under_the_names_of_lpba40_gives_the_same_cases(data_root, tmp_path):
    real = data_root / "brain_mr"
    if not (real / "datalist.json").is_file():
        pytest.skip(f"no {real}")
    stated = load_cases(real)
    for kind, ending in (("images", "skullstripped"), ("labels", "structure.label")):
        (tmp_path / kind).mkdir()
        for number, case in enumerate(stated.labeled, 1):
            link = tmp_path / kind / f"S{number:02d}.delineation.{ending}.nii.gz"
            link.symlink_to(case[kind.removesuffix("s")])
    message = refusal(tmp_path, labels=None)
    assert "4 images, 4 labels, 0 pairs" in message
    cases = load_cases(tmp_path, **dict(re.findall(r'--(\w+) "([^"]*)"', message)))
    assert len(cases.labeled) == 4 and set(cases.labels) <= set(stated.labels) and len(cases.labels) > 50
