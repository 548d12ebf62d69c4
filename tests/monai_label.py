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

"""What the tests of MONAI Label share: a datastore of phantoms, a bundle for them, and calls of the real thing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from bundle_runs import ROOT, TINY, workflow

from scripts.phantom.volumes import make_phantoms

PYTHON = ROOT / ".venv-label" / "bin" / "python"
APP = ROOT / ".venv-label" / "monailabel" / "sample-apps" / "monaibundle"
NAME = "phantoms"
#: the chambers of each side of the heart, in the ids of the phantoms
SIDES = {1: (420, 500), 2: (550, 600)}
LABELS = {"1": "left chambers", "2": "right chambers"}

needs_monai_label = pytest.mark.skipif(not PYTHON.is_file(), reason="no MONAI Label: run `make label-env`")


class Phantoms:
    """A datastore without labels, and the true labels elsewhere.

    Args:
        folder: where both go.
        count: number of images, ``phantom_000`` and so on, each of its own shape and orientation.
        size: voxels per side, about.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        make_phantoms(folder / "drawn", count, 0, 0, 0, size=size)
        self.truths, self.studies = folder / "drawn" / "labels", folder / "studies"
        shutil.move(folder / "drawn" / "images", self.studies)
        self.names = sorted(path.name.removesuffix(".nii.gz") for path in self.studies.iterdir())
        for path in self.truths.iterdir():
            drawn = nib.load(path)
            label = sum(side * np.isin(drawn.dataobj, ids) for side, ids in SIDES.items())
            nib.save(nib.Nifti1Image(label.astype(np.uint8), drawn.affine), path)

    def truth(self, name: str) -> Path:
        """The file of the true label."""
        return self.truths / f"{name}.nii.gz"

    def image(self, name: str) -> Path:
        """The file of the image."""
        return self.studies / f"{name}.nii.gz"

    def submit(self, name: str) -> None:
        """Put the true label where MONAI Label puts what an annotator submits."""
        final = self.studies / "labels" / "final"
        final.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.truth(name), final / f"{name}.nii.gz")

    def dice(self, name: str, segmentation: Path) -> float:
        """Mean Dice over both sides of a segmentation that has to be on the grid of the image."""
        truth, found = nib.load(self.truth(name)), nib.load(segmentation)
        assert found.shape == nib.load(self.image(name)).shape
        np.testing.assert_allclose(found.affine, nib.load(self.image(name)).affine, atol=1e-3)
        a, b = np.asarray(truth.dataobj), np.asarray(found.dataobj)
        assert set(np.unique(b)) <= {0, *SIDES}
        return float(np.mean([2 * np.sum((a == i) & (b == i)) / (np.sum(a == i) + np.sum(b == i)) for i in SIDES]))


def write_bundle(app: Path, overlay: Path, size: int, **entries: Any) -> Path:
    """Write the bundle of an app for phantoms of a size, as `labeling` does, and return its folder."""
    app.mkdir(parents=True, exist_ok=True)
    if not (app / "main.py").exists():  # the real one where it is installed; its presence is all that is looked at here
        shutil.copytree(APP, app, dirs_exist_ok=True) if APP.is_dir() else (app / "main.py").touch()
    settings = TINY | {"labels": LABELS, "pixdim": [144 / size] * 3, "spatial_size": [size] * 3} | entries
    overlay.write_text(yaml.safe_dump(settings))
    configs = ["train.yaml", str(overlay), "label.yaml"]
    with workflow(configs, app_dir=str(app), name=NAME, run_id="labeling") as labeling:
        labeling.run()
    return app / "model" / NAME


def carry_out(steps: Sequence[tuple[str, dict[str, Any]]], *where: str | Path) -> tuple[list[Any], str]:
    """Have the app, or a server, carry out steps one after the other.

    Args:
        steps: a method of ``label_steps.App`` and its arguments.
        where: the app's folder and the datastore, or the address of a server.

    Returns:
        An answer for each step, ``{"error": message}`` for one that failed; and the log.
    """
    command = [str(PYTHON), str(ROOT / "tests" / "label_steps.py"), *map(str, where)]
    given = json.dumps(steps)
    options: dict[str, Any] = {"env": _environment(), "capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, input=given, timeout=3600, **options)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@contextmanager
def server(app: Path, studies: Path, log: Path) -> Iterator[str]:
    """A server of this app on a free port of this machine; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "-a",
        app,
        "-s",
        studies,
        "-i",
        "127.0.0.1",
        "-p",
        port,
        "-c",
        "models",
        NAME,
        "-c",
        "zoo_source",
        "local",
    ]
    command = [str(PYTHON), "-m", "monailabel.main", "start_server", *map(str, options)]
    with open(log, "w") as file:
        process = subprocess.Popen(command, env=_environment(), cwd=log.parent, stdout=file, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/info/"):
                break
            assert process.poll() is None, log.read_text()[-4000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
