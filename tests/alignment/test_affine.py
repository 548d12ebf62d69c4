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
"""The search for an affine alignment, by SimpleITK and by elastix."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version

import nibabel as nib
import numpy as np
import pytest
from aligned_phantoms import (
    MOVED,
    dice,
    distance_mm,
    elastix_python,
    prepared,
    read,
    write_dataset,
    write_phantom,
)

from scripts.alignment.affine import INITIALIZATIONS, Elastix, SimpleITKAligner, choose_aligner
from scripts.fields.volumes import write_volume


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data")


@pytest.fixture(scope="module")
def elastix():
    return elastix_python()


def assert_brought_back(dataset, out):
    here = read(dataset / "labels/here.nii.gz")
    assert dice(read(out / "labels/moved.nii.gz"), here) > 0.9 > dice(read(dataset / "labels/moved.nii.gz"), here)
    found = json.loads((out / "transforms/moved.json").read_text())["matrix_ras"]
    assert distance_mm(found) < 1 < distance_mm(np.eye(4))


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_simpleitk_brings_a_phantom_back(dataset, tmp_path, initialization):
    assert_brought_back(dataset, prepared(dataset, tmp_path / "out", SimpleITKAligner(initialization)))


@pytest.mark.slow
def test_elastix_brings_a_phantom_back(dataset, tmp_path, elastix):
    assert_brought_back(dataset, prepared(dataset, tmp_path / "out", Elastix(python=elastix)))


@pytest.mark.slow
def test_the_interpreter_of_elastix_may_be_named_from_where_one_stands(dataset, elastix, monkeypatch):
    monkeypatch.chdir(dataset)  # elastix itself runs in the folder of the bundle
    path = dataset / "images/moved.nii.gz"
    assert np.allclose(Elastix(python=os.path.relpath(elastix))(path, path), np.eye(4), atol=1e-3)


def test_simpleitk_finds_the_identity_of_an_image_and_itself(dataset):
    path = dataset / "images/moved.nii.gz"
    assert np.allclose(SimpleITKAligner()(path, path), np.eye(4), atol=1e-6)


def test_simpleitk_aligns_a_mouse_as_it_does_a_man(tmp_path):
    scaling = np.diag([0.1, 0.1, 0.1, 1.0])
    for name, matrix in (("here", None), ("moved", MOVED)):
        write_phantom(tmp_path, name, matrix, label=False)
        image = nib.load(path := tmp_path / f"images/{name}.nii.gz")
        write_volume(path, np.asarray(image.dataobj), scaling @ image.affine)
    found = SimpleITKAligner()(tmp_path / "images/moved.nii.gz", tmp_path / "images/here.nii.gz")
    assert distance_mm(np.linalg.inv(scaling) @ found @ scaling) < 1


def test_simpleitk_aligns_where_there_is_no_elastix_and_the_log_says_so(caplog):
    try:
        version("itk-elastix")
    except PackageNotFoundError:
        expected = SimpleITKAligner
    else:
        expected = Elastix
    assert isinstance(choose_aligner(), expected)
    assert ("SimpleITK aligns instead" in caplog.text) is (expected is SimpleITKAligner)
    assert isinstance(choose_aligner("SimpleITK", "CenterOfGravity"), SimpleITKAligner)


def test_a_tool_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="elastix, SimpleITK or null, found 'ants'"):
        choose_aligner("ants")


def test_a_folder_of_one_tool_is_not_gone_on_with_by_the_other(dataset, tmp_path):
    prepared(dataset, tmp_path / "out", settings={"align_with": "elastix"})
    with pytest.raises(ValueError, match="prepared with other settings"):
        prepared(dataset, tmp_path / "out", settings={"align_with": "SimpleITK"})


def test_simpleitk_that_fails_has_the_last_word(tmp_path):
    with pytest.raises(RuntimeError, match="SimpleITK could not align .*nothing"):
        SimpleITKAligner()(tmp_path / "nothing.nii.gz", tmp_path / "nothing.nii.gz")


def test_elastix_that_fails_has_the_last_word(tmp_path, elastix):
    with pytest.raises(RuntimeError, match="could not align"):
        Elastix(python=elastix)(tmp_path / "nothing.nii.gz", tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("aligner", [Elastix, SimpleITKAligner])
def test_an_unknown_start_is_refused(aligner):
    with pytest.raises(ValueError, match="GeometricalCenter, CenterOfGravity"):
        aligner("Somewhere")
