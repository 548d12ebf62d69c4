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
"""Faulty data: every fault is told at once, and nothing is trained."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import run_bundle, write_overlay


@pytest.fixture
def faulty(phantoms, tmp_path):
    """Phantoms with five faults, and what is to be said of each."""
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)

    def change(path, function):
        image = nib.load(path)
        array, affine = function(np.asarray(image.dataobj).copy(), image.affine.copy())
        nib.save(nib.Nifti1Image(array, affine), path)

    def stray(array, affine):
        array[0, 0, :3] = 421
        return array, affine

    def infinite(array, affine):
        array = array.astype(np.float32)
        array[2, 3, 4] = np.inf
        return array, affine

    change(data / "labels" / "phantom_000.nii.gz", stray)
    change(data / "labels" / "phantom_001.nii.gz", lambda array, affine: (array, affine @ np.diag([1.2, 1, 1, 1])))
    change(data / "images" / "phantom_002.nii.gz", infinite)
    (data / "images" / "phantom_003.nii.gz").write_bytes(b"half a downl")
    datalist = json.loads((data / "datalist.json").read_text())
    datalist["test"].append(datalist["validation"][0])
    (data / "datalist.json").write_text(json.dumps(datalist))
    return data, {
        "phantom_000": "421 (3 voxels)",
        "phantom_001": "label and image do not share a grid",
        "phantom_002": "1 values that are not finite",
        "phantom_003": "the image cannot be read",
        "phantom_005": "in 'test' is the image of case 'phantom_005' in 'validation'",
    }


@pytest.mark.parametrize("run_id", ["checking", "training"])
def test_every_fault_is_listed_and_nothing_is_trained(run_id, faulty, tmp_path):
    data, faults = faulty
    overlay, out = write_overlay(tmp_path / "tiny.yaml"), tmp_path / "out"
    done = run_bundle(run_id, ["configs/train.yaml", overlay], dataset_dir=data, output_dir=out)
    assert done.returncode != 0
    assert f"the data check found {len(faults)} faults" in done.stdout
    for case, fault in faults.items():
        assert any(line.startswith(f"case '{case}'") and fault in line for line in done.stdout.splitlines()), case
    assert not list(out.rglob("*.pt")) and not (out / "history.csv").exists()


def test_a_size_that_the_networks_cannot_halve_is_refused_with_the_multiple(phantoms, tmp_path):
    overlay = write_overlay(tmp_path / "tiny.yaml", spatial_size=[16, 18, 16])
    done = run_bundle("checking", ["configs/train.yaml", overlay], dataset_dir=phantoms, output_dir=tmp_path / "out")
    assert done.returncode != 0
    assert "expected three multiples of 4. The nearest are (16, 16 or 20, 16)" in done.stdout
