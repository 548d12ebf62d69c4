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
"""Files that are whole or not there: written under another name, then renamed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside a file: it takes the file's place once it is whole.

    A process that is killed leaves the old file or the new one; writing that fails leaves the old one and nothing else.

    Args:
        path: the file; its folder is made when it is missing.

    Yields:
        The name to write to, with the same suffix, since many writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp{os.getpid()}_{path.name}")  # hidden: one that is left behind is no case
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_results(folder: str | Path, earlier: Iterable[str]) -> Iterator[Path]:
    """Give a temporary folder for the files of one result: they take the place of an earlier one once all are whole.

    Writing that fails leaves the earlier result as it was. Files that are no result stay in any case.

    Args:
        folder: where the result goes; it is made when it is missing.
        earlier: names of files of an earlier result; those that the new one lacks are removed.

    Yields:
        The folder to write to, within the other.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".tmp", dir=folder) as temporary:
        yield Path(temporary)
        written = sorted(path.name for path in Path(temporary).iterdir())
        for name in written:
            os.replace(Path(temporary) / name, folder / name)
        for name in sorted(set(earlier) - set(written)):
            if (folder / name).is_file():
                (folder / name).unlink()
                logger.info("removed %s, of an earlier result", folder / name)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as a whole, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file as a whole."""
    write_text(path, json.dumps(content, indent=1) + "\n")
