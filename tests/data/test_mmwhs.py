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

"""MM-WHS as it is handed out: its names and folders, its stray id, and the paper's folds of the prepared set."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
from aligned_phantoms import elastix_python
from bundle_runs import STRUCTURES, run_bundle, succeed
from scipy.spatial.transform import Rotation

from scripts.alignment.prepare import Prepare
from scripts.alignment.target_grid import TargetGrid
from scripts.data.cases import load_cases
from scripts.data.mmwhs import load_mmwhs
from scripts.data.samplers import ordered_pairs
from scripts.phantom.volumes import phantom_subject

CONFIGS = ["configs/prepare.yaml", "configs/prepare_mmwhs.yaml"]
GRID = {"orientation": "RAS", "region": "label", "margin": 10.0}


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """``archive(labelled, unlabelled)``: phantoms in the layout of the challenge, each scanned elsewhere."""
    made = {}

    def write(labelled, unlabelled):
        if (labelled, unlabelled) not in made:
            folder = made[labelled, unlabelled] = tmp_path_factory.mktemp("mmwhs")
            for number in range(labelled):
                write_scan(folder / "ct_train", f"ct_train_{1001 + number}", number, label=True)
            for number in range(unlabelled):
                write_scan(folder / "ct_test", f"ct_test_{2001 + number}", 100 + number, label=False)
        return made[labelled, unlabelled]

    return write


def write_scan(folder, name, seed, label, place=None, shape=(24, 24, 20), spacing=(7, 7, 7.5)):
    """A scan as a CT writes it: axes to the left and to the back, and a place and a height of its own."""
    rng = np.random.default_rng(seed if place is None else place)
    centre = (*rng.uniform(-20, 20, 2), rng.uniform(-200, 200))
    shape = (*shape[:2], shape[2] + seed % 3)
    subject = phantom_subject(seed, shape=shape, spacing=spacing, orientation="LPS", centre=centre)
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(subject.image, subject.affine), folder / f"{name}_image.nii.gz")
    if label:
        nib.save(nib.Nifti1Image(subject.label, subject.affine), folder / f"{name}_label.nii.gz")


def centres(moving, fixed):
    """An aligner for scans that show the heart in the middle of the volume: centre on centre."""
    points = [nib.affines.apply_affine(i.affine, (np.array(i.shape) - 1) / 2) for i in map(nib.load, (moving, fixed))]
    matrix = np.eye(4)
    matrix[:3, 3] = points[0] - points[1]
    return matrix


def dice(a, b):
    return np.mean([2 * ((a == i) & (b == i)).sum() / ((a == i).sum() + (b == i).sum()) for i in STRUCTURES])


def read(path):
    return np.asarray(nib.load(path).dataobj)


# ---- the layout


def test_training_scans_are_labelled_and_test_scans_are_not(archive):
    cases = load_mmwhs(archive(20, 40))
    assert cases.labels == STRUCTURES
    assert sorted(case["case"] for case in cases.labeled) == [f"ct_train_{number}" for number in range(1001, 1021)]
    assert [case["case"] for case in cases.unlabeled] == [f"ct_test_{number}" for number in range(2001, 2041)]
    assert not cases.validation and not cases.test and not any("label" in case for case in cases.unlabeled)
    for case in cases.labeled:
        assert case["image"].endswith(f"/ct_train/{case['case']}_image.nii.gz")
        assert case["label"].endswith(f"/ct_train/{case['case']}_label.nii.gz")


def test_the_order_is_drawn_by_the_seed(archive):
    names = [[case["case"] for case in load_mmwhs(archive(20, 40), seed=seed).labeled] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2] and sorted(names[0]) == sorted(names[2]) != names[0]


@pytest.fixture
def files(tmp_path):
    """``files(names)``: empty files, which is enough to list them."""

    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def test_only_files_of_the_modality_count_and_they_need_not_be_compressed(files):
    folder = files(
        *("a/ct_train_1001_image.nii", "b/ct_train_1001_label.nii", "ct_test_2003_image.nii.gz"),
        *("mr_train_1001_image.nii.gz", "ct_train_1002_image.txt", "._ct_train_1003_image.nii.gz", "readme.txt"),
        "ct_test_2003_label.nii.gz",  # some have made labels of their own
    )
    cases = load_mmwhs(folder)
    assert [case["case"] for case in (*cases.labeled, *cases.unlabeled)] == ["ct_train_1001", "ct_test_2003"]
    assert "label" not in cases.unlabeled[0]


@pytest.mark.parametrize(
    ("names", "modality", "error", "message"),
    [
        (["mr_train_1001_image.nii.gz"], "ct", FileNotFoundError, "such as ct_train_1001_image.nii.gz"),
        (["ct_train_1001_image.nii.gz"], "ct", ValueError, "'ct_train_1001' of .* lacks its label"),
        (["a/ct_train_1001_image.nii", "b/ct_train_1001_image.nii"], "ct", ValueError, "has two images"),
        ([], "pet", ValueError, "ct or mr"),
    ],
)
def test_what_is_not_the_data_set_is_refused(files, names, modality, error, message):
    with pytest.raises(error, match=message):
        load_mmwhs(files(*names), modality)


def test_a_set_that_is_not_whole_is_told(archive, caplog):
    load_mmwhs(archive(5, 1))
    assert "found 5 cases of 20" in caplog.text and "found 1 cases of 40" in caplog.text


# ---- what is prepared from it


def test_the_folds_are_those_of_the_paper(archive, tmp_path):
    Prepare(load_mmwhs(archive(20, 40)), tmp_path, centres, grid=TargetGrid(size=[8, 8, 6], **GRID), folds=5).run()
    folds = [load_cases(tmp_path, tmp_path / f"datalist_fold{number}.json") for number in range(5)]
    names = [
        [{case["case"] for case in cases} for cases in (fold.labeled, fold.test, fold.unlabeled)] for fold in folds
    ]
    everyone = {f"ct_train_{number}" for number in range(1001, 1021)}
    for labelled, test, unlabelled in names:
        assert (len(labelled), len(test), len(unlabelled)) == (4, 16, 40)
        assert labelled | test == everyone
        assert len(labelled) * len(unlabelled) == 160 and len(ordered_pairs(len(test))) == 240  # Section 4.1
    assert set.union(*(labelled for labelled, _, _ in names)) == everyone  # each is trained on once
    assert not (tmp_path / "datalist_fold5.json").exists()
    assert sum(len(list((tmp_path / kind).iterdir())) for kind in ("images", "labels")) == 60 + 20


def test_the_volumes_are_hearts_of_128_by_128_by_96_that_lie_on_each_other(tmp_path):
    for place in (0, 1):  # one person, twice
        write_scan(tmp_path / "mmwhs", f"ct_train_{1001 + place}", seed=3, label=True, place=place)
    cases, out = load_mmwhs(tmp_path / "mmwhs"), tmp_path / "out"
    Prepare(cases, out, centres, grid=TargetGrid(size=[128, 128, 96], **GRID), fill_value=-1024).run()
    labels = []
    for case in cases.labeled:
        image, label = (nib.load(out / kind / f"{case['case']}.nii.gz") for kind in ("images", "labels"))
        assert image.shape == label.shape == (128, 128, 96)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        labels.append(np.asarray(label.dataobj))
        assert set(np.unique(labels[-1])) == {0, *STRUCTURES}
    reference = np.argwhere(labels[0])
    margin = 10.0 / np.array(image.header.get_zooms())
    room = np.minimum(reference.min(0), np.array(image.shape) - 1 - reference.max(0))
    assert (room > 0.3 * margin).all() and (room < 2.5 * margin).all()  # the box of the heart, in voxels of 7 mm
    assert dice(*labels) > 0.99


def test_the_stray_id_is_an_error_that_names_the_case_and_the_command_that_corrects_it(archive, tmp_path):
    folder, out = tmp_path / "mmwhs", tmp_path / "out"
    for number in (0, 1):
        write_scan(folder / "ct_train", f"ct_train_{1001 + number}", number, label=True)
    path = folder / "ct_train" / "ct_train_1002_label.nii.gz"
    label = nib.load(path)
    ids = np.asarray(label.dataobj).copy()
    ids[tuple(np.argwhere(ids == 420)[:2].T)] = 421
    nib.save(nib.Nifti1Image(ids, label.affine), path)
    options = {"grid": TargetGrid(size=[8, 8, 6], **GRID)}
    with pytest.raises(ValueError, match=r"'ct_train_1002': unknown label 421 \(2 voxels\)") as fault:
        Prepare(load_mmwhs(folder), out, centres, **options).run()
    assert re.search(r"421 should be 420 \(left atrium\).*\n +--corrections \"\{'421': 420\}\"", str(fault.value))
    Prepare(load_mmwhs(folder), out, centres, corrections={"421": 420}, **options).run()
    assert 421 not in read(out / "labels" / "ct_train_1002.nii.gz")


# ---- the command


def test_the_command_refuses_the_stray_id_before_anything_is_aligned(tmp_path):
    write_scan(tmp_path / "data", "ct_train_1001", 0, label=True)
    path = tmp_path / "data" / "ct_train_1001_label.nii.gz"
    label = nib.load(path)
    ids = np.where(read(path) == 420, 421, read(path))
    nib.save(nib.Nifti1Image(ids, label.affine), path)
    options = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "folds": "$None"}
    done = run_bundle("preparing", CONFIGS, elastix_python=elastix_python(), **options)
    assert done.returncode != 0 and not (tmp_path / "out").exists()
    assert "--corrections \"{'421': 420}\"" in done.stdout


def turn_and_cut(folder, name):
    """Lay a patient down anew: turned by ten degrees in the scanner, and without the lowest fifth of the slices."""
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 10, degrees=True).as_matrix()
    for path in folder.glob(f"{name}_*"):
        volume = nib.load(path).slicer[:, :, 8:]
        nib.save(nib.Nifti1Image(np.asarray(volume.dataobj), turned @ volume.affine), path)


@pytest.mark.slow
def test_the_command_makes_the_data_set_by_elastix(tmp_path):
    data, names = tmp_path / "mmwhs", ("ct_train_1001", "ct_train_1002", "ct_test_2001")
    for place, name in enumerate(names):  # one person, three times, as the truth is known then
        write_scan(data, name, 3, label="train" in name, place=place, shape=(44, 44, 40), spacing=(3.8, 3.8, 3.6))
    turn_and_cut(data, "ct_train_1002")
    options = {"dataset_dir": data, "folds": 2, "reference": "ct_train_1001"}
    succeed("preparing", CONFIGS, output_dir=tmp_path / "out", elastix_python=elastix_python(), **options)
    for number in range(2):
        fold = json.loads((tmp_path / "out" / f"datalist_fold{number}.json").read_text())
        assert [len(fold[name]) for name in ("labeled", "test", "unlabeled")] == [1, 1, 1]
    for name in names:
        assert nib.load(tmp_path / "out" / "images" / f"{name}.nii.gz").shape == (128, 128, 96)

    Prepare(load_mmwhs(data), tmp_path / "by_centres", centres, names[0], TargetGrid(size=[128, 128, 96], **GRID)).run()
    aligned, by_centres = (
        dice(*(read(tmp_path / out / "labels" / f"{name}.nii.gz") for name in names[:2]))
        for out in ("out", "by_centres")
    )
    assert aligned > 0.85 > by_centres + 0.2
