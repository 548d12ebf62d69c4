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
"""The config of a run comes to hold what its values mean: numbers, names and paths as in a file, wherever they stood.

Three programs have read a value before this one. YAML 1.1 leaves ``1e-4`` as text, and takes ``2024_01_15`` for a
number. Python Fire reads a command line as Python, with ``a,b`` as two values and ``#`` as a comment. MONAI writes
``::`` for ``#``, and leaves out an option that is null.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, ReferenceResolver

from ..files.entries import entries_of, load_entries, read_entries, read_word
from ..files.readers import is_left_alone
from ..files.words import NULLS, missed_number, typed
from .config_of_run import config_files

__all__ = ["settle", "walk"]


def settle(parser: ConfigParser) -> None:
    """Put into a config what its values mean, and refuse those that are not what they can be.

    Entries of the table that `files.entries` reads become what they are there; in all others a text such as ``1e-4``
    becomes the number. What was already built of the config is built again where a value has changed.

    Args:
        parser: of the run.

    Raises:
        ValueError: lists all entries that are wrong.
    """
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    meant = read_entries(_as_written(config))
    changed = {name: value for name, value in meant.items() if repr(value) != repr(config[name])}
    words = {name for name, entry in load_entries().items() if entry.is_word or entry.kind == "labels"}
    changed |= {
        name: number
        for name, value in walk({key: value for key, value in config.items() if key not in words | changed.keys()})
        if (number := missed_number(value)) is not None
    }
    if changed:
        _put(parser, changed)


def walk(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The id and content of each entry at all levels of a mapping or list."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield f"{prefix}{key}", value
            yield from walk(value, f"{prefix}{key}::")


def _as_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the entries that are words, and those that are null, as somebody wrote them."""
    words = typed(sys.argv[1:]) if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py") else {}
    written = dict(config)
    for name, entry in entries_of(config).items():
        if name not in config:
            continue
        if words.get(name) in NULLS:
            written[name] = None
        elif name in words and entry.is_word:
            written[name] = read_word(entry, words[name])
        elif entry.is_word or entry.kind == "labels":
            written[name] = _of_files(name, config[name])
    return written


def _of_files(name: str, value: Any) -> Any:
    """A word that YAML or MONAI has taken for something else, as it stands in the file."""
    if value is None or is_left_alone(value, ""):
        return value
    if isinstance(value, str):
        return value if "::" not in value or os.path.exists(value) else value.replace("::", "#")
    if isinstance(value, list | tuple):
        return [_of_files("", each) for each in value]
    if isinstance(value, Mapping):
        return {key: _of_files("", each) for key, each in value.items()}
    for file in reversed(config_files() if name else []):
        content = yaml.load(Path(file).read_text(encoding="utf-8"), yaml.BaseLoader)  # in which all values are texts
        if isinstance(content, dict) and isinstance(content.get(name), str):
            return content[name]
    return value


def _put(parser: ConfigParser, values: Mapping[str, Any]) -> None:
    config, resolver = parser.get(), parser.ref_resolver
    for name, value in values.items():
        place, key = ReferenceResolver.split_id(name, last=True)
        parent = parser.get(place) if place else config
        parent[int(key) if isinstance(parent, list) else key] = _kept(value)
    # steps of a command that have been taken, and will not be taken again
    taken = {name: step for name, step in resolver.resolved_content.items() if _is_step(config, name)}
    parser.parse(reset=True)
    resolver.resolved_content.update(taken)


def _kept(value: Any) -> Any:
    """A value as an expression where MONAI would write another letter for one of its own."""
    if isinstance(value, list):
        return [_kept(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _kept(each) for key, each in value.items()}
    if not isinstance(value, str) or "#" not in value or is_left_alone(value, ""):
        return value
    return "$" + repr(value).replace("#", r"\x23").replace("@", r"\x40")


def _is_step(config: Mapping[str, Any], name: str) -> bool:
    keys: Sequence[str] = ReferenceResolver.split_id(name)
    return len(keys) == 2 and keys[1].isdigit() and isinstance(config.get(keys[0]), list)
