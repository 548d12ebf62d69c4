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

"""Bring the moving image of each pair onto the fixed one by affine registration, before the networks see the pair."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.original import read_original
from ..data.pair_table import read_pair_table
from ..files import processes
from ..files.each_case import Failure, for_each, keep_going
from .prepare import Aligner, align, write_fixed
from .prepared_folder import PreparedFolder
from .target_grid import TargetGrid

__all__ = ["PreparePairs"]

PAIRS = "pairs.json"

logger = logging.getLogger(__name__)


class PreparePairs:
    """Writes both volumes of each pair on one grid, and ``pairs.json`` for `evaluating` and `registering`.

    The grid is made of the fixed image, which goes there without being moved. ``images/NAME_moving.nii.gz`` is the
    aligned moving image and ``images/NAME_fixed.nii.gz`` the fixed one, ``labels/`` has their labels where there are
    any, and ``transforms/NAME_moving.tfm`` leads from points of the fixed image to those of the moving one. What is
    done is not done again.

    Args:
        pairs: a table or JSON, see :func:`scripts.data.pair_table.read_pair_table`.
        output_dir: a new folder, or that of an earlier run with the same settings.
        aligner: as for :class:`scripts.alignment.prepare.Prepare`.
        grid: what is made of the grid of each fixed image. Its region is not that of a label: the fixed image of a
            pair is as a rule one of the test.
        align_region: align by what lies in the prepared grid, not by the whole fixed volume.
        fill_value: intensity where a prepared image lies outside of its file.
        corrections: ids of label files that are wrong -> what they should be.
        settings: whatever else the alignment depends on.
        overwrite: also replace files in ``output_dir`` that this product did not write, or that were changed since.

    Raises:
        ValueError: no pairs are named, or the region is that of a label.
    """

    def __init__(
        self,
        pairs: str | Path | None,
        output_dir: str | Path,
        aligner: Aligner,
        grid: TargetGrid | None = None,
        align_region: bool = False,
        fill_value: float = 0.0,
        corrections: Mapping[str, int] | None = None,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.grid, self.aligner, self.align_region = grid or TargetGrid(), aligner, align_region
        if pairs is None:
            raise ValueError("--pairs is missing: a table with the columns moving and fixed, or a JSON of pairs.")
        if self.grid.region == "label":
            raise ValueError("`region: label` would look at the label of a fixed image: take `foreground`, or null.")
        self.pairs = read_pair_table(pairs)
        self.corrections = {int(wrong): int(right) for wrong, right in (corrections or {}).items()}
        self.folder, self.settings = PreparedFolder(output_dir, fill_value, overwrite), dict(settings or {})

    def run(self) -> Path:
        """Prepare every pair that is not done yet.

        Returns:
            ``pairs.json``.

        Raises:
            ValueError: the folder holds something else.
            FileExistsError: a result would replace what this product did not write, or another process writes there.
            RuntimeError: at the end, naming every pair that failed and why; ``pairs.json`` leaves them out.
        """
        with self.folder.output:
            return self._run()

    def _run(self) -> Path:
        self.folder.claim(
            {
                **asdict(self.grid),
                "align_region": self.align_region,
                "fill_value": self.folder.fill_value,
                "corrections": {str(wrong): right for wrong, right in self.corrections.items()},
                **self.settings,
            }
        )
        volumes = [(name, pair[role]) for pair in self._waiting() for role, name in _names(pair).items()]
        self.folder.refuse_foreign(volumes, [PAIRS])
        results = for_each(self.pairs, keep_going(self._prepare, lambda pair: pair["name"]), "Aligning")
        failures = [result for result in results if isinstance(result, Failure)]
        done = [result for result in results if not isinstance(result, Failure)]
        path = self.folder.path / PAIRS
        if processes.rank() == 0:
            self.folder.finish({PAIRS: {"pairs": done}})
        logger.info("%d of %d pairs are ready: %s", len(done), len(self.pairs), path.resolve())
        if failures:
            raise RuntimeError(
                f"{len(failures)} of {len(self.pairs)} pairs could not be prepared, and {path} leaves them out:\n"
                + "\n".join(map(str, failures))
                + "\n  Correct them and run the same command again: pairs that are done are not repeated."
            )
        return path

    def _is_done(self, pair: Mapping[str, Any]) -> bool:
        reference = pair["fixed"]["image"]
        return all(self.folder.is_done(name, pair[role], reference) for role, name in _names(pair).items())

    def _waiting(self) -> list[Mapping[str, Any]]:
        """The pairs to do; a file that is missing is told when its turn comes."""
        found = [keep_going(self._is_done, lambda pair: pair["name"])(pair) for pair in self.pairs]
        return [pair for pair, done in zip(self.pairs, found, strict=True) if done is not True]

    def _prepare(self, pair: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare a pair, and give its entry in ``pairs.json``."""
        names, reference = _names(pair), pair["fixed"]["image"]
        if not self._is_done(pair):
            fixed, moving = (read_original(pair[role], self.corrections) for role in names)
            grid = self.grid.of(fixed)
            with tempfile.TemporaryDirectory() as folder:
                file = write_fixed(Path(folder), fixed, grid if self.align_region else None)
                matrix = align(moving, file, self.aligner)
            self.folder.write(names["fixed"], pair["fixed"], fixed, grid, np.eye(4), reference)
            self.folder.write(names["moving"], pair["moving"], moving, grid, matrix, reference)
        return {"name": pair["name"], **{role: self.folder.entry(name, pair[role]) for role, name in names.items()}}


def _names(pair: Mapping[str, Any]) -> dict[str, str]:
    """What the two volumes of a pair are called."""
    return {role: f"{pair['name']}_{role}" for role in ("fixed", "moving")}
