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

"""Pairs of files as a user writes them down: a table (CSV), or the JSON of `evaluating`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from ..files.datalist import check_name, resolve_entry
from ..files.tables import told_of
from .pairs import read_pairs

COLUMNS = ("moving", "fixed", "moving_label", "fixed_label", "name")

__all__ = ["pair_name", "read_pair_table"]


def read_pair_table(path: str | Path) -> list[dict]:
    """Read pairs, each with a name of its own.

    A table has the columns ``moving`` and ``fixed``, and any of ``moving_label``, ``fixed_label`` and ``name``; a cell
    may be empty. Its paths are relative to itself. A file that ends in ``.json`` is read as
    :func:`scripts.data.pairs.read_pairs` says.

    Args:
        path: the file.

    Returns:
        ``{"name": text, "moving": case, "fixed": case}`` for each pair, cases with absolute paths.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or unknown, a line names no moving or no fixed image, there is no pair, two
            have one name, or a name is none for a folder.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".json":
        pairs = read_pairs(path)
    else:
        pairs = [_pair_of(row, number, path) for number, row in enumerate(_read_rows(path), 2)]
    pairs = [{"name": pair_name(pair["moving"], pair["fixed"]), **pair} for pair in pairs]
    for pair in pairs:
        check_name(pair["name"], path)
    names = [pair["name"] for pair in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{path}: several pairs are named {', '.join(repeated)}, and their results would overwrite each other.\n"
            "  Give each a `name` of its own."
        )
    return pairs


def pair_name(moving: Mapping[str, str], fixed: Mapping[str, str]) -> str:
    """What a pair is called that has no name of its own."""
    return f"{moving['case']}_to_{fixed['case']}"


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no such table of pairs: {path}")
    with told_of(path), path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a file with a mark
        reader = csv.DictReader(file, skipinitialspace=True)
        found = reader.fieldnames or []
        if not {"moving", "fixed"} <= set(found) <= set(COLUMNS):
            raise ValueError(
                f"{path}: the first line should name the columns moving, fixed and, where wanted, "
                f"{', '.join(COLUMNS[2:])}, separated by commas; found {', '.join(map(str, found)) or 'nothing'}."
            )
        rows = list(reader)
    if not rows:
        raise ValueError(f"{path} holds no pair: below the first line there is nothing.")
    return rows


def _pair_of(row: Mapping[str, str], line: int, path: Path) -> dict:
    if None in row or not (row["moving"] and row["fixed"]):
        raise ValueError(f"{path}, line {line}: expected a moving and a fixed image under the names of the first line.")
    pair = {}
    for role in ("moving", "fixed"):
        label = {"label": row[f"{role}_label"]} if row.get(f"{role}_label") else {}
        pair[role] = resolve_entry({"image": row[role], **label}, path, role)
    return pair | ({"name": row["name"]} if row.get("name") else {})
