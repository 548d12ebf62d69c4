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
"""How files and folders are read into lists, before anything is chosen or split."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.files.datalist import case_name, find_volumes, read_json, resolve_entry
from scripts.files.pairing import scan_folder


@pytest.fixture
def folder(tmp_path):
    """Two labelled cases and an unlabelled one, as empty files."""
    for name in ("images/a.nii.gz", "images/b.nii.gz", "images/c.mha", "labels/a.nii.gz", "labels/b.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/ct_1007.nii.gz", "ct_1007"),
        ("ct.v2.nii", "ct.v2"),
        ("CT.NII.GZ", "CT"),
        ("x.nrrd", "x"),
        ("x.mha", "x"),
        ("x", "x"),
    ],
)
def test_a_case_is_named_after_its_file_without_the_suffix(path, name):
    assert case_name(path) == name


def test_a_folder_is_a_datalist_that_nobody_has_split(folder, write_json):
    # the label of b is of another format than its image, and belongs to it by its name
    pairs = [("images/a.nii.gz", "labels/a.nii.gz"), ("images/b.nii.gz", "labels/b.nrrd")]
    expected = {
        "labels": None,
        "training": [
            {"case": Path(image).name[0], "image": str(folder / image), "label": str(folder / label)}
            for image, label in pairs
        ],
        "unlabeled": [{"case": "c", "image": str(folder / "images/c.mha")}],
    }
    assert scan_folder(folder) == expected
    write_json(folder / "labels.json", {"1": "heart"})
    assert scan_folder(folder) == {**expected, "labels": {"1": "heart"}}


def test_a_label_whose_image_is_missing_is_left_out_and_reported(folder, caplog):
    (folder / "labels" / "a_seg.nii.gz").touch()
    assert [entry["label"] for entry in scan_folder(folder)["training"] if "a_seg" in entry["label"]] == []
    assert "left out: a_seg" in caplog.text


def test_hidden_files_of_archives_and_other_files_are_no_volumes(folder):
    for name in ("._a.nii.gz", "notes.txt", "c.raw"):
        (folder / "images" / name).touch()
    assert list(find_volumes(folder / "images")) == ["a", "b", "c"]


def test_a_folder_that_is_not_there_has_no_volumes(tmp_path):
    assert find_volumes(tmp_path / "labels") == {}


def test_two_files_for_one_case_are_refused(folder):
    (folder / "images" / "a.mha").touch()
    with pytest.raises(ValueError, match=r"case 'a' has two files: .*a\.mha and .*a\.nii\.gz"):
        find_volumes(folder / "images")


def test_a_case_is_named_after_the_link_not_after_what_it_points_at(folder):
    (folder / "images" / "first.nii.gz").symlink_to(folder / "images" / "a.nii.gz")
    case = resolve_entry("images/first.nii.gz", folder / "datalist.json", "unlabeled")
    assert case == {"case": "first", "image": str(folder / "images" / "first.nii.gz")}


def test_broken_json_names_the_file_and_the_place(tmp_path):
    (tmp_path / "d.json").write_text('{\n"test": [,]}')
    with pytest.raises(ValueError, match=r"d\.json is not valid JSON: .*line 2 "):
        read_json(tmp_path / "d.json")


def test_json_that_is_no_object_is_refused_by_its_type(tmp_path, write_json):
    with pytest.raises(ValueError, match=r"d\.json should hold a JSON object .* found a list"):
        read_json(write_json(tmp_path / "d.json", ["a.nii"]))
