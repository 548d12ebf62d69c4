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
"""Two images of any size, with nothing trained: the grid, and what is written."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import deeprs
from deeprs import Volume
from scripts.data.volumes import Volume as BundleVolume
from scripts.registration.whole_images import WholeImages


def ball(shape, spacing, center_mm, radius=14.0):
    """A ball with a bright core and texture about a point in mm of the grid's corner."""
    axes = [np.arange(n) * s for n, s in zip(shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1) - np.asarray(center_mm)
    distance = np.linalg.norm(points, axis=-1)
    pattern = 40 * np.sin(points[..., 0] / 3) + 30 * np.cos(points[..., 1] / 4)
    return (np.where(distance < radius, 400 + pattern, 0) + 300 * (distance < radius / 2)).astype(np.float32)


def test_the_grid_holds_both_images_in_even_voxels():
    moving = BundleVolume(np.zeros((40, 30, 20), np.float32), np.diag([1.0, 1, 3, 1]))
    fixed = BundleVolume(np.zeros((20, 50, 30), np.float32), np.diag([2.0, 1, 0.5, 1]))
    steps = WholeImages().for_pair(moving, fixed)
    out = steps({"image": moving.as_image("x")}, start=1)["image"]
    assert np.allclose(np.diag(out.affine)[:3], 1.0)
    assert tuple(out.shape[1:]) == (40, 52, 60)


def test_larger_images_are_worked_on_in_larger_voxels():
    image = BundleVolume(np.zeros((64, 64, 64), np.float32), np.eye(4))
    out = WholeImages(max_voxels=32**3).for_pair(image, image)({"image": image.as_image("x")}, start=1)["image"]
    assert tuple(out.shape[1:]) == (32, 32, 32) and np.allclose(np.diag(out.affine)[:3], 2.0)


@pytest.fixture(scope="module")
def pair():
    """A ball 9 mm off in an image of other shape and spacing."""
    moving = Volume(ball((44, 40, 36), (1, 1, 1), (18, 20, 18)), np.eye(4))
    fixed = Volume(ball((24, 20, 24), (2, 2, 2), (27, 20, 22)), np.diag([2.0, 2, 2, 1]))
    return moving, fixed


def test_without_a_model_two_images_find_each_other(pair):
    moving, fixed = pair
    label = Volume((moving.array > 0).astype(np.uint8) * 7, moving.affine)
    result = deeprs.register(moving, fixed, model="none", moving_label=label, device="cpu")
    truth = fixed.array > 0
    found = result.warped_label.array == 7
    assert set(np.unique(result.warped_label.array)) == {0, 7}
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert result.confidence is None and result.summary["folding_percent"] == 0
    point = result.points(np.array([[27.0, 20.0, 22.0]]))  # the centre of the ball
    assert np.linalg.norm(point[0] - (18, 20, 18)) < 1.5


def test_the_command_writes_what_the_function_gives(pair, tmp_path):
    for name, volume in zip(("a", "b"), pair, strict=True):
        nib.save(nib.Nifti1Image(volume.array, volume.affine), tmp_path / f"{name}.nii.gz")
    words = ["register", "a.nii.gz", "b.nii.gz", "--model", "none", "--out", "out"]
    done = subprocess.run([sys.executable, "-m", "deeprs", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    written = nib.load(tmp_path / "out" / "warped.nii.gz").get_fdata()
    expected = deeprs.register(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", model="none").warped.array
    np.testing.assert_allclose(written, expected, atol=1)
    refused = subprocess.run(
        [sys.executable, "-m", "deeprs", "segment", "a.nii.gz", "--model", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and "nothing can be segmented without a model" in refused.stderr
