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

"""What is known of an option without importing torch: its help and what it may be, by the bundle's table of entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from .bundle.scripts.files.entries import COMMANDS, Entry, load_entries
from .bundle.scripts.files.readers import read
from .parse import TRUTHS, is_expression

__all__ = ["entry_of", "option_help", "value_fault"]


def entry_of(name: str, configs: Sequence[str]) -> Entry | None:
    """What the table says of an entry of the last of these configs of commands that has it."""
    tables = (load_entries(config) for config in reversed(configs) if config in COMMANDS)
    return next((table[name] for table in tables if name in table), None)


def option_help(name: str, files: Sequence[Path]) -> str:
    """What an entry is for, with its unit: of the table, else the comment behind it in the first file that has one."""
    if entry := entry_of(name, [file.stem for file in files][::-1]):
        return entry.help.rstrip(".") + (f" ({entry.unit})" if entry.unit else "")
    return next((comments[name] for comments in map(_comments, files) if name in comments), "")


@lru_cache
def _comments(file: Path) -> dict[str, str]:
    """Entry of the top level -> the comment on its line, and on the lines below that hold nothing else."""
    found: dict[str, str] = {}
    name = None
    for line in file.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(\w+):.*?\s#\s+(.*)", line):
            name = match[1]
            found.setdefault(name, match[2].strip())
        elif name and (more := re.match(r"\s{8,}#\s+(.*)", line)):
            found[name] += f" {more[1].strip()}"
        else:
            name = None
    return found


def value_fault(name: str, value: Any, default: Any, entry: Entry | None = None) -> str:
    """What is wrong with the kind of a value, or nothing.

    Args:
        name: of the entry.
        value: that was given.
        default: what the config files say, whose kind is the right one. Nothing is known where they say null.
        entry: what the table says of it, which then counts alone.
    """
    if entry is not None:
        try:
            read(entry, value)
        except ValueError as error:
            return f"--{error}"
        return ""
    if default is None or is_expression(default) or is_expression(value):
        return ""
    expected = ""
    if isinstance(default, bool):
        expected = "" if str(value).lower() in TRUTHS else "true or false"
    elif value is None:
        expected = "" if "::" in name or isinstance(default, str) else "a value"
    elif isinstance(default, (int, float)):
        whole = isinstance(default, int) and "::" not in name
        right = (int,) if whole else (int, float)
        good = isinstance(value, right) and not isinstance(value, bool)
        expected = "" if good else ("a whole number" if whole else "a number")
    elif isinstance(default, list) and default and all(isinstance(item, (int, float)) for item in default):
        good = isinstance(value, list) and all(isinstance(item, (int, float)) or is_expression(item) for item in value)
        expected = "" if good else f"numbers such as {default}"
    elif isinstance(default, dict):
        expected = "" if isinstance(value, dict) else "a mapping such as {a: 1}"
    return f"--{name}: expected {expected}, found {value!r}. Its default is {default}." if expected else ""
