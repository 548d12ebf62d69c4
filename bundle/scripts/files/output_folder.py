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
"""The folder that a command writes its results into: one run at a time, its results as a whole, and nobody else's."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import processes
from .datalist import read_json
from .lock import give_back, is_taken, take
from .manifest import PRIVATE, differing, is_ours, listed
from .placing import JOURNAL, NEW, OUTSIDE, clear_staged, commit, place, staged_files
from .writing import clear_temporaries, told, write_json

__all__ = ["OutputFolder", "refuse_changed", "settle"]

logger = logging.getLogger(__name__)

RUN = f"{PRIVATE}/run.json"
LOCK = f"{PRIVATE}/lock"


class OutputFolder:
    """Lets one run at a time write results into a folder. A context, or to be opened and closed.

    Results are written beside those of an earlier run, and replace them when all are there. A run that is killed
    before that leaves the earlier ones as they were; one that is killed while files move is finished by whoever opens
    the folder next. Of several processes that are one run, the first holds the folder.

    Args:
        path: the folder; made when it is missing, and gone again when nothing was written.
        overwrite: also replace files that this product did not write, or that were changed since.
        settings: whatever the results of a long run depend on besides its inputs, so that a later one can go on.
    """

    def __init__(self, path: str | Path, overwrite: bool = False, settings: Any = None) -> None:
        self.path, self.overwrite = Path(path).expanduser(), overwrite
        self.settings = json.loads(json.dumps(settings))  # as it will be read again
        self.staging = self.path / NEW
        self._made: list[Path] = []
        self._elsewhere: dict[str, Path] = {}
        self._expected: set[str] = set()

    def __enter__(self) -> OutputFolder:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> OutputFolder:
        """Take the folder, and finish what a killed run left half placed.

        Raises:
            FileExistsError: another process writes there.
            OSError: nothing can be written there.
        """
        if processes.rank() > 0:
            return self
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            (self.path / PRIVATE).mkdir(parents=True, exist_ok=True)
            take(self.path / LOCK)
        except FileExistsError as error:
            if error.errno is None:  # the message of the lock
                raise
            raise told(error, self.path) from error
        except OSError as error:
            raise told(error, self.path) from error
        self._elsewhere, self._expected = {}, set()
        try:
            clear_temporaries(self.path, self.path / PRIVATE)
            if (self.path / JOURNAL).is_file():
                logger.warning("%s: a run was killed while it put its results in place; that is finished", self.path)
                place(self.path)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Let others have the folder. What is not placed, of a long run, stays for the next one."""
        if processes.rank() > 0:
            return
        with suppress(OSError):  # what went wrong before is to be told, not that nothing can be tidied up
            if not (self.path / JOURNAL).is_file() and not staged_files(self.path):
                clear_staged(self.path)
        give_back(self.path / LOCK)
        for folder in (self.path / PRIVATE, *self._made):
            with suppress(OSError):  # not empty
                folder.rmdir()
        self._made = []

    def refuse_foreign(self, names: Iterable[str | Path]) -> None:
        """Refuse to replace what others made; to be called before anything is computed.

        Args:
            names: of the files that will be written, relative to the folder or absolute.

        Raises:
            FileExistsError: names those of them that are there and that this product did not write, or that were
                changed since.
        """
        files = {} if self.overwrite else listed(self.path)
        there = [name for name in map(self._relative, names) if (self.path / name).exists()]
        if self.overwrite:  # a folder is nothing that a file could replace
            foreign = [name for name in there if not (self.path / name).is_file()]
        else:
            foreign = [name for name in there if not is_ours(self.path, name, files)]
        if foreign:
            shown = "".join(f"\n  {self.path / name}" for name in foreign[:10])
            more = f"\n  and {len(foreign) - 10} more" if len(foreign) > 10 else ""
            raise FileExistsError(
                f"these files would be replaced, and DeepRS did not write them, or they were changed:{shown}{more}"
                "\n  Choose another `--output_dir`, or add `--overwrite true` if they may go. (Results of versions up "
                "to 0.6.1 do not say who wrote them.)"
            )

    @contextmanager
    def replacing(self, earlier: Iterable[str] = ()) -> Iterator[Path]:
        """Give a folder for the files of one result, which takes the place of an earlier one once all are whole.

        Args:
            earlier: files of an earlier result; those that the new one lacks are removed.

        Yields:
            The folder to write to; names in it are those that the files will have.
        """
        if staged_files(self.path):
            logger.warning("%s: what a killed run had not finished is made anew", self.path)
        clear_staged(self.path)
        self.staging.mkdir(parents=True)
        try:
            yield self.staging
            self.place(earlier)
        finally:
            if not (self.path / JOURNAL).is_file():
                clear_staged(self.path)

    def staged(self, target: str | Path) -> Path:
        """Where to write a file that will be `target`, in this folder or elsewhere, when all results are there."""
        name = self._relative(target)
        if Path(name).is_absolute():
            self._elsewhere[name := f"{OUTSIDE}/{len(self._elsewhere)}_{Path(target).name}"] = Path(target)
        return self.staging / name

    def _relative(self, target: str | Path) -> str:
        """A name relative to the folder as it is, and an absolute one in it made so."""
        with suppress(ValueError):
            return Path(target).relative_to(self.path.absolute()).as_posix()
        return Path(target).as_posix()

    def place(self, earlier: Iterable[str] = ()) -> None:
        """Put all that lies ready into its place.

        Args:
            earlier: files of an earlier result; those that the new one lacks are removed.

        Raises:
            FileNotFoundError: the folder, or a result in it, has disappeared since it was written.
        """
        self._refuse_removed()
        if missing := sorted(name for name in self._expected if not (self.staging / name).exists()):
            raise FileNotFoundError(f"{', '.join(missing[:5])} of {self.path} were removed while the run went on.")
        targets = [self._elsewhere.get(name, name) for name in staged_files(self.path)]
        self.refuse_foreign(targets)  # once more: hours may have passed
        for name in commit(self.path, self._elsewhere, earlier):
            logger.info("removed %s, of an earlier result", self.path / name)
        self._refuse_removed()

    def _refuse_removed(self) -> None:
        """Files would be made anew in a folder of this name, and lack those that were there."""
        if processes.rank() == 0 and not is_taken(self.path / LOCK):
            raise FileNotFoundError(f"'{self.path}' was removed while the run went on, and with it what was written.")

    # ---- long runs, which go on where an earlier one was stopped

    def resume(self, entries: Sequence[str] | None = None) -> None:
        """Keep what an earlier run with the same settings has finished, and clear away what is of another.

        Args:
            entries: names in :attr:`staging` that this run will write, each recorded by :meth:`finish`; None: all that
                is there is whole, and may stay.
        """
        if processes.rank() == 0:
            self._resume(entries)
        processes.gather([None])  # nobody writes before the first process has tidied up

    def _resume(self, entries: Sequence[str] | None) -> None:
        run = self.path / RUN
        if not run.is_file() or read_json(run) != {"settings": self.settings}:
            if staged_files(self.path):
                logger.warning("%s: a run with other settings was stopped before its end; all is made anew", self.path)
            clear_staged(self.path)
        self.staging.mkdir(parents=True, exist_ok=True)
        write_json(run, {"settings": self.settings})
        for path in self.staging.iterdir() if entries is not None else ():
            if path.name not in entries or not self._done(path.name).is_file():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if count := len(staged_files(self.path)):
            logger.warning("%s: going on with a run that was stopped; %d of its files are kept", self.path, count)

    def finish(self, entry: str, inputs: Iterable[str | Path], result: Any = None) -> None:
        """Record that something in :attr:`staging` is whole, and what it was made from."""
        self._expected.add(entry)
        write_json(self._done(entry), {"inputs": stamps(inputs), "result": result})

    def finished(self, entry: str, inputs: Iterable[str | Path]) -> Mapping[str, Any] | None:
        """What :meth:`finish` recorded, when it is there and was made from these very files; else None."""
        if not (self.staging / entry).exists() or not self._done(entry).is_file():
            return None
        record = read_json(self._done(entry))
        if record["inputs"] != stamps(inputs):
            return None
        self._expected.add(entry)
        return record

    def _done(self, entry: str) -> Path:
        return self.path / PRIVATE / "done" / f"{quote(entry, safe='')}.json"


def stamps(files: Iterable[str | Path]) -> list[list[Any]]:
    """Path, bytes and time of files, or of those in a folder: what changes when one is replaced or corrected."""
    each = [file for path in map(Path, files) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in each]


def settle(folder: str | Path) -> None:
    """Finish what a killed run left half placed, before a folder, or a file in it, is read.

    Raises:
        ValueError: it cannot be finished.
    """
    folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    if not (folder / JOURNAL).is_file():
        return
    try:
        with OutputFolder(folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder} is unfinished: the run that wrote it was killed, or is still at it. Run it again.\n  {error}"
        ) from error


def refuse_changed(folder: Path, names: Iterable[str]) -> None:
    """Refuse files that are not those of the run that their folder's manifest tells of.

    Raises:
        ValueError: names those that were changed, or have gone.
    """
    if names := differing(folder, names):
        raise ValueError(
            f"{folder} is not as it was written: {', '.join(names)} were changed or removed since. Make it again, or "
            f"remove '{folder / PRIVATE}' if it is to be read all the same."
        )
