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
"""The three formats of points as documents: what a file holds besides its points comes back with them.

A document is made of a file's text, or anew; it lists its rows, and gives its text again with other positions. The
columns of a CSV and their order, display, status and description of Slicer's files stay as they are.
"""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

NAME_COLUMNS = ("name", "label")  # of the columns of a CSV, in lower case
# of a CSV: the columns with the coordinates, and the system that they say; Slicer exports tables with the latter two
AXES = (("x", "y", "z", None), ("l", "p", "s", "LPS"), ("r", "a", "s", "RAS"))
FCSV_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}  # older versions of Slicer wrote numbers
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
STATUS = ("undefined", "preview", "defined", "missing")  # in the order of Slicer's numbers
PLACED = "defined"
FCSV_STATUS = 14  # Slicer 5 writes two numbers behind the columns that it names: this is the first
# by this address Slicer knows what a JSON file holds
MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
POINTS_ALONE = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")  # markups that their control points are all of


@dataclass(frozen=True)
class Row:
    """A point as it stands in a file: what is no number yet is told with its name."""

    name: str
    cells: Sequence[Any]
    status: str = PLACED

    @property
    def placed(self) -> bool:
        """Whether somebody put the point somewhere; Slicer writes a position for the others, too."""
        return self.status == PLACED


class Document(Protocol):
    """A file of points."""

    stated: str | None

    def rows(self) -> list[Row]:
        """All points, in their order."""

    def text(self, positions: Iterable[Sequence[float]]) -> str:
        """The file with its placed points elsewhere: their positions in order, in the system of the file."""


class CsvDocument:
    """A CSV: a header with x, y and z, and any other columns; or three columns of numbers without one."""

    def __init__(self, text: str) -> None:
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in line)]
        self.head, self.lines, self.stated = lines[:1], lines[1:], None
        header = [cell.strip().lower() for cell in lines[0]] if lines else []
        self.columns = [0, 1, 2]
        for *axes, system in AXES:
            if set(axes) <= set(header):
                self.columns, self.stated = [header.index(axis) for axis in axes], system
                break
        else:
            if header and not (len(header) == 3 and _is_number(header[0])):
                raise ValueError(
                    "expected a header with the columns x, y and z (and name or label, if you like), or no header and "
                    f"three columns of numbers. Its first line is {', '.join(lines[0])!r}."
                )
            self.head, self.lines, header = [], lines, []
        self.named = next((header.index(column) for column in NAME_COLUMNS if column in header), None)
        self.defined = header.index("defined") if "defined" in header else None

    @classmethod
    def of(cls, names: Sequence[str], system: str) -> CsvDocument:
        """A new one, with the columns name, x, y, z."""
        return cls(_csv([["name", "x", "y", "z"], *([name, "0", "0", "0"] for name in names)]))

    def rows(self) -> list[Row]:
        """All points, in their order; those without a name are numbered."""
        return [
            Row(
                str(number) if self.named is None or self.named >= len(line) else line[self.named].strip(),
                [line[column] if column < len(line) else "" for column in self.columns],
                PLACED if self.defined is None or _is_true(line[self.defined : self.defined + 1]) else STATUS[0],
            )
            for number, line in enumerate(self.lines, start=1)
        ]

    def text(self, positions: Iterable[Sequence[float]]) -> str:
        """The file with other positions."""
        return _csv([*self.head, *_filled(self.lines, self.rows(), self.columns, positions)])


class FcsvDocument:
    """Slicer's older format: comments that say the system and the columns, and a line for each point."""

    def __init__(self, text: str) -> None:
        self.head, self.lines, self.stated = [], [], None
        self.names = FCSV_COLUMNS.split(",")
        for line in text.splitlines():
            if line.startswith("#"):
                self.head.append(line)
                self._take(line)
            elif line.strip():
                self.lines.append(next(csv.reader([line])))
        self.columns = [self.names.index(axis) for axis in "xyz"]

    def _take(self, line: str) -> None:
        key, _, value = (part.strip() for part in line.removeprefix("#").partition("="))
        if key == "CoordinateSystem":
            if value not in FCSV_SYSTEMS:
                raise ValueError(f"CoordinateSystem is {value!r}, expected RAS or LPS: save it as one.")
            self.stated = FCSV_SYSTEMS[value]
        elif key == "columns":
            self.names = [column.strip() for column in value.split(",")]
            if not set("xyz") <= set(self.names):
                raise ValueError(f"its columns are {value}, without x, y and z.")

    @classmethod
    def of(cls, names: Sequence[str], system: str) -> FcsvDocument:
        """A new one: visible, selected, not locked, orientation as it is."""
        head = f"# Markups fiducial file version = 5.0\n# CoordinateSystem = {system}\n# columns = {FCSV_COLUMNS}\n"
        lines = [[number, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, name, "", ""] for number, name in enumerate(names, start=1)]
        return cls(head + _csv(lines))

    def rows(self) -> list[Row]:
        """All points, in their order."""
        found = []
        for line in self.lines:
            row = dict(zip(self.names, line, strict=False))
            beyond = line[FCSV_STATUS].strip() if len(line) > max(FCSV_STATUS, len(self.names)) else ""
            status = (row.get("positionStatus") or beyond).strip()
            status = STATUS[int(status)] if status in ("0", "1", "2", "3") else status or PLACED
            found.append(Row(row.get("label", ""), [row.get(axis) for axis in "xyz"], status))
        return found

    def text(self, positions: Iterable[Sequence[float]]) -> str:
        """The file with other positions."""
        lines = _filled(self.lines, self.rows(), self.columns, positions)
        return "".join(f"{line}\n" for line in self.head) + _csv(lines)


class MarkupsDocument:
    """Slicer's JSON."""

    def __init__(self, text: str) -> None:
        try:
            self.content = json.loads(text)
            systems = {markup.get("coordinateSystem", "LPS") for markup in self.content["markups"]}
            self._rows = [self._row(point) for point in self._points(self.content)]
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is not a markups file of Slicer: {type(error).__name__} {error}.") from error
        if systems - {"LPS", "RAS"} or len(systems) > 1:
            raise ValueError(f"expected one coordinateSystem, LPS or RAS, found {', '.join(sorted(systems))}.")
        units = {markup.get("coordinateUnits", "mm") for markup in self.content["markups"]}
        if units - {"mm"}:
            raise ValueError(f"expected coordinateUnits mm, found {', '.join(map(str, units))}.")
        self.stated = next(iter(systems), None)

    @classmethod
    def of(cls, names: Sequence[str], system: str) -> MarkupsDocument:
        """A new one, with one list of points."""
        points = [
            {"id": str(number), "label": name, "position": [0, 0, 0]} for number, name in enumerate(names, start=1)
        ]
        markup = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": points}
        return cls(json.dumps({"@schema": MARKUPS_SCHEMA, "markups": [markup]}))

    @staticmethod
    def _points(content: Any) -> list[dict]:
        return [point for markup in content["markups"] for point in markup["controlPoints"]]

    @staticmethod
    def _row(point: dict) -> Row:
        row = Row(str(point.get("label", "")), point.get("position") or (), point.get("positionStatus", PLACED))
        if row.placed and len(point["position"]) != 3:
            raise KeyError(f"position with {len(row.cells)} coordinates")
        return row

    def rows(self) -> list[Row]:
        """All points, in their order, of all markups of the file."""
        return self._rows

    def text(self, positions: Iterable[Sequence[float]]) -> str:
        """The file with other positions, without what was measured on the old ones."""
        content, remaining = copy.deepcopy(self.content), iter(positions)
        for point, row in zip(self._points(content), self._rows, strict=True):
            if row.placed:
                point["position"] = [float(value) for value in next(remaining)]
        for number, markup in enumerate(content["markups"]):
            markup.pop("measurements", None)
            if markup.get("type") not in POINTS_ALONE:  # the size of a ROI, say, would be that of the old place
                kept = ("coordinateSystem", "coordinateUnits", "name", "controlPoints")
                content["markups"][number] = {"type": "Fiducial", **{key: markup[key] for key in kept if key in markup}}
        return json.dumps(content, indent=1) + "\n"


def _filled(
    lines: Sequence[Sequence[Any]], rows: Sequence[Row], columns: Sequence[int], positions: Iterable[Sequence[float]]
) -> list[list[Any]]:
    """The lines of a table, those of placed points with other coordinates."""
    filled, remaining = [], iter(positions)
    for line, row in zip(lines, rows, strict=True):
        cells = list(line)
        if row.placed:
            for column, value in zip(columns, next(remaining), strict=True):
                cells[column] = repr(float(value))
        filled.append(cells)
    return filled


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_true(cell: Sequence[str]) -> bool:
    return not cell or cell[0].strip().lower() not in ("0", "false", "no")
