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

"""A folder of prepared volumes: what lies where, what is done already, and how a volume gets there.

With T the matrix from points of the reference to those of a volume (RAS mm) and G the affine of the prepared grid, the
prepared voxel q shows the volume at T G q: every file is interpolated once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.original import Original
from ..data.volumes import Volume, image_faults
from ..fields.grids import voxel_points
from ..fields.volumes import write_volume
from ..fields.world import sample_at, sample_label_at
from ..files.datalist import read_json
from ..files.manifest import PRIVATE
from ..files.output_folder import OutputFolder, stamps
from ..files.writing import replacing, write_json, write_result
from ..registration.restore import smallest_type
from .affine import write_itk_transform
from .target_grid import Grid

__all__ = ["PreparedFolder"]

SETTINGS_FILE = "prepare.json"
KINDS = {"image": "images", "label": "labels"}


class PreparedFolder:
    """``images/``, ``labels/`` and ``transforms/``, with a file of each for every volume.

    Images are interpolated linearly; labels too, each id by itself, and the strongest one wins. ``transforms/NAME.tfm``
    is an ITK transform and ``transforms/NAME.json`` its matrix beside the grid of the original file. It is written
    last, so that a volume that has one is done. All of it comes in place at once, with the list of the cases; a run
    that was stopped before goes on where it ended.

    Args:
        path: the folder.
        fill_value: intensity where a prepared image lies outside of its file.
        overwrite: also replace files in it that this product did not write, or that were changed since.
    """

    def __init__(self, path: str | Path, fill_value: float = 0.0, overwrite: bool = False) -> None:
        self.output, self.fill_value = OutputFolder(path, overwrite), float(fill_value)
        self.path, self.staging = self.output.path, self.output.staging

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Refuse a folder that serves something else, and keep what a run of these settings left unfinished.

        Raises:
            ValueError: the folder holds other files, or was prepared with other settings.
        """
        file, now = self.path / SETTINGS_FILE, json.loads(json.dumps(settings))  # tuples become lists there
        if file.is_file():
            if (earlier := read_json(file)) != now:
                raise ValueError(
                    f"{self.path} was prepared with other settings. Use another folder, or remove this one.\n"
                    f"  there: {earlier}\n  now:   {now}"
                )
        elif self.path.is_dir() and any(path.name != PRIVATE for path in self.path.iterdir()):
            raise ValueError(
                f"{self.path} is not empty, and nothing of it is from here: set `output_dir` to a new folder."
            )
        self.output.settings = now
        self.output.resume()

    def finish(self, lists: Mapping[str, Mapping[str, Any]], earlier: Sequence[str] = ()) -> None:
        """Put all volumes in place, and what lists them.

        Args:
            lists: file name -> content.
            earlier: lists of an earlier run, which go where there is no new one.
        """
        for name, content in {**lists, SETTINGS_FILE: self.output.settings}.items():
            write_json(self.staging / name, content)
        self.output.place(earlier)

    def is_done(self, name: str, case: Mapping[str, str], reference: str) -> bool:
        """Whether everything of a volume is there, and made from these very files."""
        for folder in (self.staging, self.path):
            files = [folder / path for path in self._files(name, case)]
            if not all(path.is_file() for path in files):
                continue
            made = read_json(folder / _record(name))
            now = {"image": case["image"], "reference": reference, "files": _stamps(case)}
            if {**now, **{key: made[key] for key in now if key in made}} == now:  # 0.5.0 wrote no stamps
                return True
        return False

    def refuse_foreign(self, volumes: Sequence[tuple[str, Mapping[str, str]]], lists: Sequence[str]) -> None:
        """Refuse to replace what others made, or changed: names and cases of the volumes to make, and the lists."""
        files = [path for name, case in volumes for path in self._files(name, case)]
        self.output.refuse_foreign([*files, *lists, SETTINGS_FILE])

    def write(
        self, name: str, case: Mapping[str, str], original: Original, grid: Grid, matrix: np.ndarray, reference: str
    ) -> None:
        """Bring a volume to a grid, and keep how that was done.

        Args:
            name: of its files.
            case: where it comes from.
            original: its volumes.
            grid: where it goes.
            matrix: (4, 4), from points of the reference to those of the volume, RAS mm.
            reference: what the matrix leads from.

        Raises:
            ValueError: nothing that could be learnt from comes of it: it is constant, or holds NaN or infinity.
        """
        shape, affine = grid
        points = voxel_points(shape, torch.from_numpy(matrix) @ affine)
        image = sample_at(original.image.as_tensor().float(), original.image.affine, points, fill=self.fill_value)
        if faults := image_faults(Volume(image[0].numpy(), affine.numpy())):
            raise ValueError(f"on the prepared grid {faults[0]} Does the image lie where '{reference}' does?")
        (self.staging / _record(name)).unlink(missing_ok=True)  # of files that were changed since
        write_volume(self.staging / _volume(name, "image"), image[0].numpy(), affine.numpy())
        if original.label is not None:
            label = sample_label_at(original.label.as_tensor(), original.label.affine, points)
            write_volume(self.staging / _volume(name, "label"), smallest_type(label[0].numpy()), affine.numpy())
        record = self.staging / _record(name)
        with replacing(record.with_name(f"{name}.tfm")) as temporary:
            write_itk_transform(temporary, matrix)
        content = {
            "case": name,
            "image": case["image"],
            "reference": reference,
            "files": _stamps(case),
            "matrix_ras": matrix.tolist(),
            "shape": list(original.image.shape[1:]),
            "affine": np.asarray(original.image.affine).tolist(),
        }
        write_result(record, content)

    def entry(self, name: str, case: Mapping[str, str], missing: Sequence[str] = ()) -> dict[str, Any]:
        """A volume in a datalist of the folder: its paths are relative to it; and what its label leaves out."""
        entry = {"case": name, **{key: _volume(name, key) for key in KINDS if key in case}}
        return entry | ({"missing": list(missing)} if missing else {})

    def _files(self, name: str, case: Mapping[str, str]) -> list[str]:
        return [*(_volume(name, key) for key in KINDS if key in case), _record(name)]


def _volume(name: str, key: str) -> str:
    return f"{KINDS[key]}/{name}.nii.gz"


def _record(name: str) -> str:
    return f"transforms/{name}.json"


def repeated_names(names: Sequence[str]) -> list[str]:
    """The names that stand more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def _stamps(case: Mapping[str, str]) -> dict[str, list[Any]]:
    keys = [key for key in KINDS if key in case]
    return dict(zip(keys, stamps(Path(case[key]) for key in keys), strict=True))
