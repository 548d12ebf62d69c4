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

"""``deeprs`` and the command of MONAI that ``--show`` prints write the same files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_runs import write_overlay
from door_calls import deeprs, environment, inside

#: files with times, durations or names of this machine in them
CHANGING = ("tensorboard", "summary.json", "metrics.json", "registration.csv", "summary.csv", ".h5")


def contents(folder: Path) -> dict[str, bytes]:
    """Path -> bytes; of files that are never the same twice, and of TensorBoard's, only that they are there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and ".deeprs" not in path.parts:  # hashes of the others
            changing = any(part in CHANGING for part in (path.suffix, *path.relative_to(folder).parts))
            found[name.split("/events.out")[0]] = b"" if changing else path.read_bytes()
    return found


def both(out: Path, place: Path, *words: str | Path, call: Callable = inside) -> dict[str, bytes]:
    """What ``deeprs`` wrote into ``out``, once it is what the shown command writes, typed into a shell elsewhere."""
    done = call(*words, place=place)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "config_root_path" not in done.stdout + done.stderr
    assert "Not all config files" not in done.stdout + done.stderr
    ours = contents(out)
    shutil.rmtree(out)
    shown = deeprs(*words, "--show", place=place).stdout
    elsewhere = place / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    streams = {"text": True, "capture_output": True}
    run = subprocess.run(shown, shell=True, cwd=elsewhere, env=environment(), check=False, **streams)
    assert run.returncode == 0, run.stderr[-2000:]
    theirs = contents(out)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    return ours


@pytest.fixture(scope="module")
def place(phantoms, tmp_path_factory) -> Path:
    """A folder with data and a config, whose names need quotes, and a training by ``deeprs``."""
    folder = tmp_path_factory.mktemp("a user's place")
    shutil.copytree(phantoms, folder / "my data")
    write_overlay(folder / "mydata.yaml")
    # another package of this name must not be taken for the bundle's
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text("raise ImportError('this is not the bundle')\n")
    return folder


@pytest.fixture(scope="module")
def trained(place) -> dict[str, bytes]:
    words = ["--config", "mydata.yaml", "--seed", "5", "--labels", "null", "--updates::registration::clip_norm", "2.5"]
    return both(place / "out", place, "train", "my data", *words, "--out", "out", call=deeprs)


def test_training(trained, place):
    assert {"model.pt", "model_registration.pt", "history.csv", "config.yaml", "review.json"} <= trained.keys()
    assert b"clip_norm: 2.5" in trained["config.yaml"] and str(place / "my data").encode() in trained["config.yaml"]


def test_segmenting_by_a_training(trained, place):
    written = both(place / "segs", place, "segment", "my data/images", "--model", "out", "--out", "segs")
    assert len(written) == 11 and "review.csv" in written


def test_registering_many_by_a_training(trained, place):
    files = ["my data/images/phantom_000.nii.gz", "my data/images/phantom_003.nii.gz"]
    label = ["--moving_label", "my data/labels/phantom_000.nii.gz"]
    written = both(place / "pair", place, "register", *files, *label, "--model", "out/model.yaml", "--out", "pair")
    assert {"warped.nii.gz", "warped_label.nii.gz", "phantom_000_to_phantom_003_transform.h5"} <= written.keys()
    (place / "pairs.csv").write_text("moving,fixed\n" + ",".join(files) + "\n")
    done = inside("register", "pairs.csv", "--model", "out", "--out", "many", place=place)
    assert done.returncode == 0, done.stderr
    again = contents(place / "many")
    name = "phantom_000_to_phantom_003"
    assert again[f"{name}/warped.nii.gz"] == written["warped.nii.gz"] and "summary.csv" in again


def test_evaluating_a_training_needs_its_folder_alone(trained, place):
    done = inside("evaluate", "--model", "out", "--out", "eval", "--max_pairs", "2", place=place)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((place / "eval" / "metrics.json").read_text())
    assert metrics["segmentation"]["n"] == 3 and metrics["registration"]["n"] == 2
    assert (place / "eval" / "report.html").is_file()
    done = inside("report", "eval", "--title", "2024", place=place)
    assert done.returncode == 0 and "2024" in (place / "eval" / "report.html").read_text()
    done = inside("report", "eval", "eval", "--out", "pooled", place=place)
    assert done.returncode == 1 and "Traceback" not in done.stderr  # the same cases twice are refused
