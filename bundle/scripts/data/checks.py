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
"""The data check: everything that can be wrong with the cases, found before hours of training and told all at once."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import torch

from ..files.datalist import LISTS
from ..files.errors import root_cause
from ..files.progress import collect
from .cases import Cases
from .image_checks import warn_of_empty_labels
from .preprocessed_checks import Preprocessed, look_at, warnings_of
from .readers import tell_placement
from .transforms import describe_strays, find_strays
from .volumes import GRID_TOLERANCE, Volume, grid_faults, image_faults, read_volume

__all__ = ["DataCheck"]


logger = logging.getLogger(__name__)

NAMED = 3  # cases with a doubtful header that are told in full


class DataCheck:
    """Reads every case once and refuses to go on while anything is wrong.

    Checked are: the file can be read; one 3D volume; finite, not constant; image and label on one grid; known label ids
    only, and none of a structure that is stated as missing; a label to train on not empty (of a case to score it may
    be, and is told in a warning); no case twice; enough cases; a ``spatial_size`` that the networks can halve; and what
    preprocessing leaves of all that. The labels of unlabelled cases are not read, here as elsewhere.

    Args:
        cases: what to check.
        spatial_size: voxels per axis of the network's grid.
        multiple: what the networks need each of them to be a multiple of.
        above: what at least one of them has to be larger than.
        min_labeled: fewest labelled cases to train with.
        min_unlabeled: fewest unlabelled cases.
        same_grid_tolerance: how far the outermost voxels of an image and its label may lie apart, in voxels. Headers
            that say the same rotation in different ways disagree by some hundredths.
        num_workers: cases read at a time.
        preprocessing: what training does to a case (``preprocessed_checks``); null looks at the files alone.
    """

    def __init__(
        self,
        cases: Cases,
        spatial_size: Sequence[int],
        multiple: int = 1,
        above: int = 0,
        min_labeled: int = 1,
        min_unlabeled: int = 0,
        same_grid_tolerance: float = GRID_TOLERANCE,
        num_workers: int = 4,
        preprocessing: Callable | None = None,
    ) -> None:
        self.cases = cases
        if isinstance(spatial_size, int):
            raise ValueError(f"spatial_size {spatial_size}: expected a number for each axis: {[spatial_size] * 3}.")
        self.spatial_size = tuple(spatial_size)
        self.multiple, self.above = multiple, above
        self.min_labeled = min_labeled
        self.min_unlabeled = min_unlabeled
        self.same_grid_tolerance = same_grid_tolerance
        self.num_workers = num_workers
        self.preprocessing = preprocessing
        #: of the networks' grid in mm, the median of all cases, once they are checked with their preprocessing
        self.voxel_size: list[float] | None = None

    def run(self, look: Callable[[str, dict, Volume, Volume | None], Any] | None = None) -> list[Any]:
        """Check, and log a table with a row per case.

        Args:
            look: called with the list, the case, its image and its label, while they are read; several at a time.

        Returns:
            What ``look`` said of each case.

        Raises:
            ValueError: lists every fault of every case.
        """
        faults = [*self._size_faults(), *self._count_faults(), *self._repetition_faults()]
        jobs = [(name, case) for name in LISTS for case in getattr(self.cases, name)]
        with ThreadPool(max(1, self.num_workers)) as pool:
            rows = collect(pool.imap(partial(self._inspect, look=look), jobs), "Checking the data", len(jobs))
        logger.info("data check of %d cases\n%s", len(rows), _table(rows))
        _warn_of_placement(rows)
        faults += [f"case '{row.case}': {fault}" for row in rows for fault in row.faults]
        if faults:
            raise ValueError(
                f"the data check found {len(faults)} fault{'s' * (len(faults) > 1)}:\n" + "\n".join(faults)
            )
        self._warn_of_unseen_structures(rows)
        warn_of_empty_labels([row.case for row in rows if row.is_empty])
        if seen := [row.seen for row in rows if row.seen]:
            self.voxel_size = [round(float(mm), 4) for mm in np.median([one.spacing for one in seen], axis=0)]
        for text in warnings_of(seen, self.multiple):
            logger.warning("%s", text)
        logger.info("the data check found no fault in %d cases", len(rows))
        return [row.found for row in rows if look is not None]

    def _size_faults(self) -> list[str]:
        sizes, multiple = self.spatial_size, self.multiple
        if len(sizes) == 3 and all(size > 0 and size % multiple == 0 for size in sizes):
            if any(size > self.above for size in sizes):
                return []
            return [
                f"spatial_size {sizes}: expected a side above {self.above}, as the networks normalise over what is "
                "left of a volume where they are coarsest, and that would be one voxel."
            ]
        # the multiples around each size, which are one where the size is a multiple already, and never 0
        around = ((size // multiple * multiple, -(-size // multiple) * multiple) for size in sizes)
        nearest = (sorted({max(multiple, below), max(multiple, above)}) for below, above in around)
        valid = ", ".join(" or ".join(map(str, options)) for options in nearest)
        return [f"spatial_size {sizes}: expected three multiples of {multiple}. The nearest are ({valid})."]

    def _count_faults(self) -> list[str]:
        wanted = (
            ("labelled", self.cases.labeled, self.min_labeled),
            ("unlabelled", self.cases.unlabeled, self.min_unlabeled),
        )
        return [
            f"expected at least {least} {kind} case{'s' * (least > 1)}, found {len(found)}."
            for kind, found, least in wanted
            if len(found) < least
        ]

    def _repetition_faults(self) -> list[str]:
        """A subject that is trained on and tested on makes the numbers worthless; two of one name overwrite results."""
        files: dict[str, tuple[str, str]] = {}
        names: dict[str, tuple[str, str]] = {}
        faults = []
        for where in LISTS:
            for case in getattr(self.cases, where):
                name, image = case["case"], os.path.realpath(case["image"])
                if image in files:
                    other, place = files[image]
                    faults.append(f"case '{name}' in '{where}' is the image of case '{other}' in '{place}': {image}")
                elif name in names:
                    place, path = names[name]
                    faults.append(
                        f"case '{name}' is the name of two images, in '{place}' and in '{where}':\n"
                        f"  {path}\n  {image}\n"
                        "  Rename one, or give its entry in the datalist a `case` of its own."
                    )
                files.setdefault(image, (name, where))
                names.setdefault(name, (where, image))
        return faults

    def _inspect(self, job: tuple[str, dict], look: Callable | None = None) -> _Row:
        """Read one case; whatever goes wrong becomes a fault of its row."""
        where, case = job
        row = _Row(case["case"], where)
        image = read_volume(case["image"], "image", row.faults)
        label = read_volume(case["label"], "label", row.faults) if "label" in case else None
        for key, volume in (("image", image), ("label", label)):
            if volume is not None:
                tell_placement(case[key], silent=True)  # told of all cases at once
                row.notes += [volume.note] if volume.note else []
        if image is not None and label is not None:
            label = label.laid_on(image)
        if image is not None:
            row.describe(image)
            row.faults += image_faults(image)
        if label is not None:
            row.ids = tuple(i for i in self.cases.label_ids if (label.array == i).any())
            row.is_empty = not label.array.any()
            row.faults += self._label_faults(label, where, case)
        if image is not None and label is not None:
            row.faults += grid_faults(image, label, self.same_grid_tolerance)
        if self.preprocessing is not None and not row.faults and not self._size_faults():
            try:
                row.seen = look_at(case, image, label, self.preprocessing, self.cases.labels)
            except Exception as error:  # transforms raise what they like, and the other cases are to be checked, too
                cause = root_cause(error)
                row.faults.append(f"preprocessing fails: {case['image']}\n  {type(cause).__name__}: {cause}")
            else:
                row.faults += row.seen.faults(self.multiple)
        if look is not None and image is not None and not row.faults:
            row.found = look(where, case, image, label)
        return row

    def _label_faults(self, label: Volume, where: str, case: dict) -> list[str]:
        if where == "labeled" and not label.array.any():  # a case to score may rightly have nothing to find
            return ["the label is empty: it holds nothing but background (0). Move the case to `unlabeled`."]
        strays = find_strays(torch.from_numpy(label.array), self.cases.label_ids)
        drawn = [i for k in case.get("missing", ()) if (label.array == (i := self.cases.label_ids[k - 1])).any()]
        return [
            *([describe_strays(strays, self.cases.label_ids)] if strays else []),
            *(
                f"`missing` has {i} ({self.cases.labels[i]}), and the label holds it. Take it out of `missing`."
                for i in drawn
            ),
        ]

    def _warn_of_unseen_structures(self, rows: Sequence[_Row]) -> None:
        training = [row.ids for row in rows if row.where == "labeled"]
        seen = set(itertools.chain.from_iterable(training))
        unseen = [name for label_id, name in self.cases.labels.items() if label_id not in seen]
        if training and unseen:
            logger.warning("no label to train on holds %s: it cannot be learnt", ", ".join(unseen))


@dataclass
class _Row:
    """What the table says about a case."""

    case: str
    where: str
    shape: str = "-"
    spacing: str = "-"
    orientation: str = "-"
    dtype: str = "-"
    values: str = "-"
    ids: tuple[int, ...] = ()
    is_empty: bool = False
    seen: Preprocessed | None = None
    found: Any = None
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def describe(self, image: Volume) -> None:
        """Fill in what the image says of itself."""
        self.shape = "x".join(map(str, image.array.shape))
        self.spacing = "x".join(f"{value:.3g}" for value in image.spacing)
        self.orientation, self.dtype = image.orientation, str(image.array.dtype)
        self.values = f"{image.array.min():.4g} to {image.array.max():.4g}"

    def columns(self) -> tuple[str, ...]:
        """The cells of the row, in the order of ``COLUMNS``."""
        ids = (
            " ".join(map(str, self.ids)) if len(self.ids) <= 8 else f"{len(self.ids)} of {self.ids[0]}..{self.ids[-1]}"
        )
        verdict = f"{len(self.faults)} fault{'s' * (len(self.faults) > 1)}" if self.faults else "ok"
        measured = (self.shape, self.spacing, self.orientation, self.dtype, self.values)
        return (self.case, self.where, *measured, ids or "-", verdict)


def _warn_of_placement(rows: Sequence[_Row]) -> None:
    """Say of which cases programs disagree about where their voxels lie; they may be many, of one kind."""
    noted = [row for row in rows if row.notes]
    for row in noted[:NAMED]:
        logger.warning("case '%s': %s", row.case, row.notes[0])
    if rest := noted[NAMED:]:
        logger.warning("the same or its like is true of %d more cases: %s", len(rest), ", ".join(r.case for r in rest))


COLUMNS = ("case", "list", "shape", "spacing (mm)", "axes", "type", "values", "label ids", "result")


def _table(rows: Sequence[_Row]) -> str:
    lines = [COLUMNS, *(row.columns() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
