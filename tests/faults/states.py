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
"""What lies in a folder of results, compared with an earlier and a later result."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

State = dict[str, str]


def state_of(root: Path) -> State:
    """The files of a folder and their hashes, without what an output folder keeps for itself."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    shown = [path for path in files if not any(p == ".deeprs" or p.startswith(".tmp") for p in path.parts)]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in shown}


def put_back(copy: Path, root: Path) -> None:
    """Make a folder what it was; itself it stays, as it may be a disc."""
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(copy, root, symlinks=True, dirs_exist_ok=True)


def leftovers(root: Path) -> list[str]:
    """What a run should have tidied up."""
    private = [path for path in root.rglob("*") if ".deeprs" in path.parts and path.is_file()]
    bad = [path for path in private if path.name != "manifest.json"]
    bad += [path for path in root.rglob(".tmp*")]
    return sorted(path.relative_to(root).as_posix() for path in bad)


@dataclass(frozen=True)
class Two:
    """An earlier and a later result."""

    earlier: State
    later: State

    @property
    def changed(self) -> set[str]:
        """The files in which they differ."""
        return {n for n in self.earlier.keys() | self.later.keys() if self.earlier.get(n) != self.later.get(n)}

    def is_mixed(self, state: State) -> bool:
        """Whether some files are of the earlier result, and some of the later one."""
        there = [name for name in self.changed if name in state]
        return len({state[name] == self.earlier.get(name) for name in there}) > 1

    def is_earlier(self, state: State) -> bool:
        """Whether it is the earlier result, whole."""
        return state == self.earlier

    def is_later(self, state: State) -> bool:
        """Whether it is a later result, whole: times in it differ from run to run, and names do not."""
        kept = [name for name in self.changed if name in self.later and state.get(name) == self.earlier.get(name)]
        return state.keys() == self.later.keys() and not kept

    def is_whole(self, state: State) -> bool:
        """Whether it is one of the two."""
        return self.is_earlier(state) or self.is_later(state)


@dataclass(frozen=True)
class Followed:
    """A command that was followed while it wrote: first in a new folder, then over that result.

    Args:
        root: where it works; its results are in ``root/out``.
        copies: ``new`` and ``over`` with a copy of the root at each write, and ``earlier``, the root between the two.
        two: both results.
    """

    root: Path
    copies: Path
    two: Two

    def at_each_write(self, run: str) -> list[Path]:
        """The copies of a run, in the order of the writes."""
        return sorted((self.copies / run).iterdir())
