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

"""Fixtures of all tests: where real data lie, and tiny volumes on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import tiny, workflow

from scripts.phantom.volumes import make_phantoms

# The arrays of tests are tiny: threads would spend their time waiting for each other, minutes of it on a busy machine.
# The commands that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: DEEPRS_DATA, or shared/data beside the repository."""
    root = Path(os.environ.get("DEEPRS_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data in {root}; set DEEPRS_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def hippocampus(data_root: Path) -> Path:
    """Task04_Hippocampus of the Medical Segmentation Decathlon with its datalist.json and test_pairs.json."""
    folder = data_root / "Task04_Hippocampus"
    if not (folder / "datalist.json").is_file():
        pytest.skip(f"no hippocampus data in {folder}")
    return folder


@pytest.fixture(scope="session")
def write_volume() -> Callable[..., Path]:
    """``write_volume(path, array, affine=identity)``: write an array as NIfTI in its own type."""

    def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
        nib.save(image, path)
        return path

    return write


@pytest.fixture(scope="session")
def write_case(write_volume: Callable[..., Path]) -> Callable[..., Path]:
    """``write_case(folder, name, label_ids=(1, 2))``: write ``images/name.nii.gz``, and its label unless ids are None.

    The label has a slab per id, the image is bright there and noisy. A name and a shape always give the same voxels.
    """

    def write(
        folder: Path,
        name: str,
        label_ids: Sequence[int] | None = (1, 2),
        shape: tuple[int, int, int] = (8, 10, 9),
        affine: np.ndarray | None = None,
    ) -> Path:
        rng = np.random.default_rng(list(name.encode()))
        label = np.zeros(shape, np.int16)
        for number, label_id in enumerate(label_ids or ()):
            label[1 + number % (shape[0] - 2), 2:-2, 2:-2] = label_id
        image = (rng.normal(100, 10, shape) + 50 * (label > 0)).astype(np.float32)
        if label_ids is not None:
            write_volume(folder / "labels" / f"{name}.nii.gz", label, affine)
        return write_volume(folder / "images" / f"{name}.nii.gz", image, affine)

    return write


@pytest.fixture
def write_json() -> Callable[[Path, object], Path]:
    """``write_json(path, content)``."""

    def write(path: Path, content: object) -> Path:
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten phantoms of about 16 voxels a side: 2 labelled, 3 unlabelled, 2 for validation, 3 for the test."""
    folder = tmp_path_factory.mktemp("phantoms")
    make_phantoms(folder, num_labeled=2, num_unlabeled=3, num_validation=2, num_test=3, size=16)
    return folder


@pytest.fixture(scope="session")
def pc_reg(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two iterations of PC-Reg on the phantoms: weights and model.yaml."""
    folder = tmp_path_factory.mktemp("pc_reg")
    configs = ["train.yaml", "recipes/pc_reg.yaml"]
    with workflow(configs, dataset_dir=str(phantoms), output_dir=str(folder), **tiny(configs)) as training:
        training.run()
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what became of the faults that tests/faults tries, by kind and command."""
    table: dict[str, dict[str, list[int]]] = {}
    reports = [report for each in terminalreporter.stats.values() for report in each]
    for report in reports:
        for name, fault in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
            if name == "fault":
                kind, command, survived, silent = fault
                for row in ("", command):
                    counts = table.setdefault(kind, {}).setdefault(row, [0, 0, 0])
                    counts[:] = [counts[0] + 1, counts[1] + survived, counts[2] + silent]
    if table:
        terminalreporter.section("faults: tried, survived, silent")
    for kind, rows in table.items():
        for command, counts in rows.items():
            title = f"  {command}" if command else kind
            terminalreporter.write_line(f"{title:44s}" + "".join(f"{count:8d}" for count in counts))
