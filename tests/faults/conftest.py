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
"""What faults are tried on, and the table of what became of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import commands
import forked
import numpy as np
import pytest
from states import Followed, Two, leftovers, put_back, state_of

from scripts.alignment.affine import write_itk_transform

PREFIX = "deepfaults_"


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is room for one: what is written is put onto a disc at once, a thousand times."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2**30:
        yield tmp_path_factory.mktemp("faults")
        return
    for left in memory.glob(f"{PREFIX}*_*"):  # of sessions that were killed: gigabytes of memory
        if not Path("/proc", left.name.split("_")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=memory, prefix=f"{PREFIX}{os.getpid()}_") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def world(workplace: Path) -> Path:
    """The files that the commands read; made by a process of its own, as threads do not survive a fork."""
    folder = workplace / "world"
    folder.mkdir()
    ended = forked.run(lambda: commands.make_world(folder))
    assert ended.status == 0, ended.said[-3000:]
    write_itk_transform(folder / "warm.tfm", np.eye(4))  # ITK takes seconds to come; the forks have it from here
    return folder


@pytest.fixture(scope="session")
def follow(world: Path, workplace: Path) -> Callable[[str], Followed]:
    """``follow(name)``: a command run twice, in a new folder and over that result, with copies at each write."""
    root = workplace / "root"
    root.mkdir()

    def followed(name: str, variant: str, copies: Path) -> None:
        def work() -> None:
            with forked.watched(root, forked.keep_copies(root, copies)):
                commands.job(name, world, root, variant)()

        ended = forked.run(work)
        assert ended.status == 0, ended.said[-3000:]
        assert leftovers(root) == []

    @cache
    def both(name: str) -> Followed:
        copies = workplace / name
        copies.mkdir()
        empty_out(root)
        followed(name, "a", copies / "new")
        first = state_of(root)
        shutil.copytree(root, copies / "earlier", symlinks=True)
        followed(name, "b", copies / "over")
        return Followed(root, copies, Two(first, state_of(root)))

    def prepared(name: str) -> Followed:
        found = both(name)
        put_back(found.copies / "earlier", root)
        return found

    return prepared


def empty_out(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """``tally(kind, command, survived, silent=False)``: count a fault, for the table at the end."""

    def count(kind: str, command: str, survived: bool, silent: bool = False) -> None:
        record_property("fault", [kind, command, int(survived), int(silent)])

    return count
