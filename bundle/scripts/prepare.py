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
before training. Each case's transform is kept, by which :mod:`scripts.restore` takes results back.

With T the matrix from points of the reference to those of a case (RAS mm) and G the affine of the prepared grid, the
prepared voxel q shows the case at T G q: every file is interpolated once.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scripts.affine_alignment import write_itk_transform
from scripts.cases import Cases
from scripts.datalist import LISTS, read_json
from scripts.files import replacing, write_json
from scripts.registration import Subject, load_subject, write_volume
from scripts.restore import smallest_type
from scripts.spatial import sample_at, sample_label_at, spacing_of, voxel_points

__all__ = ["Prepare"]

logger = logging.getLogger(__name__)

REGIONS = ("foreground", "label")
SETTINGS_FILE = "prepare.json"


class Prepare:
    """Writes an aligned copy of a data set: ``images/``, ``labels/``, ``transforms/`` and ``datalist.json``.

    Images are interpolated linearly; labels too, each id by itself, and the strongest one wins. Only images are
    aligned: a label is resampled by the transform of its image. ``transforms/CASE.tfm`` is an ITK transform and
    ``transforms/CASE.json`` its matrix beside the grid of the original file. It is written last, so that a case that
    has one is done: a run that was cut off goes on where it ended.

    Args:
        cases: the data set.
        output_dir: a new folder, or that of an earlier run with the same settings.
        aligner: takes the files of a case and of the reference, gives the matrix (4, 4) from points of the reference to
            those of the case, RAS mm: :class:`scripts.affine_alignment.Elastix`.
        reference: name of the case whose grid all others come to; else the first labelled one.
        pixdim: voxel size along the axes of the reference in mm; else its own.
        region: what of the reference is kept: None for all of it; ``foreground``, what is above the lowest value of
            its image; ``label``, its structures.
        margin: mm around the region.
        fill_value: intensity where a prepared image lies outside of its file (-1024 for CT).
        settings: whatever else the alignment depends on, so that a folder never holds a mixture.
    """

    def __init__(
        self,
        cases: Cases,
        output_dir: str | Path,
        aligner: Callable[[Path, Path], np.ndarray],
        reference: str | None = None,
        pixdim: Sequence[float] | float | None = None,
        region: str | None = None,
        margin: float = 0.0,
        fill_value: float = 0.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.cases, self.output_dir = cases, Path(output_dir).expanduser()
        self.reference = find_reference(cases, reference, region)
        self.pixdim, self.region, self.margin = pixdim, region, float(margin)
        self.fill_value = float(fill_value)
        self.aligner, self.settings = aligner, dict(settings or {})
        self._load = partial(load_subject, preprocessing=dict, label_ids=cases.label_ids)  # files as they are

    def run(self) -> Path:
        """Prepare every case that is not done yet.

        Returns:
            The new datalist.

        Raises:
            ValueError: the folder holds something else, two cases share a name, or an option is wrong.
            RuntimeError: at the end, naming every case that failed and why. The others are done, and the datalist
                has them alone.
        """
        listed = [case for name in LISTS for case in getattr(self.cases, name)]
        _check_names(listed)
        claim_folder(self.output_dir, self._settings())
        reference = self._load(self.reference)
        grid = target_grid(reference, self.pixdim, self.region, self.margin)
        failed: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            fixed = Path(folder) / "reference.nii.gz"
            write_volume(fixed, _image_of(reference)[0].numpy(), reference.file.affine)
            for case in tqdm(listed, "Aligning", disable=None, leave=False):
                if self._is_done(case):
                    continue
                try:
                    self._prepare(case, grid, partial(self._align, fixed=fixed))
                except Exception as error:  # whatever is wrong with a case, the others are to be prepared all the same
                    failed[case["case"]] = f"{type(error).__name__}: {error}"
                    logger.error("case '%s' failed: %s", case["case"], error)
        return self._finish(listed, failed)

    def _settings(self) -> dict[str, Any]:
        return {
            "reference": self.reference["case"],
            "pixdim": self.pixdim,
            "region": self.region,
            "margin": self.margin,
            "fill_value": self.fill_value,
            **self.settings,
        }

    def _path(self, kind: str, case: Mapping[str, str]) -> Path:
        suffix = {"images": ".nii.gz", "labels": ".nii.gz", "transforms": ".json"}[kind]
        return self.output_dir / kind / f"{case['case']}{suffix}"

    def _is_done(self, case: Mapping[str, str]) -> bool:
        """Whether everything of a case is there, and made from these very files."""
        record = self._path("transforms", case)
        kinds = ["images", "labels"] if "label" in case else ["images"]
        if not record.is_file() or not all(self._path(kind, case).is_file() for kind in kinds):
            return False
        return read_json(record)["image"] == case["image"]

    def _align(self, subject: Subject, fixed: Path) -> np.ndarray:
        if subject.case == self.reference["case"]:
            return np.eye(4)
        with tempfile.TemporaryDirectory() as folder:  # any format and axes, as MONAI understands them
            moving = Path(folder) / f"{subject.case}.nii.gz"
            write_volume(moving, _image_of(subject)[0].numpy(), subject.file.affine)
            return self.aligner(moving, fixed)

    def _prepare(
        self, case: Mapping[str, str], grid: tuple[tuple[int, ...], torch.Tensor], find: Callable[[Subject], np.ndarray]
    ) -> None:
        subject, (shape, affine) = self._load(case), grid
        matrix = find(subject)
        points = voxel_points(shape, torch.from_numpy(matrix) @ affine)
        image = sample_at(_image_of(subject), subject.file.affine, points, fill=self.fill_value)
        write_volume(self._path("images", case), image[0].numpy(), affine.numpy())
        if subject.label is not None:
            classes = sample_label_at(subject.label.as_tensor(), subject.label.affine, points)[0].numpy()
            ids = smallest_type(np.array([0, *self.cases.label_ids])[classes])
            write_volume(self._path("labels", case), ids, affine.numpy())
        record = self._path("transforms", case)
        with replacing(record.with_suffix(".tfm")) as temporary:
            write_itk_transform(temporary, matrix)
        content = {
            "case": case["case"],
            "image": case["image"],
            "reference": self.reference["case"],
            "matrix_ras": matrix.tolist(),
            "shape": list(subject.file.shape[1:]),
            "affine": np.asarray(subject.file.affine).tolist(),
        }
        write_json(record, content)

    def _finish(self, listed: Sequence[dict], failed: Mapping[str, str]) -> Path:
        lists = {name: [self._entry(case, failed) for case in getattr(self.cases, name)] for name in LISTS}
        content = {"labels": {"0": "background", **{str(i): name for i, name in self.cases.labels.items()}}}
        content |= {name: [entry for entry in entries if entry] for name, entries in lists.items()}
        write_json(path := self.output_dir / "datalist.json", content)
        logger.info("%d of %d cases are ready: %s", len(listed) - len(failed), len(listed), path.resolve())
        if failed:
            faults = "\n".join(f"case '{case}': {fault}" for case, fault in failed.items())
            raise RuntimeError(
                f"{len(failed)} of {len(listed)} cases could not be prepared, and {path} leaves them out:\n{faults}\n"
                "  Correct them and run the same command again: cases that are done are not repeated."
            )
        return path

    def _entry(self, case: Mapping[str, str], failed: Mapping[str, str]) -> dict[str, str] | None:
        """A case in the new datalist, its paths relative to it."""
        if case["case"] in failed:
            return None
        keys = {"image": "images", "label": "labels"}
        paths = {key: self._path(kind, case) for key, kind in keys.items() if key in case}
        return {"case": case["case"]} | {
            key: path.relative_to(self.output_dir).as_posix() for key, path in paths.items()
        }


def find_reference(cases: Cases, name: str | None, region: str | None) -> dict:
    """The case that all others come to; a region around its label needs one whose label is for training.

    Raises:
        ValueError: no such case or region, or the region is that of a label that must not be looked at.
    """
    if region is not None and region not in REGIONS:
        raise ValueError(f"`region` should be null or one of {', '.join(REGIONS)}, found {region!r}.")
    listed = {case["case"]: case for key in LISTS for case in getattr(cases, key)}
    if name is not None and str(name) not in listed:
        raise ValueError(f"`reference`: there is no case '{name}'. There are: {', '.join(listed)}.")
    case = listed[str(name)] if name is not None else next(iter(listed.values()))
    if region == "label" and case not in cases.labeled:
        raise ValueError(f"`region: label` needs a reference of the list 'labeled', and '{case['case']}' is not in it.")
    return case


def target_grid(
    reference: Subject, pixdim: Sequence[float] | float | None, region: str | None, margin: float
) -> tuple[tuple[int, ...], torch.Tensor]:
    """The grid of the prepared files: that of the reference, cut to a region, at a voxel size.

    The outer faces of its first voxels are those of the region, and along the last ones it has a part of a voxel more
    where the sizes do not divide. Without options it is the reference's own grid.

    Args:
        reference: image (1, X, Y, Z), and label where the region is ``label``.
        pixdim: mm along the three array axes, or one number for all of them; None keeps the reference's.
        region: None, ``foreground`` or ``label``.
        margin: mm around the region, as far as the volume goes.

    Returns:
        Shape and affine (4, 4), voxel to RAS mm, float64.

    Raises:
        ValueError: the region is empty, or a voxel size is not positive.
    """
    affine = torch.as_tensor(reference.file.affine, dtype=torch.float64).as_subclass(torch.Tensor)
    own = torch.tensor(spacing_of(affine), dtype=torch.float64)
    size = own if pixdim is None else torch.as_tensor(pixdim, dtype=torch.float64).expand(3)
    if not (size > 0).all():
        raise ValueError(f"`pixdim` should be one or three lengths in mm above 0, found {pixdim!r}.")
    first, last = torch.zeros(3), torch.tensor(reference.file.shape[1:]) - 1
    if region is not None:
        image = _image_of(reference)
        inside = image > image.min() if region == "foreground" else reference.label.as_tensor() > 0
        if not inside.any():
            raise ValueError(f"case '{reference.case}', the reference, has no {region} to cut the region around.")
        voxels, around = inside[0].nonzero(), (margin / own).ceil()
        first = (voxels.amin(0) - around).clamp(min=0)
        last = torch.minimum(voxels.amax(0) + around, last)
    extent = (last - first + 1) * own
    shape = (extent / size - 1e-6).ceil().int().clamp(min=1)  # a size that divides, but for rounding, adds no voxel
    scale = torch.eye(4, dtype=torch.float64)
    scale[:3, :3] = torch.diag(size / own)
    scale[:3, 3] = first - 0.5 + 0.5 * size / own
    return tuple(shape.tolist()), affine @ scale


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write down what a folder is for, or refuse it where it serves something else.

    Raises:
        ValueError: the folder holds other files, or was prepared with other settings.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        if (earlier := read_json(path)) != settings:
            raise ValueError(
                f"{folder} was prepared with other settings. Use another folder, or remove this one.\n"
                f"  there: {earlier}\n  now:   {dict(settings)}"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and nothing of it is from here: set `output_dir` to a new folder.")
    else:
        write_json(path, settings)


def _check_names(cases: Sequence[Mapping[str, str]]) -> None:
    names = [case["case"] for case in cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"several cases are named {', '.join(repeated)}, and their files would overwrite each other.\n"
            "  Give their entries in the datalist a `case` each."
        )


def _image_of(subject: Subject) -> torch.Tensor:
    return subject.file.as_tensor().float()
