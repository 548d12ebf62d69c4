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

"""Landmarks: how far a registration leaves corresponding points of two images apart, in millimetres."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..fields.grids import change_grid, inside_grid
from ..fields.metrics import target_registration_error
from ..fields.points import points_suffix, read_point_set
from ..files import processes
from ..registration.pair import Registered, Subject, map_of_pair

__all__ = ["Landmarks"]

logger = logging.getLogger(__name__)

#: names, and positions (N, 3) in the moving and in the fixed image, RAS mm
Correspondence = tuple[list[str], torch.Tensor, torch.Tensor]


class Landmarks:
    """The landmarks of a data set: ``CASE.csv``, ``CASE.fcsv`` or ``CASE.mrk.json`` for each case that has any.

    Points of two cases correspond when they bear the same name; without names, when they stand in the same place of
    the file. A field that pulls the moving image onto the fixed one carries fixed points to moving ones, and that is
    how the target registration error (TRE) is measured: the distance, in the moving image, from where a fixed landmark
    is carried to where the moving one was marked. The identity leaves what centre on centre leaves.

    Args:
        folder: where the files are.
        coordinates: ``LPS`` or ``RAS``, for files that do not say it themselves.

    Raises:
        FileNotFoundError: there is no such folder, or no such file in it.
        ValueError: a case has two files.
    """

    def __init__(self, folder: str | Path, coordinates: str | None = None) -> None:
        self.folder, self.coordinates = Path(folder).expanduser(), coordinates
        self.files: dict[str, Path] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if suffix := points_suffix(path):
                case = path.name[: -len(suffix)]
                if case in self.files:
                    raise ValueError(f"case '{case}' has two files of landmarks: {self.files[case]} and {path}.")
                self.files[case] = path
        if not self.files:
            raise FileNotFoundError(f"no landmarks in '{self.folder}': expected CASE.csv, CASE.fcsv or CASE.mrk.json.")
        self._points = cache(self._read)
        self._outside: dict[tuple[str, str], torch.Tensor] = {}  # of each pair scored: which of its landmarks

    def check(self, pairs: Sequence[tuple[Mapping, Mapping]]) -> None:
        """Refuse landmarks that do not belong to these pairs, before anything is computed.

        Args:
            pairs: (moving, fixed) cases.

        Raises:
            ValueError: no pair has landmarks in both of its cases, a file cannot be used, or the two of a pair share no
                landmark.
        """
        found = [self.of_pair(moving["case"], fixed["case"]) for moving, fixed in pairs]
        if not any(found):
            raise ValueError(
                f"no test pair has landmarks in both of its cases. The files of {self.folder} are named after "
                f"{', '.join(self.files)}; the first pair is '{pairs[0][0]['case']}' and '{pairs[0][1]['case']}'."
            )

    def of_pair(self, moving: str, fixed: str) -> Correspondence | None:
        """What corresponds in two cases; None where one of them has no file."""
        if moving not in self.files or fixed not in self.files:
            return None
        there, here = self._points(moving), self._points(fixed)
        if not (names := [name for name in here if name in there]):
            raise ValueError(
                f"the landmarks of '{moving}' and '{fixed}' share no name: {', '.join(there)} and {', '.join(here)}."
            )
        return names, *(torch.stack([points[name] for name in names]) for points in (there, here))

    def score(self, result: Registered, moving: Subject, fixed: Subject) -> list[dict[str, Any]]:
        """Measure a pair.

        Args:
            result: of registering it.
            moving: the subject that was pulled.
            fixed: the subject that stayed.

        Returns:
            A row for each landmark of the pair: ``tre``, and ``identity_tre`` of doing nothing, in mm.
        """
        found = self.of_pair(moving.case, fixed.case)
        if found is None:
            return []
        names, there, here = found
        voxels = change_grid(here, torch.eye(4), fixed.file.affine)
        self._outside[moving.case, fixed.case] = ~inside_grid(voxels, fixed.file.shape[1:])
        carried, unmoved = (
            target_registration_error(map_of_pair(field, moving, fixed, match)(here), there).tolist()
            for field, match in ((result.ddf, result.match), (torch.zeros_like(result.ddf), None))
        )
        return [
            {"moving": moving.case, "fixed": fixed.case, "landmark": name, "tre": tre, "identity_tre": before}
            for name, tre, before in zip(names, carried, unmoved, strict=True)
        ]

    def warn_of_points_outside(self) -> None:
        """Say how many of the landmarks scored lie outside the file of their fixed image; all processes call it."""
        counts = {
            "landmarks": sum(len(outside) for outside in self._outside.values()),
            "pairs": len(self._outside),
            "outside": sum(int(outside.sum()) for outside in self._outside.values()),
            "pairs_outside": sum(bool(outside.any()) for outside in self._outside.values()),
        }
        counts = processes.add_up(counts)
        if counts["outside"] and processes.rank() == 0:
            logger.warning(
                "%(outside)d of %(landmarks)d landmarks, in %(pairs_outside)d of %(pairs)d pairs, lie outside the "
                "fixed image, and their errors say nothing. LPS or RAS? Of a CSV `coordinates` says it.",
                counts,
            )

    def _read(self, case: str) -> dict[str, torch.Tensor]:
        points = read_point_set(self.files[case], self.coordinates)
        names = [name.strip() for name in points.names]
        if len(set(names)) < len(names) or "" in names:
            raise ValueError(
                f"{self.files[case]}: every landmark needs a name of its own, by which it is found in other cases. "
                f"There are: {', '.join(map(repr, names))}."
            )
        return dict(zip(names, torch.as_tensor(points.positions, dtype=torch.float64), strict=True))
