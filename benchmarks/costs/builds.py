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
"""Builds of this repository, each measured in a child process of its own, and the pairs that all of them see."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import ROOT
from scripts.data.anatomy import EXTENT_MM
from scripts.phantom.volumes import phantom_subject

logger = logging.getLogger(__name__)

LARGEST = 64  # voxels of a side that is drawn: larger ones are interpolated, in seconds instead of minutes


class Child:
    """A process that runs iterations of one alternative when it is asked to (:mod:`benchmarks.costs.turns`).

    Args:
        setup: as of :func:`benchmarks.costs.turns.main`.
        log: the file to which it writes what it says beside its answers.

    Attributes:
        ready: its first answer, with the place of its ``scripts``.
    """

    def __init__(self, setup: Mapping[str, Any], log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.costs.turns", json.dumps(setup)],
                cwd=ROOT,
                env={"OMP_NUM_THREADS": "1", **os.environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self._ready: dict[str, Any] | None = None

    @property
    def ready(self) -> dict[str, Any]:
        """Waits for it: the children of a measurement start together."""
        if self._ready is None:
            self._ready = self._answer()
        return self._ready

    def ask(self, iterations: int, meter: str = "time", losses: bool = False) -> dict[str, Any]:
        """Run some iterations.

        Args:
            iterations: how many.
            meter: ``time``, ``counts`` or ``launches``.
            losses: whether to tell them.

        Returns:
            ``iterations``, what was measured of each; ``losses`` of each, by name; memory.

        Raises:
            RuntimeError: it has failed; ends with what it said last.
        """
        self._process.stdin.write(json.dumps({"iterations": iterations, "meter": meter, "losses": losses}) + "\n")
        return self._answer()

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = "\n".join(self.log.read_text().splitlines()[-8:])
            raise RuntimeError(f"the process of {self.log.stem} ended with {code}:\n{last}")
        return json.loads(line)


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A folder with another build: a worktree of a commit, which is removed afterwards, or a folder that is there.

    Args:
        revision: a commit of this repository, or a folder that holds ``bundle``.

    Raises:
        ValueError: it is neither.
    """
    if (Path(revision) / "bundle" / "configs").is_dir():
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        made = _git("worktree", "add", "--detach", str(tree), revision)
        if made.returncode:
            raise ValueError(
                f"--against '{revision}': neither a commit that git finds here nor a folder with `bundle`. git says: "
                f"{made.stderr.strip()}"
            )
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def commit_of(tree: Path) -> str:
    """The commit of a folder, with ``-dirty`` where files differ from it; ``unknown`` outside of git."""
    if not (tree / ".git").exists():
        return "unknown"
    return _git("describe", "--always", "--dirty", "--exclude=*", cwd=tree).stdout.strip() or "unknown"


def _git(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def write_pairs(path: Path, size: tuple[int, ...], num_classes: int, seed: int = 0) -> None:
    """Write two pairs of two phantoms, each onto the other, for all builds alike.

    Args:
        path: of the file.
        size: voxels of the networks' grid.
        num_classes: with background; where there are fewer than the phantoms have, structures share a class.
        seed: of the anatomies.
    """
    subjects = [_subject([seed, number], size, num_classes) for number in range(2)]
    pairs = [
        {"moving_image": moving[0], "moving_label": moving[1], "fixed_image": fixed[0]}
        for moving, fixed in (subjects, subjects[::-1])
    ]
    torch.save({"pairs": pairs, "num_classes": num_classes}, path)


def _subject(seed: list[int], size: tuple[int, ...], num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = [min(side, LARGEST) for side in size]
    subject = phantom_subject(seed, drawn, [EXTENT_MM / side for side in drawn])
    ids = np.unique(subject.label)  # from 0 on
    classes = np.where(subject.label > 0, (np.searchsorted(ids, subject.label) - 1) % (num_classes - 1) + 1, 0)
    image = torch.from_numpy(subject.image.astype(np.float32))[None, None]
    image = F.interpolate(((image + 300) / 900).clamp(0, 1), size=size, mode="trilinear")
    label = F.interpolate(torch.from_numpy(classes.astype(np.uint8))[None, None], size=size, mode="nearest")
    return image[0], label[0]
