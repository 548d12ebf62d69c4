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
"""Whether a file that PyTorch refused holds a program: a pickle can name any function, and have it called."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: what plain tensors name; all else is a call of something that they do not need
TENSORS = ("torch.", "torch._utils.", "collections.OrderedDict")
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")


def named_code(path: str | Path) -> str | None:
    """The first function or class of a pickle that tensors have no need of; nothing of the file is run.

    Args:
        path: a file of ``torch.save`` in either of its formats, or a plain pickle.

    Returns:
        Its full name, such as ``posix.mkdir``, or None: what can be read of the file names none.
    """
    for name in _names(Path(path)):
        if not name.startswith(TENSORS):
            return name
    return None


def _names(path: Path) -> Iterator[str]:
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                yield from _names_of_pickles(file)
            return
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".pkl"):
                    with archive.open(member) as file:
                        yield from _names_of_pickles(file)
    except Exception:  # the rest is no pickle: lengths that no memory has, archives that are none, ...
        return


def _names_of_pickles(file: BinaryIO) -> Iterator[str]:
    """The names in one pickle after the other: the older format of ``torch.save`` has several in a row."""
    while True:
        texts: list[str] = []  # two of them may become a name
        for code, argument, _ in pickletools.genops(file):  # ValueError where the pickles end
            if code.name in STRINGS:
                texts.append(str(argument))
            elif code.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif code.name.startswith("EXT"):
                yield f"extension {argument}"
