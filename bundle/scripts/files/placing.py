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
"""Results are put in place as a whole or not at all: what is new lies ready, a journal says so, then the files move.

From the moment the journal is there, the new results are those of the folder: after a kill, whoever comes next finishes
the moves. Before it, nothing of the earlier results has been touched. While files move, a folder may lack results, and
never has some of one run and some of another: all earlier ones go first.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .datalist import read_json
from .manifest import PRIVATE, add_to_manifest, describe
from .whole import sync
from .writing import replacing, told, write_json

NEW = f"{PRIVATE}/new"
JOURNAL = f"{PRIVATE}/journal.json"
OUTSIDE = ".outside"  # of results that go elsewhere


def staged_files(folder: Path) -> list[str]:
    """The files that lie ready, relative to where they lie."""
    new = folder / NEW
    return sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())


def commit(folder: Path, elsewhere: Mapping[str, Path], earlier: Iterable[str]) -> list[str]:
    """Decide that what lies ready replaces what is there, and put it in place.

    Args:
        folder: of the results.
        elsewhere: files that lie ready -> where they go, when that is outside of the folder.
        earlier: files of an earlier result, relative to the folder; those that the new one lacks are removed.

    Returns:
        Those that were there and were removed.
    """
    files = {}
    for name in staged_files(folder):
        target = str(elsewhere.get(name, name))
        files[target] = {"staged": name, **describe(folder / NEW / name)}
    gone = [name for name in earlier if name not in files and (folder / name).is_file()]
    for path in [folder / NEW, *(path for path in (folder / NEW).rglob("*") if path.is_dir())]:
        sync(path)
    write_json(folder / JOURNAL, {"new": files, "removed": gone})
    place(folder)
    return gone


def place(folder: Path) -> None:
    """Do what the journal says, from wherever an earlier process was stopped."""
    journal = read_json(folder / JOURNAL)
    files, removed = journal["new"], journal["removed"]
    waiting = [target for target, facts in files.items() if (folder / NEW / facts["staged"]).is_file()]
    for target in sorted([*removed, *waiting], key=_is_summary, reverse=True):
        (folder / target).unlink(missing_ok=True)
    for target in sorted(waiting, key=_is_summary):
        _move(folder / NEW / files[target]["staged"], folder / target)
    for parent in {(folder / target).parent for target in files}:
        sync(parent)
    plain = {target: {key: facts[key] for key in ("bytes", "sha256")} for target, facts in files.items()}
    add_to_manifest(folder, plain, removed)
    clear_staged(folder)
    (folder / JOURNAL).unlink()


def clear_staged(folder: Path) -> None:
    """Remove what lies ready, and what is known of it."""
    for name in ("new", "done"):
        shutil.rmtree(folder / PRIVATE / name, ignore_errors=True)
    (folder / PRIVATE / "run.json").unlink(missing_ok=True)


def _is_summary(name: str) -> tuple[bool, bool]:
    """What readers look for, and believe, is gone first and there last."""
    return name.endswith(".json"), "/" not in name


def _move(staged: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise told(error, target) from error
        with replacing(target) as temporary:  # on another disc
            shutil.copyfile(staged, temporary)
        staged.unlink()
