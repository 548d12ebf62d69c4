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

"""The wheel that is built from the repository, installed in an environment of its own, away from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "deeprs", "bundle")


def run(*words: str | Path, place: Path, **options: object) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        list(map(str, words)), cwd=place, env=clean, text=True, capture_output=True, check=False, timeout=600, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    sources, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, sources / name)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", target]
    done = run(sys.executable, "-m", "pip", "wheel", *options, sources, place=target)
    assert done.returncode == 0, done.stderr[-3000:]
    (made,) = target.glob("deeprs-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder ``bin`` of a new environment, which has the packages of this one behind its own."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--no-compile"]
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, place=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_project_names_all_packages_that_there_are():
    listed = (ROOT / "pyproject.toml").read_text().split("\npackages = [")[1].split("]")[0]
    named = set(re.findall(r'"([\w.]+)"', listed))
    folders = {path.parent.relative_to(ROOT) for top in ("deeprs", "bundle") for path in (ROOT / top).rglob("*.py")}
    folders |= {Path("bundle")}
    wanted = {".".join(folder.parts).replace("bundle", "deeprs.bundle", 1) for folder in folders}
    assert named == wanted


def test_everything_of_the_wheel_is_under_one_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"deeprs"}


def test_the_wheel_has_all_that_the_bundle_reads(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (ROOT / "bundle").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = [path for path in files if "docs" not in path.parts and not path.name.startswith(".")]
    missing = [path for path in files if f"deeprs/bundle/{path.relative_to(ROOT / 'bundle')}" not in names]
    assert len(files) > 100 and missing == []


def test_an_installed_command_is_found_and_lists_its_recipes(installed, tmp_path):
    done = run(installed / "deeprs", "--help", place=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("deeprs COMMAND")
    done = run(installed / "deeprs", "recipes", place=tmp_path)
    assert done.returncode == 0 and "\n  voxelmorph " in done.stdout
    for name in ("scripts", "bundle"):
        done = run(installed / "python", "-c", f"import {name}", place=tmp_path)
        assert f"No module named '{name}'" in done.stderr
    done = run(installed / "python", "-c", "import deeprs; print(deeprs.BUNDLE)", place=tmp_path)
    assert done.stdout.strip() == str(next(installed.parent.glob("lib/python*/site-packages")) / "deeprs" / "bundle")


def test_an_installed_command_segments_with_the_weights_that_came_with_it(installed, tmp_path):
    image = np.random.default_rng(0).normal(100, 20, (40, 56, 40)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "scan.nii.gz")
    words = ["segment", "scan.nii.gz", "--inferer::copies", "0"]
    done = run(installed / "deeprs", *words, place=tmp_path)
    assert done.returncode == 0, done.stderr
    label = nib.load(tmp_path / "output" / "segmentations" / "scan_seg.nii.gz")
    assert label.shape == image.shape and set(np.unique(label.dataobj)) <= {0, 1, 2}
