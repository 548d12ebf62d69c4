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

"""A head of three structures that lies elsewhere in every file: for the tests of preparing."""

from __future__ import annotations

import json
import sys

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import ROOT
from scipy.ndimage import gaussian_filter

from scripts.alignment.affine import Elastix
from scripts.alignment.prepare import Prepare
from scripts.alignment.target_grid import TargetGrid
from scripts.data.cases import load_cases
from scripts.fields.grids import voxel_points
from scripts.fields.volumes import write_volume
from scripts.files.datalist import case_name

IDS = (205, 420, 850)
LABELS = {str(i): f"structure {i}" for i in IDS}
SHAPE = (32, 36, 28)
#: LPS axes of 1.2 x 1 x 1.4 mm, the origin far from that of the scanner
AFFINE = np.array([[-1.2, 0, 0, 60.0], [0, -1, 0, 40], [0, 0, 1.4, -75], [0, 0, 0, 1]])
#: from the points of one phantom to those of the other: turned by 10 degrees, stretched and shifted
TURN = np.deg2rad(10)
MOVED = np.array(
    [
        [1.08 * np.cos(TURN), -np.sin(TURN), 0, 0],
        [np.sin(TURN), 0.94 * np.cos(TURN), 0, 0],
        [0, 0, 1.05, 0],
        [0, 0, 0, 1.0],
    ]
)
CENTER = AFFINE @ [*((np.array(SHAPE) - 1) / 2), 1]
MOVED[:3, 3] = (np.eye(4) - MOVED)[:3] @ CENTER + (3.0, -2.0, 2.5)


def phantom(points):
    """Labels and a smooth image of an asymmetric head of three structures at points of the world (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(points) - CENTER[:3], -1, 0)
    ids = np.where((x / 12) ** 2 + (y / 13) ** 2 + (z / 13) ** 2 < 1, 205, 0)
    ids[((x - 4) / 6) ** 2 + ((y - 2) / 7) ** 2 + (z / 7) ** 2 < 1] = 420
    ids[((x + 5) / 5) ** 2 + ((y + 4) / 5) ** 2 + ((z - 3) / 7) ** 2 < 1] = 850
    grey = np.select([ids == i for i in IDS], [100.0, 200.0, 320.0])
    return ids.astype(np.int16), gaussian_filter(grey, 0.7).astype(np.float32)


def write_phantom(folder, name, matrix=None, affine=AFFINE, label=True):
    """Put a phantom into a file: the point w of the reference lies at ``matrix`` w."""
    points = voxel_points(SHAPE, np.linalg.inv(np.eye(4) if matrix is None else matrix) @ affine)
    ids, image = phantom(points)
    write_volume(folder / "images" / f"{name}.nii.gz", image, affine)
    if label:
        write_volume(folder / "labels" / f"{name}.nii.gz", ids, affine)
    return ids


def dice(a, b):
    return np.mean([2 * ((a == i) & (b == i)).sum() / ((a == i).sum() + (b == i).sum()) for i in IDS])


def read(path):
    return np.asarray(nib.load(path).dataobj)


def known(moving, fixed):
    """The matrices by which the phantoms were made, in the place of a search for them."""
    return MOVED if case_name(moving) == "moved" else np.eye(4)


def distance_mm(matrix, truth=MOVED):
    """How far two matrices carry the corners of the phantom apart, on average."""
    corners = voxel_points((2, 2, 2), AFFINE @ np.diag([20.0, 22, 18, 1])).reshape(-1, 3).numpy()
    found, expected = (corners @ np.array(m)[:3, :3].T + np.array(m)[:3, 3] for m in (matrix, truth))
    return np.linalg.norm(found - expected, axis=1).mean()


def elastix_python():
    """The interpreter that has itk-elastix, this one or that of ``make classical-env``; without one a test skips."""
    for python in (sys.executable, ROOT / ".venv-classical" / "bin" / "python"):
        try:
            return Elastix(python=python).python
        except (ModuleNotFoundError, FileNotFoundError):
            continue
    pytest.skip("itk-elastix is not installed; `make classical-env` installs it")


def write_dataset(folder):
    """The reference, a case that lies elsewhere, and one without a label, beside which a file lies that is none."""
    write_phantom(folder, "here")
    write_phantom(folder, "moved", MOVED)
    write_phantom(folder, "bare", label=False)
    (folder / "labels" / "bare.nii.gz").write_bytes(b"to open this is an error")
    entry = {name: {key: f"{key}s/{name}.nii.gz" for key in ("image", "label")} for name in ("here", "moved", "bare")}
    lists = {"labeled": [entry["here"]], "unlabeled": [entry["bare"]], "test": [entry["moved"]]}
    (folder / "datalist.json").write_text(json.dumps({"labels": {"0": "background", **LABELS}, **lists}))
    return folder


def prepared(dataset, out, aligner=known, grid=None, **options):
    """The folder that ``Prepare`` makes of a data set."""
    Prepare(load_cases(dataset), out, aligner, grid=TargetGrid(**(grid or {})), **options).run()
    return out
