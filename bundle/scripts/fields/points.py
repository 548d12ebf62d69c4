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
"""Files of points in world millimetres: CSV, and the two formats of 3D Slicer's Markups.

In memory points are RAS, as the affines of nibabel and MONAI are. A CSV does not say whether it is LPS or RAS, and a
wrong guess mirrors the points without a word; so whoever reads one has to say it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files.tables import told_of
from ..files.writing import replacing, write_json, write_text

SYSTEMS = ("LPS", "RAS")
SUFFIXES = (".csv", ".fcsv", ".mrk.json")
NAME_COLUMNS = ("name", "label")  # of the columns of a CSV, in lower case
FCSV_SYSTEMS = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}  # older versions of Slicer wrote numbers
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
# by this address Slicer knows what a JSON file holds
MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


@dataclass(frozen=True)
class PointSet:
    """Points of one file.

    Args:
        positions: (N, 3), RAS mm.
        names: one per point, possibly empty.
        coordinates: ``LPS`` or ``RAS``, what the file has, and will have when it is written again.
    """

    positions: np.ndarray
    names: tuple[str, ...]
    coordinates: str

    def moved_to(self, positions: np.ndarray) -> PointSet:
        """The same points, elsewhere: positions (N, 3) in RAS mm."""
        return replace(self, positions=np.asarray(positions, dtype=np.float64))


def read_points(path: str | Path, coordinates: str | None = None) -> np.ndarray:
    """Read where points lie; see :func:`read_point_set`.

    Returns:
        Positions (N, 3), RAS mm, in the order of the file.
    """
    return read_point_set(path, coordinates).positions


def read_point_set(path: str | Path, coordinates: str | None = None) -> PointSet:
    """Read points with their names.

    A CSV has a header with the columns x, y and z, and may have one called name or label; other columns are passed
    over, so that the CSV files of ANTs can be read. Without a header it has three columns of numbers.

    Args:
        path: ``.csv``, or Slicer's ``.fcsv`` or ``.mrk.json``.
        coordinates: ``LPS`` or ``RAS``. A CSV needs it. Slicer's files say it themselves, and then it has to agree.

    Returns:
        The points.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of the three, holds no points or something that is no number, or the coordinate
            system is not said, or said in two ways.
    """
    path = Path(path)
    suffix = _suffix(path)
    if coordinates is not None and coordinates not in SYSTEMS:
        raise ValueError(f"`coordinates` should be LPS or RAS, found {coordinates!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"no such file of points: '{path}'.")
    read = {".csv": _read_csv, ".fcsv": _read_fcsv, ".mrk.json": _read_markups}[suffix]
    with told_of(path):
        rows, stated = read(path)
    if stated and coordinates and stated != coordinates:
        raise ValueError(f"'{path}' says that its points are {stated}, and `coordinates` says {coordinates}.")
    system = stated or coordinates
    if system is None:
        raise ValueError(
            f"'{path}' does not say whether its points are LPS or RAS: set `coordinates` to LPS (ITK, ANTs, elastix, "
            "DICOM) or to RAS (nibabel, FreeSurfer)."
        )
    if not rows:
        raise ValueError(f"'{path}' holds no points.")
    positions = np.array([[_number(value, name, path) for value in values] for name, values in rows])
    return PointSet(_flip(positions, system), tuple(name for name, _ in rows), system)


def write_points(path: str | Path, points: PointSet) -> None:
    """Write points in the coordinate system that they name.

    Args:
        path: ``.csv`` (columns name, x, y, z), ``.fcsv`` or ``.mrk.json``.
        points: what to write.

    Raises:
        ValueError: the suffix is none of these.
    """
    path = Path(path)
    rows = list(zip(points.names, _flip(points.positions, points.coordinates).tolist(), strict=True))
    {".csv": _write_csv, ".fcsv": _write_fcsv, ".mrk.json": _write_markups}[_suffix(path)](
        path, rows, points.coordinates
    )


def points_suffix(path: str | Path) -> str | None:
    """Which of the three formats a file name stands for; None when it is none of them."""
    return next((suffix for suffix in SUFFIXES if Path(path).name.lower().endswith(suffix)), None)


def _suffix(path: Path) -> str:
    suffix = points_suffix(path)
    if suffix is None:
        raise ValueError(f"points are read from and written to {', '.join(SUFFIXES)}, found '{path.name}'.")
    return suffix


def _flip(positions: np.ndarray, system: str) -> np.ndarray:
    """From RAS to a system, or back."""
    return positions * np.array([-1.0, -1.0, 1.0]) if system == "LPS" else positions


def _number(value: Any, name: str, path: Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"'{path}': point '{name}' has {value!r} where a coordinate in mm is expected.")
    return number


Rows = list[tuple[str, Sequence[Any]]]  # name and three coordinates of each point, as they stand in the file


def _read_csv(path: Path) -> tuple[Rows, None]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    if not lines:
        return [], None
    header = [cell.strip().lower() for cell in lines[0]]
    if {"x", "y", "z"} <= set(header):
        columns, lines = [header.index(axis) for axis in "xyz"], lines[1:]
    elif len(header) == 3 and _is_number(header[0]):
        columns = [0, 1, 2]
    else:
        raise ValueError(
            f"'{path}': expected a header with the columns x, y and z (and name or label, if you like), or no header "
            f"and three columns of numbers. Its first line is {', '.join(lines[0])!r}."
        )
    named = next((header.index(column) for column in NAME_COLUMNS if column in header), None)
    rows = []
    for number, line in enumerate(lines, start=1):
        name = str(number) if named is None or named >= len(line) else line[named].strip()
        rows.append((name, [line[column] if column < len(line) else "" for column in columns]))
    return rows, None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_fcsv(path: Path) -> tuple[Rows, str | None]:
    stated, columns, rows = None, FCSV_COLUMNS.split(","), []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = (part.strip() for part in line.removeprefix("#").partition("="))
        if line.startswith("#") and key == "CoordinateSystem":
            if value not in FCSV_SYSTEMS:
                raise ValueError(f"'{path}': CoordinateSystem is {value!r}, expected RAS or LPS: save it as one.")
            stated = FCSV_SYSTEMS[value]
        elif line.startswith("#") and key == "columns":
            columns = [column.strip() for column in value.split(",")]
        elif line.strip() and not line.startswith("#"):
            row = dict(zip(columns, next(csv.reader([line])), strict=False))
            rows.append((row.get("label", ""), [row.get(axis) for axis in "xyz"]))
    return rows, stated


def _read_markups(path: Path) -> tuple[Rows, str | None]:
    try:
        markups = json.loads(path.read_text(encoding="utf-8"))["markups"]
        systems = {markup.get("coordinateSystem", "LPS") for markup in markups}
        points = [point for markup in markups for point in markup["controlPoints"]]
        rows = [(str(point.get("label", "")), _triple(point["position"])) for point in points]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{path}' is not a markups file of Slicer: {type(error).__name__} {error}.") from error
    if systems - set(SYSTEMS) or len(systems) > 1:
        raise ValueError(f"'{path}': expected one coordinateSystem, LPS or RAS, found {', '.join(sorted(systems))}.")
    return rows, next(iter(systems), None)


def _triple(position: Sequence[Any]) -> Sequence[Any]:
    if len(position) != 3:
        raise KeyError(f"position with {len(position)} coordinates")
    return position


def _write_csv(path: Path, rows: Rows, system: str) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["name", "x", "y", "z"], *([name, *values] for name, values in rows)])


def _write_fcsv(path: Path, rows: Rows, system: str) -> None:
    head = ["# Markups fiducial file version = 5.0", f"# CoordinateSystem = {system}", f"# columns = {FCSV_COLUMNS}"]
    # visible, selected, not locked, orientation as it is
    lines = [
        f"{number},{x},{y},{z},0,0,0,1,1,1,0,{_quoted(name)},,"
        for number, (name, (x, y, z)) in enumerate(rows, start=1)
    ]
    write_text(path, "\n".join([*head, *lines]) + "\n")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name


def _write_markups(path: Path, rows: Rows, system: str) -> None:
    points = [
        {"id": str(number), "label": name, "position": values} for number, (name, values) in enumerate(rows, start=1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": points}
    write_json(path, {"@schema": MARKUPS_SCHEMA, "markups": [markup]})
