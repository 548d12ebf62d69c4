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
"""What the entries of configs take, in one place: types, limits, units and a sentence of help, from ``entries.yaml``.

Everything that reads options goes by it: the check before a run, the command ``deeprs``, and the tables of the
documents. It imports neither PyTorch nor MONAI, so that help and refusals come at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .entry import Entry
from .readers import is_left_alone, read
from .words import NULLS, plain, unquoted

__all__ = [
    "COMMANDS",
    "Entry",
    "check_entries",
    "default_values",
    "entries_of",
    "load_entries",
    "read_entries",
    "read_value",
    "read_word",
]

_TABLE = Path(__file__).with_name("entries.yaml")
_CONFIGS = Path(__file__).parents[2] / "configs"


@cache
def _tables() -> dict[str, tuple[str, str | None, dict[str, Entry]]]:
    """Command -> the entry that it is known by, the command whose config its own lies over, and what its own take."""
    tables = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return {
        command: (
            table["known_by"],
            table.get("over"),
            {name: _entry(name, row) for name, row in table["entries"].items()},
        )
        for command, table in tables.items()
    }


def _entry(name: str, row: Mapping[str, Any]) -> Entry:
    return Entry(name=name, **{**row, "choices": tuple(row.get("choices", ()))})


def load_entries(command: str | None = None, own: bool = False) -> dict[str, Entry]:
    """The entries by name.

    Args:
        command: the name of a config of a command, such as ``train``: those that it has, and those of the config that
            it lies over. None: all there are; of a name that several have, the first.
        own: without those of the config that it lies over.

    Raises:
        KeyError: there is no such command.
    """
    tables = _tables()
    if command is None:
        rows_of_all = [rows for _, _, rows in tables.values()]
        names = dict.fromkeys(name for rows in rows_of_all for name in rows)
        return {name: next(rows[name] for rows in rows_of_all if name in rows) for name in names}
    _, over, rows = tables[command]
    return {**(load_entries(over) if over and not own else {}), **rows}


#: the names of the configs of commands
COMMANDS = tuple(_tables())


def entries_of(config: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of the commands that a merged config has; all there are if it has none.

    Args:
        config: merged, of whatever files.
    """
    known = [rows for known_by, _, rows in _tables().values() if known_by in config]
    return {name: row for rows in known for name, row in rows.items()} or load_entries()


def read_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the entries of a config mean, as far as they are in the table.

    Args:
        config: merged, of whatever files; nested entries are left alone.

    Returns:
        Name -> value.

    Raises:
        ValueError: lists all that are not what they can be.
    """
    meant, faults = {}, []
    for name, entry in entries_of(config).items():
        if name in config:
            try:
                meant[name] = read(entry, config[name])
            except ValueError as error:
                faults.append(str(error))
    faults += _no_percentiles(meant)
    if faults:
        title = ["entries of the config are not what they can be:"] if len(faults) > 1 else []
        raise ValueError("\n  ".join([*title, *faults]))
    return meant


def check_entries(config: Mapping[str, Any]) -> None:
    """Refuse a config with entries that are not what they can be.

    Args:
        config: merged, of whatever files; nested entries, expressions and references are left alone.

    Raises:
        ValueError: lists all faults: the name, what was expected in which unit, what was found, and what to do.
    """
    read_entries(config)


def _no_percentiles(meant: Mapping[str, Any]) -> list[str]:
    ends = meant.get("intensity_range")
    if meant.get("intensity") != "percentiles" or not isinstance(ends, list) or is_left_alone(ends, "interval"):
        return []
    if ends[0] >= 0 and ends[1] <= 100:
        return []
    return [
        f"intensity_range: expected two percentiles from 0 to 100, as `intensity` is percentiles, found {ends}. "
        "For the two ends of a window, add `intensity: window`."
    ]


def read_value(name: str, text: str, command: str | None = None) -> Any:
    """What a YAML file would give for a word of a command line; whether the entry takes it is not looked at.

    Args:
        name: of the entry; one that is not in the table, such as ``updates::registration::optimizer::lr``, is read as
            YAML.
        text: the word. ``1e-4`` is a number; ``2024_01_15`` and ``a,b`` stay texts where the entry is a path.
        command: whose entry it is, as for :func:`load_entries`: ``fixed`` of ``sequence`` may be a list.
    """
    return read_word(load_entries(command).get(name), text)


def read_word(entry: Entry | None, text: str) -> Any:
    """The same for an entry that is known, or for one that is not in the table."""
    if is_left_alone(text, ""):
        return text
    if entry is None:
        return plain(text)
    if entry.may_be_null and text in NULLS:
        return None
    if entry.kind in ("paths", "transforms") and text.startswith(("[", "{")):
        return _texts(text)
    return unquoted(text) if entry.is_word else plain(text)


def _texts(text: str) -> Any:
    """A list or mapping of YAML in which all values are texts."""
    try:
        return yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return text


def default_values(command: str) -> dict[str, Any]:
    """The defaults of a command's entries, as its config and the one that it lies over have them.

    Args:
        command: as for :func:`load_entries`.

    Returns:
        Name -> value of the config, an expression or a component of MONAI as it stands there.
    """
    over, names = _tables()[command][1], load_entries(command)
    config = yaml.safe_load((_CONFIGS / f"{command}.yaml").read_text(encoding="utf-8"))
    return {**(default_values(over) if over else {}), **{name: config[name] for name in names if name in config}}
