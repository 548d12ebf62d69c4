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
"""The tutorial, typed as it is written: its commands, settings and lists are taken from the document itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from bundle_runs import BUNDLE, ROOT, STRUCTURES, TINY
from document_blocks import blocks, commands

from scripts.phantom.volumes import make_phantoms

TUTORIAL = BUNDLE / "docs" / "tutorial.md"
FOLDER = "/data/heart"
#: six of its eight cases are labelled by somebody: four for training, and two to measure on
LABELED, CHECKED = 4, ("case_07", "case_08")
STEPS = ["check", "train", "segment", "register", "evaluate", "evaluate", "report"]


def lay_out(folder: Path) -> Path:
    """The reader's folder after step 2 and the labelling of step 7, with phantoms for images."""
    drawn = folder.parent / "phantoms"
    make_phantoms(drawn, num_labeled=LABELED, num_unlabeled=2, num_validation=0, num_test=2, size=16)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for path in sorted((drawn / kind).iterdir()):
            number = 1 + int(path.name.split(".")[0].split("_")[1])
            place = folder / ("checked" if kind == "labels" and number > LABELED else kind)
            place.mkdir(exist_ok=True)
            path.rename(place / f"case_{number:02d}.nii.gz")
    names, cases = blocks(TUTORIAL, "json")
    (folder / "labels.json").write_text(names)
    (folder / "check.json").write_text(cases)
    (settings,) = blocks(TUTORIAL, "yaml")
    (folder / "mydata.yaml").write_text(yaml.safe_dump(yaml.safe_load(settings) | TINY | {"num_labeled": LABELED}))
    return folder


def run(words, folder):
    """A command of the document, with the reader's folder in place of the one it names."""
    words = [word.replace(FOLDER, str(folder)) for word in words]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "deeprs", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}"
    return done.stdout


def test_the_tutorial_has_the_steps_that_are_tested_and_no_other_command():
    words = commands(TUTORIAL, "deeprs")
    assert [each[0] for each in words] == STEPS
    lines = "".join(blocks(TUTORIAL)).replace("\\\n", " ").splitlines()
    assert [line for line in lines if line and not line.startswith("deeprs ")] == []


def test_the_checking_of_the_tutorial_finds_four_labelled_cases(tmp_path):
    said = run(commands(TUTORIAL, "deeprs")[0], lay_out(tmp_path / "heart"))
    rows = [line.split() for line in said.splitlines() if line.startswith("case_")]
    assert [row[1] for row in rows] == ["labeled"] * 4 + ["unlabeled"] * 4
    assert all(row[-1] == "ok" for row in rows)


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    """The folder after every command of the page."""
    folder = lay_out(tmp_path_factory.mktemp("tutorial") / "heart")
    for words in commands(TUTORIAL, "deeprs"):
        run(words, folder)
    return folder


@pytest.mark.slow
def test_all_images_are_segmented_on_their_grids(heart):
    images = sorted((heart / "images").iterdir())
    assert len(images) == 8
    for path in images:
        image = nib.load(path)
        written = nib.load(heart / "segmentations" / path.name.replace(".nii.gz", "_seg.nii.gz"))
        assert written.shape == image.shape
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
        assert set(np.unique(written.dataobj)) <= {0, *STRUCTURES}


@pytest.mark.slow
def test_the_transform_for_slicer_moves_the_image_as_the_warped_one_shows(heart):
    fixed, moving = (sitk.ReadImage(str(heart / "images" / f"case_0{n}.nii.gz"), sitk.sitkFloat32) for n in (5, 1))
    transform = sitk.ReadTransform(str(heart / "registration" / "case_01_to_case_05_transform.h5"))
    moved = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1024.0))
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(heart / "registration" / "warped.nii.gz"), sitk.sitkFloat32))
    inside = (moved > -1000) & (warped > -1000)  # at the border of the moving image the two fill differently
    assert inside.mean() > 0.3
    assert np.percentile(np.abs(moved - warped)[inside], 99) < 0.01 * np.ptp(warped)


@pytest.mark.slow
def test_the_report_and_the_comparison_are_of_the_cases_that_were_kept_back(heart):
    metrics = json.loads((heart / "evaluation" / "metrics.json").read_text())
    assert metrics["segmentation"]["n"] == 2 and metrics["registration"]["n"] == 2
    report, comparison = ((heart / "evaluation" / f"{name}.html").read_text() for name in ("report", "comparison"))
    assert all(name in report for name in CHECKED) and all(name in comparison for name in CHECKED)
    assert "Without and with refinement" in comparison and "evaluation_refined" in comparison
