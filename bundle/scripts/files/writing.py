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
"""Files that are whole or not there: written under another name, looked at, then renamed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .lock import is_running
from .marks import marked
from .whole import check_whole, sync

#: names of files and folders that are not whole yet, with the process that writes them
TEMPORARY = re.compile(r"\.tmp(\d+)_.*")


def temporary_name(path: Path) -> Path:
    """A name beside a file for the time that it is not whole: hidden, so that one that is left behind is no case."""
    return path.with_name(f".tmp{os.getpid()}_{path.name}")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside a file: it takes the file's place once it is whole, and on the disc.

    A process that is killed leaves the old file or the new one; writing that fails leaves the old one and nothing else.

    Args:
        path: the file; its folder is made when it is missing.

    Yields:
        The name to write to, with the same suffix, since many writers choose the format by it.

    Raises:
        NotWritten: what was written is not whole, or was not written at all; names the file.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        check_whole(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise told(error, path) from error
    finally:
        with suppress(OSError):  # a disc that is gone would hide what went wrong
            temporary.unlink(missing_ok=True)


class NotWritten(OSError):
    """A file could not be written: no fault of a case, and the next one would fare no better."""


def told(error: OSError, path: Path) -> NotWritten:
    """The error, with the file that could not be written, and how much room there is."""
    if isinstance(error, NotWritten):
        return error
    room = ""
    with suppress(OSError):
        room = f" {shutil.disk_usage(path.parent).free // 2**20} MiB are free there."
    return NotWritten(error.errno or errno.EIO, f"'{path}' could not be written: {error.strerror or error}.{room}")


def clear_temporaries(folder: Path, private: Path) -> None:
    """Remove what killed runs left in a folder, and in the folders in it: names of processes that are no more.

    Args:
        folder: may hold much of others, and is looked at no deeper.
        private: a folder in it that holds nothing of others, looked at to the bottom.
    """
    for path in [*folder.glob(".tmp*"), *folder.glob("*/.tmp*"), *private.rglob(".tmp*")]:
        if (match := TEMPORARY.fullmatch(path.name)) is None or is_running(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as a whole, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file as a whole."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_result(path: str | Path, content: dict[str, Any]) -> None:
    """Write a JSON object as a whole, with the mark of who wrote it."""
    write_json(path, marked(content))
