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
"""A data set in BIDS is read as it lies: images by their suffix, labels of derivatives by their entities."""

from __future__ import annotations

import os

import numpy as np
import pytest

from scripts.data.cases import load_cases, load_images


@pytest.fixture
def bids(tmp_path):
    """``bids("sub-01_T1w", ..., labels=["sub-01_dseg", ...])``: empty files in their folders."""

    def write(*images, labels=(), pipeline="manual"):
        places = [tmp_path] * len(images) + [tmp_path / "derivatives" / pipeline] * len(labels)
        for place, name in zip(places, (*images, *labels), strict=True):
            entities = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
            folder = place.joinpath(*entities, "anat")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.nii.gz").touch()
        return tmp_path

    return write


def pairs_of(cases):
    every = (*cases.labeled, *cases.validation, *cases.test, *cases.unlabeled)
    ends = {case["case"]: [os.path.basename(case.get(key, "")) for key in ("image", "label")] for case in every}
    return {name: tuple(file.removesuffix(".nii.gz") for file in files) for name, files in ends.items()}


def refusal(folder, kind=ValueError, **options):
    with pytest.raises(kind) as stopped:
        load_cases(folder, **{"labels": {1: "a"}, **options})
    return str(stopped.value)


def load(folder, **options):
    return pairs_of(load_cases(folder, **{"labels": {1: "a"}, **options}))


def test_a_case_is_a_subject_or_one_of_its_sessions(bids):
    folder = bids(
        *("sub-01_T1w", "sub-02_T1w", "sub-03_ses-a_T1w", "sub-03_ses-b_T1w"),
        labels=["sub-01_dseg", "sub-03_ses-b_dseg"],
    )
    assert load(folder) == {
        "sub-01": ("sub-01_T1w", "sub-01_dseg"),
        "sub-02": ("sub-02_T1w", ""),
        "sub-03_ses-a": ("sub-03_ses-a_T1w", ""),
        "sub-03_ses-b": ("sub-03_ses-b_T1w", "sub-03_ses-b_dseg"),
    }
    assert [case["case"] for case in load_cases(folder, labels={1: "a"}).labeled] != []


def test_labels_are_found_however_deep_the_derivatives_are(bids):
    folder = bids("sub-01_T1w", labels=["sub-01_dseg"], pipeline="pipelines/atlas/v2")
    assert load(folder)["sub-01"] == ("sub-01_T1w", "sub-01_dseg")


def test_of_several_suffixes_t1w_is_taken_and_a_rule_takes_another(bids):
    folder = bids("sub-01_T1w", "sub-01_T2w", "sub-01_FLAIR", labels=["sub-01_dseg"])
    assert load(folder)["sub-01"][0] == "sub-01_T1w"
    assert load(folder, image_name="*_T2w.nii.gz")["sub-01"][0] == "sub-01_T2w"
    assert [case["image"][-13:] for case in load_images(folder, image_name="*_FLAIR")] == ["_FLAIR.nii.gz"]


def test_the_only_suffix_is_taken_and_one_of_several_is_asked_for(bids):
    assert load(bids("sub-01_T2w", "sub-02_T2w"))["sub-02"][0] == "sub-02_T2w"
    message = refusal(bids("sub-01_FLAIR"))
    assert "found T2w (2), FLAIR (1)" in message and '--image_name "*_T2w.nii.gz"' in message


def test_runs_are_told_apart_where_there_are_several(bids):
    images = ["sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-02_acq-mprage_T1w"]
    folder = bids(*images, labels=["sub-01_run-2_dseg", "sub-02_dseg"])
    assert load(folder) == {
        "sub-01_run-1": ("sub-01_run-1_T1w", ""),
        "sub-01_run-2": ("sub-01_run-2_T1w", "sub-01_run-2_dseg"),
        "sub-02": ("sub-02_acq-mprage_T1w", "sub-02_dseg"),
    }


def test_a_label_that_fits_two_runs_is_refused(bids):
    message = refusal(bids("sub-01_run-1_T1w", "sub-01_run-2_T1w", labels=["sub-01_dseg"]))
    assert "fits several images: those of 'sub-01_run-1' and 'sub-01_run-2'" in message and "--image_name" in message


def test_a_label_of_another_run_is_not_taken(bids):
    folder = bids("sub-01_run-1_T1w", "sub-02_T1w", labels=["sub-01_run-2_dseg", "sub-02_dseg"])
    assert load(folder)["sub-01"] == ("sub-01_run-1_T1w", "")


def test_of_several_labels_a_rule_chooses_and_the_refusal_names_one_that_does(bids):
    labels = ["sub-01_dseg", "sub-01_desc-aseg_dseg", "sub-01_space-MNI_desc-aseg_dseg"]
    folder = bids("sub-01_T1w", labels=labels)
    message = refusal(folder)
    assert "case 'sub-01': expected one label, found 3" in message
    assert '--label_name "*_desc-aseg_dseg.nii.gz"' in message
    for rule, expected in (("*_desc-aseg_dseg.nii.gz", labels[1]), ("*_dseg.nii.gz", labels[0])):
        assert load(folder, label_name=rule)["sub-01"][1] == expected


def test_labels_that_fit_no_image_are_refused_with_what_was_found(bids):
    folder = bids("sub-01_ses-1_T1w", "sub-02_ses-1_T1w", labels=["sub-01_dseg", "sub-02_dseg"])
    message = refusal(folder)
    assert "2 images, 2 labels, 0 pairs; nearest names: sub-01_ses-1_T1w.nii.gz and sub-01_dseg.nii.gz" in message
    assert "the same `sub` and `ses`" in message
    assert "0 pairs" in refusal(folder, label_name="*_dseg.nii.gz")
    assert "fits no file" in refusal(folder, FileNotFoundError, label_name="*_mask.nii.gz")


def test_images_to_segment_need_no_labels(bids):
    folder = bids("sub-01_T1w", "sub-02_ses-1_T1w", labels=["sub-09_dseg"])
    assert [case["case"] for case in load_images(folder)] == ["sub-01", "sub-02_ses-1"]


@pytest.fixture
def labelled(bids, write_volume):
    """Two labelled subjects with the ids 4, 43 and 99."""
    folder = bids("sub-01_T1w", "sub-02_T1w", labels=["sub-01_dseg", "sub-02_dseg"])
    for subject, ids in (("sub-01", (4, 43)), ("sub-02", (4, 99))):
        array = np.zeros((4, 4, 4), np.int16)
        array.reshape(-1)[: len(ids)] = ids
        write_volume(folder / "derivatives" / "manual" / subject / "anat" / f"{subject}_dseg.nii.gz", array)
    return folder


def table(path, *rows):
    path.write_text("\n".join(["index\tname\tcolor", *(f"{i}\t{name}\t#ff0000" for i, name in rows)]) + "\n")


def test_ids_have_the_names_of_the_tables_beside_or_above_the_labels_and_else_their_numbers(labelled):
    assert load_cases(labelled).labels == {4: "4", 43: "43", 99: "99"}
    manual = labelled / "derivatives" / "manual"
    table(manual / "dseg.tsv", (0, "background"), (4, "left ventricle"), (43, "right ventricle"), (1000, "cortex"))
    assert load_cases(labelled).labels == {4: "left ventricle", 43: "right ventricle", 99: "99"}
    table(manual / "sub-02" / "anat" / "sub-02_dseg.tsv", (4, "left ventricle"), (99, "tumour"))
    table(manual / "sub-02" / "anat" / "sub-01_dseg.tsv", (99, "of another subject"))
    assert load_cases(labelled).labels == {4: "left ventricle", 43: "right ventricle", 99: "tumour"}


def test_tables_that_contradict_each_other_are_refused(labelled):
    manual = labelled / "derivatives" / "manual"
    for subject, name in (("sub-01", "lateral"), ("sub-02", "third")):
        table(manual / subject / "anat" / f"{subject}_dseg.tsv", (4, name))
    assert "the id 4 is 'lateral' in" in refusal(labelled, labels=None)


def test_a_table_without_its_columns_is_refused(labelled):
    (labelled / "derivatives" / "dseg.tsv").write_text("id\tlabel\n4\ta\n")
    assert "expected the columns index and name, found ['id', 'label']" in refusal(labelled, labels=None)
    (labelled / "derivatives" / "dseg.tsv").write_text("index\tname\nfour\ta\n")
    assert "expected a whole number in each row of `index`" in refusal(labelled, labels=None)
