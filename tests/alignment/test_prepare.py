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

"""Cases come to one grid by affine alignment, and results return to the grids they came from."""

from __future__ import annotations

import json
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from aligned_phantoms import (
    AFFINE,
    IDS,
    MOVED,
    SHAPE,
    dice,
    elastix_python,
    known,
    prepared,
    read,
    write_dataset,
)
from bundle_runs import run_bundle, succeed

from scripts.alignment.affine import matrix_of, write_itk_transform
from scripts.alignment.prepare import Prepare, find_reference
from scripts.alignment.prepared_folder import PreparedFolder
from scripts.data.cases import Cases, load_cases
from scripts.fields.volumes import write_volume
from scripts.files.datalist import case_name
from scripts.registration.restore import Restore


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data")


def failing_on(name):
    """An aligner that cannot cope with one case."""

    def align(moving, fixed):
        if case_name(moving) == name:
            raise RuntimeError("too few samples")
        return known(moving, fixed)

    return align


# ---- the whole way


def test_a_moved_case_comes_to_lie_on_the_reference(dataset, tmp_path):
    out = prepared(dataset, tmp_path / "out")
    here = read(dataset / "labels/here.nii.gz")
    assert dice(read(dataset / "labels/moved.nii.gz"), here) < 0.7
    assert dice(read(out / "labels/moved.nii.gz"), here) > 0.93
    moved, reference = read(out / "images/moved.nii.gz"), read(dataset / "images/here.nii.gz")
    assert np.corrcoef(moved.ravel(), reference.ravel())[0, 1] > 0.98
    for file in ("images/moved", "labels/moved", "images/bare"):
        assert np.allclose(nib.load(out / f"{file}.nii.gz").affine, AFFINE)


def test_the_reference_itself_is_not_changed(dataset, tmp_path):
    out = prepared(dataset, tmp_path / "out")
    assert (read(out / "labels/here.nii.gz") == read(dataset / "labels/here.nii.gz")).all()
    assert np.allclose(read(out / "images/here.nii.gz"), read(dataset / "images/here.nii.gz"), atol=1e-3)


def test_the_new_datalist_gives_the_same_lists_and_names(dataset, tmp_path):
    out = prepared(dataset, tmp_path / "out")
    old, new = load_cases(dataset), load_cases(out)
    assert new.labels == old.labels
    for name in ("labeled", "unlabeled", "validation", "test"):
        assert [case["case"] for case in getattr(new, name)] == [case["case"] for case in getattr(old, name)]
    assert all(Path(path).is_file() for case in (*new.labeled, *new.test) for path in (case["image"], case["label"]))
    assert "label" not in json.loads((out / "datalist.json").read_text())["unlabeled"][0]
    assert not (out / "labels" / "bare.nii.gz").exists()  # the file that must not be opened stands for this label


@pytest.mark.parametrize("pixdim", [None, 1.7])
def test_labels_are_never_blended(dataset, tmp_path, pixdim):
    out = prepared(dataset, tmp_path / "out", grid={"pixdim": pixdim})
    ids = read(out / "labels" / "moved.nii.gz")
    assert ids.dtype == np.int16
    assert set(np.unique(ids)) == {0, *IDS}


def test_outside_of_its_file_a_case_has_the_fill_value(dataset, tmp_path):
    out = prepared(dataset, tmp_path / "out", fill_value=-1024)
    assert (read(out / "images" / "moved.nii.gz") == -1024).any()
    assert read(out / "images" / "here.nii.gz").min() >= 0


def test_a_case_that_ends_outside_of_the_grid_is_named_and_left_out(dataset, tmp_path):
    def far_away(moving, fixed):
        return known(moving, fixed) if case_name(moving) != "bare" else known(moving, fixed) + np.eye(4, k=3) * 1e4

    with pytest.raises(RuntimeError, match=r"case 'bare': ValueError: on the prepared grid the image is constant"):
        prepared(dataset, tmp_path / "out", aligner=far_away)
    assert "bare" not in [case["case"] for case in load_cases(tmp_path / "out").unlabeled]


# ---- files that others read


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_the_itk_transform_carries_points_as_the_matrix_does(tmp_path, suffix):
    import itk

    path = tmp_path / f"case{suffix}"
    write_itk_transform(path, MOVED)
    (transform,) = itk.transformread(str(path))
    flip = np.array([-1, -1, 1])
    for point in np.random.default_rng(0).normal(scale=80, size=(5, 3)):
        expected = (MOVED @ [*point, 1])[:3]
        assert np.allclose(np.array(transform.TransformPoint((flip * point).tolist())) * flip, expected, atol=1e-9)


def test_simpleitk_resamples_by_the_transform_as_we_do(dataset, tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    out = prepared(dataset, tmp_path / "out")
    image, grid = (sitk.ReadImage(str(path)) for path in (dataset / "images/moved.nii.gz", out / "images/here.nii.gz"))
    transform = sitk.ReadTransform(str(out / "transforms" / "moved.tfm"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0)).transpose(2, 1, 0)
    assert np.abs(theirs - read(out / "images/moved.nii.gz"))[2:-2, 2:-2, 2:-2].max() < 0.01
    record = json.loads((out / "transforms" / "moved.json").read_text())
    assert np.allclose(record["matrix_ras"], MOVED)


def test_parameters_of_elastix_turn_around_its_centre():
    center, shift = np.array([5.0, -3.0, 2.0]), np.array([1.0, 2.0, 3.0])
    matrix = matrix_of(np.array([*(2 * np.eye(3)).ravel(), *shift]), center)
    assert np.allclose(matrix @ [*center, 1], [*(center + shift), 1])
    assert np.allclose(matrix @ [6, -3, 2, 1], [8, -1, 5, 1])


# ---- back


def test_what_is_restored_lies_on_the_grid_of_its_file_as_it_was(dataset, tmp_path):
    out, original = prepared(dataset, tmp_path / "out"), dataset / "labels" / "moved.nii.gz"
    prediction = tmp_path / "predictions" / "moved_seg.nii.gz"
    write_volume(prediction, read(out / "labels" / "moved.nii.gz"), AFFINE)
    (path,) = Restore(out, prediction.parent, tmp_path / "restored").run()
    assert path.name == "moved_seg.nii.gz"
    assert np.allclose(nib.load(path).affine, nib.load(original).affine)
    assert set(np.unique(read(path))) == {0, *IDS}
    assert dice(read(path), read(original)) > 0.93


def test_the_longest_name_of_a_case_decides_which_it_is(dataset, tmp_path):
    transforms = prepared(dataset, tmp_path / "out") / "transforms"
    other = json.loads((transforms / "moved.json").read_text()) | {"shape": [2, 3, 4]}
    (transforms / "moved_again.json").write_text(json.dumps(other))
    prediction = tmp_path / "moved_again_seg.nii.gz"
    write_volume(prediction, np.zeros(SHAPE, np.int16), AFFINE)
    (path,) = Restore(tmp_path / "out", prediction, tmp_path / "restored").run()
    assert nib.load(path).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("stranger", 1.0, "named after no case.*bare, here, moved"), ("here", 0.5, "fractions")],
)
def test_a_map_that_cannot_be_restored_is_refused(dataset, tmp_path, name, value, message):
    out, prediction = prepared(dataset, tmp_path / "out"), tmp_path / f"{name}.nii.gz"
    write_volume(prediction, np.full(SHAPE, value, np.float32), AFFINE)
    with pytest.raises(ValueError, match=message):
        Restore(out, prediction, tmp_path / "restored").run()


def test_a_map_is_not_overwritten_by_its_restoration(dataset, tmp_path):
    out, prediction = prepared(dataset, tmp_path / "out"), tmp_path / "here.nii.gz"
    write_volume(prediction, np.zeros(SHAPE, np.int16), AFFINE)
    with pytest.raises(ValueError, match="overwritten"):
        Restore(out, prediction, tmp_path).run()


# ---- going on, and faults


def test_a_case_that_fails_is_told_at_the_end_and_made_up_for_later(dataset, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="1 of 3 cases.*\n.*'bare'.*too few samples"):
        prepared(dataset, out, failing_on("bare"))
    assert [len(getattr(load_cases(out), name)) for name in ("labeled", "unlabeled", "test")] == [1, 0, 1]

    done = {file: file.stat().st_mtime_ns for file in out.rglob("moved.*")}
    assert len(done) == 4
    prepared(dataset, out, failing_on("moved"))  # which is not asked for again
    assert len(load_cases(out).unlabeled) == 1
    assert {file: file.stat().st_mtime_ns for file in out.rglob("moved.*")} == done


def test_a_case_whose_label_was_corrected_in_place_is_made_again(dataset, tmp_path):
    out, path = prepared(dataset, tmp_path / "out"), dataset / "labels" / "moved.nii.gz"
    made = {file: file.stat().st_mtime_ns for file in (out / "images").iterdir()}
    write_volume(path, np.where(read(path) == 420, 850, read(path)).astype(np.int16), AFFINE)
    prepared(dataset, out)
    assert set(np.unique(read(out / "labels" / "moved.nii.gz"))) == {0, 205, 850}
    assert [file.name for file in made if file.stat().st_mtime_ns != made[file]] == ["moved.nii.gz"]


def test_a_case_that_lost_a_file_is_made_again(dataset, tmp_path):
    out = prepared(dataset, tmp_path / "out")
    (out / "labels" / "moved.nii.gz").unlink()
    prepared(dataset, out)
    assert (out / "labels" / "moved.nii.gz").is_file()


def test_a_label_on_another_grid_is_a_fault_of_its_case(dataset, tmp_path):
    path = dataset / "labels" / "moved.nii.gz"
    write_volume(path, read(path), np.eye(4))
    with pytest.raises(RuntimeError, match="1 of 3 cases.*\n.*'moved'.*do not share a grid"):
        prepared(dataset, tmp_path / "out")


def test_a_label_that_cannot_be_read_is_a_fault_of_its_case(dataset, tmp_path):
    (dataset / "labels" / "moved.nii.gz").write_bytes(b"this is no volume")
    with pytest.raises(RuntimeError, match="1 of 3 cases.*\n.*'moved'"):
        prepared(dataset, tmp_path / "out")
    assert len(load_cases(tmp_path / "out").labeled) == 1


def test_a_stray_id_is_told_before_anything_is_aligned_and_can_be_corrected(dataset, tmp_path):
    path, out = dataset / "labels" / "moved.nii.gz", tmp_path / "out"
    ids = read(path)
    stray = np.where(np.isin(np.arange(ids.size).reshape(ids.shape), np.flatnonzero(ids == 420)[:3]), 421, ids)
    write_volume(path, stray.astype(np.int16), AFFINE)
    with pytest.raises(ValueError, match=r"case 'moved': unknown label 421 \(3 voxels\)") as fault:
        prepared(dataset, out, failing_on("everything"))
    assert "421 should be 420 (structure 420)" in str(fault.value)
    assert not out.exists()
    option = str(fault.value).split("--corrections ")[1].split("\n")[0]
    prepared(dataset, out, corrections=json.loads(option.strip('"').replace("'", '"')))
    assert set(np.unique(read(out / "labels" / "moved.nii.gz"))) == {0, *IDS}
    assert (read(path) == stray).all()  # the file stays as it is
    with pytest.raises(ValueError, match="'7': 1, '421': 420"):
        prepared(dataset, tmp_path / "again", corrections={"7": 1})


def test_a_folder_of_something_else_is_left_alone(dataset, tmp_path):
    with pytest.raises(ValueError, match="not empty"):
        prepared(dataset, dataset)
    prepared(dataset, tmp_path / "out")
    with pytest.raises(ValueError, match="other settings"):
        prepared(dataset, tmp_path / "out", grid={"pixdim": 2})


def test_two_cases_of_one_name_are_refused(tmp_path):
    case = {"case": "a", "image": "x/a.nii.gz", "label": "y/a.nii.gz"}
    with pytest.raises(ValueError, match="several cases are named a"):
        Prepare(Cases({1: "one"}, labeled=(case,), test=(case,)), tmp_path / "out", known).run()


# ---- reference


def test_the_label_of_a_test_case_does_not_choose_the_region(dataset):
    cases = load_cases(dataset)
    assert find_reference(cases, None, "label")["case"] == "here"
    assert find_reference(cases, "moved", "foreground")["case"] == "moved"
    for name, region, message in (
        ("moved", "label", "list 'labeled'"),
        ("nobody", None, "there is no case 'nobody'"),
    ):
        with pytest.raises(ValueError, match=message):
            find_reference(cases, name, region)


def test_settings_that_are_the_same_may_go_on(tmp_path):
    for _ in range(2):
        PreparedFolder(tmp_path / "out").claim({"pixdim": (1.0, 1.0, 1.0), "region": None})


# ---- the commands


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["elastix", "SimpleITK"])
def test_the_commands_prepare_and_restore(dataset, tmp_path, tool):
    options = {"align_with": tool} if tool == "SimpleITK" else {"elastix_python": elastix_python()}
    out, options = tmp_path / "out", {**options, "pixdim": "[2,2,2]", "region": "label", "margin": 4}
    succeed("preparing", ["configs/prepare.yaml"], dataset_dir=dataset, output_dir=out, **options)
    assert np.allclose(nib.load(out / "images/moved.nii.gz").header.get_zooms(), 2)
    restored = tmp_path / "restored"
    succeed("restoring", ["configs/prepare.yaml"], prepared_dir=out, predictions=out / "labels", output_dir=restored)
    assert dice(read(restored / "moved.nii.gz"), read(dataset / "labels/moved.nii.gz")) > 0.75  # through 2 mm


def test_without_elastix_the_command_says_how_to_get_it(dataset, tmp_path):
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "out", "elastix_python": bare / "bin" / "python"}
    done = run_bundle("preparing", ["configs/prepare.yaml"], **options)
    assert done.returncode != 0
    assert "pip install itk-elastix" in done.stdout.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
