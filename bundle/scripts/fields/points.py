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

import logging
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files.tables import told_of
from ..files.writing import write_text
from .point_documents import CsvDocument, Document, FcsvDocument, MarkupsDocument, Row

logger = logging.getLogger(__name__)

SYSTEMS = ("LPS", "RAS")
FORMATS = {".csv": CsvDocument, ".fcsv": FcsvDocument, ".mrk.json": MarkupsDocument}
SUFFIXES = tuple(FORMATS)


@dataclass(frozen=True)
class PointSet:
    """Points of one file, those that somebody placed.

    Args:
        positions: (N, 3), RAS mm.
        names: one per point, possibly empty.
        coordinates: ``LPS`` or ``RAS``, what the file has, and will have when it is written again.
        not_placed: names of the points of the file that were never placed, or skipped; they have no position here.
        source: the file as it was, by which it is written again with all that it holds besides the points.
    """

    positions: np.ndarray
    names: tuple[str, ...]
    coordinates: str
    not_placed: tuple[str, ...] = ()
    source: Document | None = field(default=None, repr=False, compare=False)

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
    """Read points with their names, and leave out those that nobody placed, with a warning.

    A CSV has a header with the columns x, y and z, and may have one called name or label, and others, as those of ANTs
    have. Without a header it has three columns of numbers. Tables that Slicer exports have r, a and s, or l, p and s,
    and say their system by that. Slicer keeps a position also for points that were not placed yet or skipped; its files
    say so (``positionStatus``, the column ``defined``).

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
    with told_of(path):
        try:
            source = FORMATS[suffix](path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from error
        system, rows = _system(source, coordinates, path), source.rows()
    placed = _placed(rows, path)
    positions = np.array([[_number(cell, row.name, path) for cell in row.cells] for row in placed])
    names, others = (tuple(row.name for row in rows if row.placed == which) for which in (True, False))
    return PointSet(_flip(positions, system), names, system, others, source)


def write_points(path: str | Path, points: PointSet) -> None:
    """Write points in the coordinate system that they name.

    Points that were read from a file of the same format are written as that file with other positions: columns, order,
    status, and the points that were not placed stay as they were.

    Args:
        path: ``.csv`` (of new points: columns name, x, y, z), ``.fcsv`` or ``.mrk.json``.
        points: what to write.

    Raises:
        ValueError: the suffix is none of these.
    """
    kind = FORMATS[_suffix(Path(path))]
    source = points.source if isinstance(points.source, kind) else kind.of(points.names, points.coordinates)
    write_text(path, source.text(_flip(points.positions, points.coordinates).tolist()))


def points_suffix(path: str | Path) -> str | None:
    """Which of the three formats a file name stands for; None when it is none of them."""
    return next((suffix for suffix in SUFFIXES if Path(path).name.lower().endswith(suffix)), None)


def _suffix(path: Path) -> str:
    suffix = points_suffix(path)
    if suffix is None:
        raise ValueError(f"points are read from and written to {', '.join(SUFFIXES)}, found '{path.name}'.")
    return suffix


def _system(source: Document, coordinates: str | None, path: Path) -> str:
    """The coordinate system of a file, by what it says itself and by what is said of it."""
    if source.stated and coordinates and source.stated != coordinates:
        raise ValueError(f"'{path}' says that its points are {source.stated}, and `coordinates` says {coordinates}.")
    system = source.stated or coordinates
    if system is None:
        raise ValueError(
            f"'{path}' does not say whether its points are LPS or RAS: set `coordinates` to LPS (ITK, ANTs, elastix, "
            "DICOM) or to RAS (nibabel, FreeSurfer)."
        )
    return system


def _placed(rows: list[Row], path: Path) -> list[Row]:
    """The points that somebody placed, with a warning about the others."""
    placed = [row for row in rows if row.placed]
    others = Counter(row.status for row in rows if not row.placed)
    told = ", ".join(f"{count} {status}" for status, count in others.items())
    if not placed:
        raise ValueError(f"'{path}' holds no points{f' that were placed (positionStatus: {told})' if told else ''}.")
    if told:
        logger.warning(
            "'%s': %d of %d points were not placed and are left out (positionStatus: %s): %s",
            *(path, len(rows) - len(placed), len(rows), told),
            ", ".join(row.name for row in rows if not row.placed),
        )
    return placed


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
