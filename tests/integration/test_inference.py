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
"""Label maps of the shipped inference config, with a network that reads the label off the image's brightness."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import names_in, workflow

from scripts.files.errors import root_cause
from scripts.phantom.volumes import grid_affine

IDS = [1, 205, 850]
GRIDS = {
    "RAS": {"shape": (22, 26, 20), "spacing": (3, 3, 3), "orientation": "RAS", "tilt": 0},
    "LPS, anisotropic": {"shape": (26, 21, 12), "spacing": (2.5, 3.1, 6), "orientation": "LPS", "tilt": 0},
    "PIR, odd sides": {"shape": (19, 27, 23), "spacing": (3.3, 2.7, 3), "orientation": "PIR", "tilt": 0},
    "SAL, oblique": {"shape": (21, 20, 25), "spacing": (3, 3.4, 2.8), "orientation": "SAL", "tilt": 23},
}


def layers(shape: tuple[int, int, int]) -> np.ndarray:
    """Three structures in layers around the centre: classes, not ids."""
    index = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    distance = np.abs(index).max(axis=0)
    return (
        3 * (distance < 0.3) + 2 * ((distance >= 0.3) & (distance < 0.5)) + 1 * ((distance >= 0.5) & (distance < 0.7))
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder of images on awkward grids, as float32, int16 and uint8; name -> (classes, affine)."""
    folder, truth = tmp_path_factory.mktemp("awkward"), {}
    types = (np.float32, np.int16, np.uint8, np.int16)
    for number, (grid, dtype) in enumerate(zip(GRIDS.values(), types, strict=True)):
        affine = grid_affine(**grid, centre=(31.5, -40.25, 12.0))
        truth[f"case_{number}"] = (layers(grid["shape"]), affine)
        image = nib.Nifti1Image((80 * truth[f"case_{number}"][0]).astype(dtype), affine)
        nib.save(image, folder / f"case_{number}.nii.gz")
    return folder, truth


def infer(folder, out, **entries):
    known = {"labels": {str(i): f"id {i}" for i in IDS}, "num_classes": 4, "spatial_size": [32, 32, 32]}
    scale = {"intensity": "window", "intensity_range": [0, 240]}
    network = {"_target_": "tiny_networks.ByBrightness", "num_classes": 4}
    plain = {"_target_": "SimpleInferer"}  # one pass, whose answer is known voxel by voxel
    overrides = known | scale | {"network_def": network, "inferer": plain, "handlers": []} | entries
    with workflow(["inference.yaml"], "infer", dataset_dir=str(folder), output_dir=str(out), **overrides) as inference:
        inference.run()
    return sorted(out.glob("*_seg.nii.gz"))


def review_of(out):
    with open(out / "review.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_label_map_has_the_grid_of_its_input_and_the_original_ids(dataset, tmp_path):
    folder, truth = dataset
    written = infer(folder, tmp_path)
    assert [path.name for path in written] == [f"{name}_seg.nii.gz" for name in truth]
    for path, (classes, affine) in zip(written, truth.values(), strict=True):
        label = nib.load(path)
        np.testing.assert_allclose(label.affine, affine, atol=1e-4)
        assert np.issubdtype(label.get_data_dtype(), np.integer)
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.array([0, *IDS])[classes])


def test_resampling_on_the_way_to_the_network_comes_back_to_the_input_grid(dataset, tmp_path):
    folder, truth = dataset
    written = infer(folder, tmp_path, pixdim=[2.0, 2.0, 2.0], spatial_size=[48, 48, 48])
    for path, (classes, affine) in zip(written, truth.values(), strict=True):
        label = nib.load(path)
        assert label.shape == classes.shape
        np.testing.assert_allclose(label.affine, affine, atol=1e-4)
        found, centre = np.asarray(label.dataobj) == 850, classes == 3
        assert 2 * (found & centre).sum() / (found.sum() + centre.sum()) > 0.8
        assert set(np.unique(label.dataobj)) <= {0, *IDS}


def test_outside_the_crop_is_background(dataset, tmp_path):
    folder, truth = dataset
    written = infer(folder, tmp_path, spatial_size=[8, 8, 8])
    for path, (classes, _) in zip(written, truth.values(), strict=True):
        label = np.asarray(nib.load(path).dataobj)
        labelled = [slice(where.min(), where.max() + 1) for where in np.nonzero(label)]
        assert all(part.stop - part.start <= 8 for part in labelled)
        expected = np.zeros_like(label)
        expected[tuple(labelled)] = np.array([0, *IDS])[classes][tuple(labelled)]
        np.testing.assert_array_equal(label, expected)


def test_one_file_is_segmented_alone(dataset, tmp_path):
    folder, _ = dataset
    assert [path.name for path in infer(folder / "case_2.nii.gz", tmp_path)] == ["case_2_seg.nii.gz"]


def test_a_bad_image_is_named_at_the_end_and_stops_no_other(dataset, tmp_path):
    folder, truth = dataset
    data, out = Path(shutil.copytree(folder, tmp_path / "data")), tmp_path / "out"
    bad = nib.load(data / "case_0.nii.gz")
    nib.save(nib.Nifti1Image(np.where(bad.get_fdata() > 0, np.nan, 1.0), bad.affine), data / "case_0.nii.gz")
    (data / "case_3.nii.gz").write_bytes((data / "case_3.nii.gz").read_bytes()[:200])
    with pytest.raises(RuntimeError) as stopped:  # raised by MONAI
        infer(data, out)
    lines = str(root_cause(stopped.value)).splitlines()
    assert lines[0] == "2 of 4 images could not be segmented:"
    assert [line.split(": the image ")[0] for line in lines if line.startswith("'")] == [
        f"'{name}': {data / name}.nii.gz" for name in ("case_0", "case_3")
    ]
    assert sorted(names_in(out)) == ["case_1_seg.nii.gz", "case_2_seg.nii.gz", "review.csv"]
    assert {row["case"] for row in review_of(out)} == {"case_1", "case_2"}


def test_results_are_named_by_case_where_files_in_several_folders_bear_one_name(dataset, tmp_path, write_json):
    folder, _ = dataset
    images = [{"case": case, "image": str(tmp_path / case / "t1.nii.gz")} for case in ("p.1", "q")]
    for number, entry in enumerate(images):
        Path(entry["image"]).parent.mkdir()
        shutil.copy(folder / f"case_{number}.nii.gz", entry["image"])
    datalist = write_json(tmp_path / "datalist.json", {"labels": {"1": "x"}, "unlabeled": images})
    written = infer(folder, tmp_path / "out", datalist=str(datalist))
    assert [path.name for path in written] == ["p.1_seg.nii.gz", "q_seg.nii.gz"]
    assert [nib.load(path).shape for path in written] == [nib.load(entry["image"]).shape for entry in images]


def test_label_maps_beside_the_images_are_not_segmented_again(dataset, tmp_path):
    data = Path(shutil.copytree(dataset[0], tmp_path / "data"))
    once = infer(data, data)
    assert infer(data, data, probabilities=True, confidence=True) == once and len(once) == len(dataset[1])
    assert infer(data, data) == once


def test_the_review_has_a_row_for_each_structure_of_each_case_with_its_volume(dataset, tmp_path):
    folder, truth = dataset
    infer(folder, tmp_path)
    rows = review_of(tmp_path)
    assert len(rows) == len(truth) * len(IDS) and [row["flag"] for row in rows] == sorted(
        (row["flag"] for row in rows), reverse=True
    )
    for row in rows:
        classes, affine = truth[row["case"]]
        mask = classes == 1 + [f"id {i}" for i in IDS].index(row["structure"])
        volume = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
        assert float(row["volume_ml"]) == pytest.approx(volume, rel=1e-4)
        assert float(row["estimated_dice"]) == pytest.approx(1, abs=1e-3)  # the network is certain
        assert (row["pieces"], row["touches_border"], row["low"], row["agreement"]) == ("1", "no", "", "")


def test_what_the_crop_cuts_off_touches_the_border(dataset, tmp_path):
    infer(dataset[0], tmp_path, spatial_size=[8, 8, 8])
    assert {row["reason"] for row in review_of(tmp_path)} == {"nothing was found", "touches the border"}


def test_probabilities_lie_on_the_grid_of_the_image_and_sum_to_one(dataset, tmp_path):
    folder, truth = dataset
    written = infer(folder, tmp_path, probabilities=True, spatial_size=[24, 24, 24])
    assert len(list(tmp_path.glob("*_probabilities.nii.gz"))) == len(written)
    for path, (classes, affine) in zip(written, truth.values(), strict=True):
        prob = nib.load(path.with_name(path.name.replace("_seg", "_probabilities")))
        assert prob.shape == (*classes.shape, 4) and prob.get_data_dtype() == np.uint8
        np.testing.assert_allclose(prob.affine, affine, atol=1e-4)
        np.testing.assert_allclose(prob.get_fdata().sum(axis=-1), 1, atol=2 / 255)
        label = np.array([0, *IDS])[prob.get_fdata().argmax(axis=-1)]
        np.testing.assert_array_equal(label, np.asarray(nib.load(path).dataobj))


def test_a_review_that_somebody_else_wrote_is_not_replaced(dataset, tmp_path):
    (tmp_path / "review.csv").write_text("mine")
    with pytest.raises(Exception) as stopped:  # raised by MONAI
        infer(dataset[0], tmp_path)
    assert isinstance(root_cause(stopped.value), FileExistsError) and (tmp_path / "review.csv").read_text() == "mine"
