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

"""Bring the cases of a data set onto the grid of one of them by affine registration.

The networks compare volumes voxel by voxel and do not look far: cases that lie apart in the scanner are aligned once,
before training. Each case's transform is kept, by which :mod:`scripts.registration.restore` takes results back.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cases import Cases
from ..data.folds import check_folds, fold_lists
from ..data.original import Original, check_label_ids, read_original
from ..fields.grids import voxel_points
from ..fields.volumes import write_volume
from ..fields.world import sample_at
from ..files import processes
from ..files.datalist import LISTS
from ..files.each_case import Failure, for_each, keep_going
from .prepared_folder import PreparedFolder, repeated_names
from .target_grid import Grid, TargetGrid

__all__ = ["Prepare", "align"]

logger = logging.getLogger(__name__)

DATALIST = "datalist.json"

#: takes the files of a volume and of the one it comes to, gives the matrix from points of the latter to the former
Aligner = Callable[[Path, Path], np.ndarray]


class Prepare:
    """Writes an aligned copy of a data set: ``images/``, ``labels/``, ``transforms/`` and ``datalist.json``.

    Only images are aligned: a label is resampled by the transform of its image. A case that is done is not done again,
    so a run that was cut off goes on where it ended.

    Args:
        cases: the data set.
        output_dir: a new folder, or that of an earlier run with the same settings.
        aligner: takes the files of a case and of the reference, gives the matrix (4, 4) from points of the reference to
            those of the case, RAS mm: :class:`scripts.alignment.affine.Elastix`.
        reference: name of the case that all others come to; else the first labelled one.
        grid: what is made of the reference's grid.
        align_region: align by what lies in the prepared grid, not by the whole volume of the reference.
        fill_value: intensity where a prepared image lies outside of its file (-1024 for CT).
        corrections: ids of label files that are wrong -> what they should be.
        folds: also write a datalist for each of so many parts of the labelled cases.
        settings: whatever else the alignment depends on, so that a folder never holds a mixture.
        overwrite: also replace files in ``output_dir`` that this product did not write, or that were changed since.

    Raises:
        ValueError: two cases share a name, there is no such reference, or the cases cannot be parted into `folds`.
    """

    def __init__(
        self,
        cases: Cases,
        output_dir: str | Path,
        aligner: Aligner,
        reference: str | None = None,
        grid: TargetGrid | None = None,
        align_region: bool = False,
        fill_value: float = 0.0,
        corrections: Mapping[str, int] | None = None,
        folds: int | None = None,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.cases, self.aligner, self.grid = cases, aligner, grid or TargetGrid()
        self.listed = [case for name in LISTS for case in getattr(cases, name)]
        if repeated := repeated_names([case["case"] for case in self.listed]):
            raise ValueError(
                f"several cases are named {', '.join(repeated)}, and their files would overwrite each other.\n"
                "  Give their entries in the datalist a `case` each."
            )
        self.reference = find_reference(cases, reference, self.grid.region)
        if folds:
            check_folds(cases, folds)
        self.folds, self.align_region = folds, align_region
        self.corrections = {int(wrong): int(right) for wrong, right in (corrections or {}).items()}
        self.folder, self.settings = PreparedFolder(output_dir, fill_value, overwrite), dict(settings or {})

    def run(self) -> Path:
        """Prepare every case that is not done yet.

        Returns:
            The new datalist.

        Raises:
            ValueError: the folder holds something else, or a label has an id that nobody named; before any case is
                aligned.
            FileExistsError: a result would replace what this product did not write, or another process writes there.
            RuntimeError: at the end, naming every case that failed and why. The others are done, and the datalist
                has them alone.
        """
        with self.folder.output:
            return self._run()

    def _run(self) -> Path:
        self.folder.claim(self._settings())
        waiting = [case for case in self.listed if not self.folder.is_done(case["case"], case, self.reference["case"])]
        self.folder.refuse_foreign([(case["case"], case) for case in waiting], [DATALIST])
        check_label_ids(waiting, self.cases.named_ids, self.corrections)
        original = read_original(self.reference, self.corrections)
        grid = self.grid.of(original)
        with tempfile.TemporaryDirectory() as folder:
            fixed = write_fixed(Path(folder), original, grid if self.align_region else None)
            work = partial(self._prepare, grid=grid, fixed=fixed)
            results = for_each(waiting, keep_going(work, lambda case: case["case"]), "Aligning")
        return self._finish([result for result in results if isinstance(result, Failure)])

    def _settings(self) -> dict[str, Any]:
        return {
            "reference": self.reference["case"],
            **asdict(self.grid),
            "align_region": self.align_region,
            "fill_value": self.folder.fill_value,
            "corrections": {str(wrong): right for wrong, right in self.corrections.items()},
            **self.settings,
        }

    def _prepare(self, case: Mapping[str, str], grid: Grid, fixed: Path) -> None:
        original, reference = read_original(case, self.corrections), self.reference["case"]
        matrix = np.eye(4) if case["case"] == reference else align(original, fixed, self.aligner)
        self.folder.write(case["case"], case, original, grid, matrix, reference)

    def _finish(self, failures: Sequence[Failure]) -> Path:
        failed = {failure.case for failure in failures}
        content: dict[str, Any] = {
            "labels": {"0": "background", **{str(i): name for i, name in self.cases.named_ids.items()}}
        }
        for name in LISTS:
            done = [case for case in getattr(self.cases, name) if case["case"] not in failed]
            content[name] = [self.folder.entry(case["case"], case, self.cases.missing_names(case)) for case in done]
        folds = fold_lists(content, self.folds) if self.folds and not failures else {}
        if processes.rank() == 0:
            earlier = [path.name for path in self.folder.path.glob("datalist_fold*.json")]
            self.folder.finish({**folds, DATALIST: content}, earlier)
        path, count = self.folder.path / DATALIST, len(self.listed)
        logger.info("%d of %d cases are ready: %s", count - len(failed), count, path.resolve())
        if failures:
            raise RuntimeError(
                f"{len(failed)} of {count} cases could not be prepared, and {path} leaves them out:\n"
                + "\n".join(f"case {failure}" for failure in failures)
                + "\n  Correct them and run the same command again: cases that are done are not repeated."
                + ("\n  The datalists of the folds come with the last case." if self.folds else "")
            )
        return path


def find_reference(cases: Cases, name: str | None, region: str | None) -> dict:
    """The case that all others come to; a region around its label needs one whose label is for training.

    Raises:
        ValueError: there is no such case, or the region is that of a label that must not be looked at.
    """
    listed = {case["case"]: case for key in LISTS for case in getattr(cases, key)}
    if name is not None and str(name) not in listed:
        raise ValueError(f"`reference`: there is no case '{name}'. There are: {', '.join(listed)}.")
    case = listed[str(name)] if name is not None else next(iter(listed.values()))
    if region == "label" and case not in cases.labeled:
        raise ValueError(f"`region: label` needs a reference of the list 'labeled', and '{case['case']}' is not in it.")
    return case


def write_fixed(folder: Path, reference: Original, grid: Grid | None) -> Path:
    """Write what others are aligned with: the image of a reference as it is, or on a grid."""
    image, affine = reference.image.as_tensor().float(), np.asarray(reference.image.affine)
    if grid is not None:
        shape, affine = grid
        image = sample_at(image, reference.image.affine, voxel_points(shape, affine), fill=float(image.min()))
    path = folder / f"fixed_{reference.case}.nii"  # a whole CT takes many seconds to compress
    write_volume(path, image[0].numpy(), np.asarray(affine))
    return path


def align(moving: Original, fixed: Path, aligner: Aligner) -> np.ndarray:
    """The matrix (4, 4) from points of the fixed file to those of a volume, RAS mm."""
    with tempfile.TemporaryDirectory() as folder:  # any format and axes, as MONAI understands them
        file = Path(folder) / f"{moving.case}.nii"
        write_volume(file, moving.image[0].numpy(), np.asarray(moving.image.affine))
        return aligner(file, fixed)
