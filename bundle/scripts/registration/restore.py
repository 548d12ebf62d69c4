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

"""Take label maps from the prepared grid back to the grid of each original file.

With T the matrix from points of the reference to those of a case (RAS mm), a voxel o of the case's own file, of affine
A, lies at T^-1 A o in the reference. A label is interpolated once, without blending its ids.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.original import read_label
from ..fields.grids import voxel_points
from ..fields.volumes import write_volume
from ..fields.world import sample_label_at
from ..files.datalist import case_name, find_volumes, read_json
from ..files.output_folder import OutputFolder, settle

__all__ = ["Restore", "smallest_type"]

logger = logging.getLogger(__name__)


class Restore:
    """Writes label maps that were made on the prepared grid on the grids of the original files.

    Args:
        prepared_dir: the folder that `preparing` wrote; its ``transforms/`` is all that is read.
        predictions: a label map, or a folder of them, each named after its case: ``CASE.nii.gz``, or with a postfix,
            ``CASE_seg.nii.gz``. Ids are not blended. A map may be on any grid in the space of the reference.
        output_dir: where files of the same names go.
        overwrite: also replace files there that this product did not write.
    """

    def __init__(
        self,
        prepared_dir: str | Path,
        predictions: str | Path | None,
        output_dir: str | Path,
        overwrite: bool = False,
    ) -> None:
        self.transforms = Path(prepared_dir).expanduser() / "transforms"
        self.predictions, self.output = predictions, OutputFolder(output_dir, overwrite)

    def run(self) -> list[Path]:
        """Restore.

        Returns:
            The files written.

        Raises:
            FileNotFoundError: there is nothing to restore, or no transform.
            ValueError: `predictions` or a case of this name is missing, a map holds fractions, or would overwrite
                itself.
            FileExistsError: a result would replace what this product did not write, or another process writes there.
        """
        if self.predictions is None:
            raise ValueError("--predictions is missing: a label map, or a folder of them, on the prepared grid.")
        source = Path(self.predictions).expanduser()
        for folder in (self.transforms.parent, source):
            settle(folder)
        paths = [source] if source.is_file() else list(find_volumes(source).values())
        if not paths:
            raise FileNotFoundError(f"no label map found in {source}.")
        records = {path: self._record(path) for path in paths}  # all are known before the first is written
        names = {path: f"{case_name(path)}.nii.gz" for path in paths}
        with self.output:
            self.output.refuse_foreign(names.values())
            with self.output.replacing() as folder:
                for path, record in records.items():
                    self._restore(path, record, folder / names[path])
        for path, record in records.items():
            logger.info("%s: on the grid of %s", self.output.path / names[path], record["image"])
        return [self.output.path / name for name in names.values()]

    def _record(self, path: Path) -> dict[str, Any]:
        """The transform of the case with the longest name that the file's name is, or begins with."""
        cases = [file.stem for file in self.transforms.glob("*.json")]
        name = case_name(path)
        found = [case for case in cases if name == case or name.startswith(f"{case}_")]
        if not found:
            known = ", ".join(sorted(cases)) or "none"
            raise ValueError(f"'{path.name}' is named after no case of {self.transforms}, which are: {known}.")
        if path.resolve().parent == self.output.path.resolve():
            raise ValueError(f"{path} would be overwritten: set `output_dir` to another folder.")
        return read_json(self.transforms / f"{max(found, key=len)}.json")

    def _restore(self, path: Path, record: Mapping[str, Any], target: Path) -> None:
        ids = read_label(str(path))
        to_reference = torch.linalg.inv(torch.tensor(record["matrix_ras"], dtype=torch.float64))
        affine = torch.tensor(record["affine"], dtype=torch.float64)
        label = sample_label_at(ids.as_tensor(), ids.affine, voxel_points(record["shape"], to_reference @ affine))
        write_volume(target, smallest_type(label[0].numpy()), affine.numpy())


def smallest_type(ids: np.ndarray) -> np.ndarray:
    """Ids in the smallest integer type that every program takes for a label map: int16, or int32 above 32767."""
    return ids.astype(np.int16 if ids.max(initial=0) < 2**15 else np.int32)
