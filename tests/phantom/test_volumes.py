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

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ResizeWithPadOrCrop, Spacing
from scipy.ndimage import label as connected_components

from scripts.data.anatomy import EXTENT_MM, STRUCTURES
from scripts.phantom import volumes as phantom
from scripts.phantom.volumes import MARKER, make_phantoms, phantom_subject

BUNDLE = Path(phantom.__file__).parents[2]
SPLITS = ("labeled", "unlabeled", "validation", "test")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return make_phantoms(folder, num_labeled=4, num_unlabeled=1, num_validation=1, num_test=2, size=32).parent


@pytest.fixture(scope="module")
def datalist(phantoms) -> dict:
    return json.loads((phantoms / "datalist.json").read_text())


def mean_dice(first: np.ndarray, second: np.ndarray) -> float:
    masks = [(first == i, second == i) for i in STRUCTURES]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in masks]))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".deeprs" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", range(4))
def test_every_structure_is_one_piece_of_more_than_100_voxels(seed):
    subject = phantom_subject(seed)
    assert set(np.unique(subject.label)) == {0, *STRUCTURES}
    for label_id in STRUCTURES:
        pieces, _ = connected_components(subject.label == label_id)
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.sum() > 100
        assert sizes.max() > 0.9 * sizes.sum()


def test_the_seed_decides_the_subject():
    first, again, other = phantom_subject(1), phantom_subject(1), phantom_subject(2)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert mean_dice(first.label, other.label) < 0.8


def test_no_window_of_intensity_is_a_structure():
    subject = phantom_subject(0)
    edges = np.quantile(subject.image, np.linspace(0, 1, 60))
    for label_id in STRUCTURES:
        inside = np.histogram(subject.image[subject.label == label_id], edges)[0].cumsum()
        all_voxels = np.histogram(subject.image, edges)[0].cumsum()
        dice = [
            2 * (inside[high] - inside[low]) / (inside[-1] + all_voxels[high] - all_voxels[low])
            for low, high in itertools.combinations(range(len(inside)), 2)
        ]
        assert max(dice) < 0.5


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
def test_the_orientation_only_rearranges_the_array(orientation):
    # Cubic voxels and an odd size: the voxel centres fall on the same places whatever the axes.
    plain = phantom_subject(5, shape=(33, 33, 33), spacing=(4.0, 4.0, 4.0))
    turned = phantom_subject(5, shape=(33, 33, 33), spacing=(4.0, 4.0, 4.0), orientation=orientation)
    assert "".join(nib.aff2axcodes(turned.affine)) == orientation
    back = nib.as_closest_canonical(nib.Nifti1Image(turned.label, turned.affine))
    assert (np.asarray(back.dataobj) != plain.label).mean() < 1e-4
    np.testing.assert_allclose(back.affine, plain.affine, atol=1e-6)


def test_spacing_and_centre_are_those_of_the_affine():
    spacing, centre, shape = (2.0, 3.0, 5.0), (10.0, -20.0, 30.0), (24, 32, 16)
    subject = phantom_subject(0, shape, spacing, orientation="ASL", tilt=5.0, centre=centre)
    assert subject.image.shape == subject.label.shape == shape
    np.testing.assert_allclose(nib.affines.voxel_sizes(subject.affine), spacing)
    np.testing.assert_allclose(nib.affines.apply_affine(subject.affine, (np.array(shape) - 1) / 2), centre)


def test_the_centre_moves_the_heart_with_the_grid():
    here, there = phantom_subject(0), phantom_subject(0, centre=(64.0, -32.0, 16.0))
    assert (here.label != there.label).mean() < 1e-3


@pytest.mark.parametrize("orientation", ["RRS", "RA", "XYZ", "ras"])
def test_an_impossible_orientation_is_refused(orientation):
    with pytest.raises(ValueError, match="does not name each body axis once"):
        phantom_subject(0, orientation=orientation)


def test_hearts_overlap_by_half_once_resampled_as_training_does(phantoms, datalist):
    chain = [
        EnsureChannelFirst(),
        Orientation("RAS", labels=None),
        Spacing((4.5,) * 3, mode="nearest"),
        ResizeWithPadOrCrop((32,) * 3),
    ]
    load = Compose([LoadImage(image_only=True), *chain])
    labels = [load(phantoms / entry["label"])[0].numpy() for entry in datalist["labeled"] + datalist["test"]]
    dice = [mean_dice(a, b) for a, b in itertools.combinations(labels, 2)]
    assert 0.4 < np.mean(dice) < 0.65


def test_datalist_names_the_structures_and_counts_the_cases(datalist):
    assert {int(i): name for i, name in datalist["labels"].items()} == {0: "background"} | STRUCTURES
    assert [len(datalist[split]) for split in SPLITS] == [4, 1, 1, 2]
    images = [entry["image"] for split in SPLITS for entry in datalist[split]]
    assert len(set(images)) == len(images)


def test_unlabeled_cases_have_no_label_anywhere(phantoms, datalist):
    assert all("label" not in entry for entry in datalist["unlabeled"])
    named = {Path(entry["label"]).name for split in SPLITS for entry in datalist[split] if "label" in entry}
    assert {path.name for path in (phantoms / "labels").iterdir()} == named


def test_cases_differ_in_grid_yet_each_covers_the_cube(phantoms, datalist):
    images = [nib.load(phantoms / entry["image"]) for split in SPLITS for entry in datalist[split]]
    for image in images:
        assert image.get_data_dtype() == np.int16
        assert np.all(np.array(image.shape) * image.header.get_zooms() > EXTENT_MM - 1e-3)
    assert len({nib.aff2axcodes(image.affine) for image in images}) >= 5
    assert len({image.header.get_zooms() for image in images}) == len(images)


def test_image_and_label_share_their_grid(phantoms, datalist):
    for entry in datalist["labeled"]:
        image, label = nib.load(phantoms / entry["image"]), nib.load(phantoms / entry["label"])
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    counts = dict(num_labeled=1, num_unlabeled=1, num_validation=0, num_test=0, size=16)
    for name in ("first", "second"):
        make_phantoms(tmp_path / name, **counts)
    make_phantoms(tmp_path / "other_seed", **counts, seed=1)
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert set(first) == {
        MARKER,
        "datalist.json",
        "images/phantom_000.nii.gz",
        "images/phantom_001.nii.gz",
        "labels/phantom_000.nii.gz",
    }
    assert first == second
    other = contents(tmp_path / "other_seed")
    assert all(first[name] != other[name] for name in first if name.endswith(".nii.gz"))


def test_a_folder_of_phantoms_is_replaced_and_keeps_no_label_of_a_case_now_unlabeled(tmp_path):
    make_phantoms(tmp_path, num_labeled=2, num_unlabeled=1, num_validation=0, num_test=0, size=16)
    make_phantoms(tmp_path, num_labeled=1, num_unlabeled=1, num_validation=0, num_test=0, size=16)
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["phantom_000.nii.gz"]
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_the_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not phantoms"):
        make_phantoms(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("wrong", [{"num_test": -1}, {"size": 4}])
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ValueError, match="size of at least 8"):
        make_phantoms(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_command_line_makes_a_data_set(tmp_path):
    numbers = ["--num_labeled", "1", "--num_unlabeled", "0", "--num_validation", "0", "--num_test", "1", "--size", "16"]
    command = [sys.executable, "-m", "scripts.phantom", "--output_dir", str(tmp_path / "new"), *numbers]
    done = subprocess.run(command, cwd=BUNDLE, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "new" / "datalist.json")
    assert len(list((tmp_path / "new" / "images").iterdir())) == 2
