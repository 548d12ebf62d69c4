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
"""Apply saved transforms to files: images, label maps and points."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.ids import whole_ids
from ..data.image_checks import check_files, fill_number
from ..data.original import read_label
from ..data.readers import load_volume
from ..fields.grids import change_grid, inside_grid, ras_to_lps, voxel_points
from ..fields.points import PointSet, points_suffix, read_point_set, write_points
from ..fields.transform_files import check_chain, read_transform, write_chain, write_displacement
from ..fields.transforms import Chain, WorldTransform
from ..fields.volumes import as_stored, write_volume
from ..fields.world import sample_at, sample_label_at
from ..files.datalist import case_name
from ..files.marks import KEY, written_by
from ..files.output_folder import OutputFolder
from ..files.writing import write_json
from .restore import smallest_type

__all__ = ["ApplyTransform"]

logger = logging.getLogger(__name__)

Files = str | Path | Sequence[str | Path] | None
ENDINGS = {"image": "_warped.nii.gz", "label": "_warped_label.nii.gz"}
# hardly an image has so few values, and hardly a label map has more; a million voxels are looked through in no time
FEW_VALUES, LOOKED_AT = 64, 10**6
MOSTLY_OUTSIDE = 75.0  # percent of a result; a reference with much air around its object has half


class ApplyTransform:
    """Carries files through one transform, or a chain of several, and interpolates each image and label once.

    A transform takes points of the fixed image to points of the moving one. Images and labels go the other way: from
    the space where the chain ends onto the grid of ``reference``, in the space where it begins. Into ``output_dir``:
    ``NAME_warped.nii.gz`` of images, ``NAME_warped_label.nii.gz`` of labels, with their ids, ``NAME_transformed`` of
    points, in the format and the coordinates of their file, and ``summary.json``.

    Args:
        transform: a file, or a list of them in the order in which a point goes through them, which is the order of
            ``antsApplyTransforms -t``. ``{"inverse": FILE}`` in place of a file inverts this one.
        output_dir: where the files go.
        reference: the image whose grid images and labels come onto.
        image: a file or a list of them, interpolated linearly. One that looks like a label map is refused.
        label: a file or a list of them, whose ids are never blended.
        points: a file or a list of them: ``.csv`` in mm, or Slicer's ``.fcsv`` or ``.mrk.json``. What else a file holds
            stays; points that were never placed are not moved, and counted.
        coordinates: ``LPS`` or ``RAS``: that of points in a CSV.
        inverse: go the other way, the whole chain backwards. What is left of each inverted field is reported.
        fill_value: of images where they come from outside their file.
        combined: a file for the whole chain: ``.nii.gz`` for one field on the grid of ``reference``, or ``.h5`` for a
            composite of ITK.
        overwrite: also replace files that this product did not write.
    """

    def __init__(
        self,
        transform: str | Path | Mapping[str, str] | Sequence[str | Path | Mapping[str, str]] | None,
        output_dir: str | Path,
        reference: str | Path | None = None,
        image: Files = None,
        label: Files = None,
        points: Files = None,
        coordinates: str | None = None,
        inverse: bool = False,
        fill_value: float = 0.0,
        combined: str | Path | None = None,
        overwrite: bool = False,
    ) -> None:
        self.transforms, self.output_dir, self.reference = _listed(transform), Path(output_dir), reference
        self.output = OutputFolder(output_dir, overwrite)
        self.images, self.labels, self.points = _listed(image), _listed(label), _listed(points)
        self.coordinates, self.inverse, self.fill_value = coordinates, inverse, fill_number(fill_value)
        self.combined = None if combined is None else Path(combined)

    def run(self) -> dict[str, Any]:
        """Apply and write.

        Returns:
            What ``summary.json`` holds.

        Raises:
            FileNotFoundError: when a file is missing, before anything is written.
            ValueError: when an argument is missing, a file is not what it is given as, two results would have one name,
                or one would replace a file that is read; before anything is written.
            FileExistsError: a result would replace what this product did not write, or another process writes there.
        """
        targets = self._check()
        with self.output:
            self.output.refuse_foreign([*map(Path.absolute, targets.values()), "summary.json"])
            with self.output.replacing():
                return self._apply(targets)

    def _apply(self, targets: Mapping[tuple[str, Any], Path]) -> dict[str, Any]:
        staged = {key: self.output.staged(target.absolute()) for key, target in targets.items()}
        chain = Chain([step for entry in self.transforms for step in _read_entry(entry)])
        chain = chain.inverse() if self.inverse else chain
        if self._is_composite():
            check_chain(chain.steps, self.combined)
        point_sets = {path: read_point_set(path, self.coordinates) for path in self.points}
        if self.combined or self.images or self.labels:
            self._write_volumes(chain, staged)
        for path, point_set in point_sets.items():
            _transform_points(chain, point_set, path, staged["points", path])
        summary: dict[str, Any] = {
            "transform": [dict(entry) if isinstance(entry, Mapping) else str(entry) for entry in self.transforms],
            "inverse": self.inverse,
            "written": [str(target) for target in targets.values()],
            "points_not_placed": {str(path): list(points.not_placed) for path, points in point_sets.items()},
            "inverses_of_fields": chain.report(),
            KEY: written_by(),
        }
        write_json(self.output.staged("summary.json"), summary)
        for entry in summary["inverses_of_fields"]:
            _tell_residual(entry)
        logger.info("written to %s: %s", self.output_dir.resolve(), ", ".join(each.name for each in targets.values()))
        return summary

    def _check(self) -> dict[tuple[str, Any], Path]:
        """All that can be known to be wrong before anything is computed; the file to write for each kind and input."""
        if not self.transforms:
            raise ValueError("--transform is missing: a saved transform, or a list of them.")
        if not (self.images or self.labels or self.points or self.combined):
            raise ValueError("nothing to apply the transform to: give --image, --label, --points or --combined.")
        if self.combined and not self.combined.name.endswith((".nii", ".nii.gz", ".h5")):
            raise ValueError(f"--combined '{self.combined}': expected .nii.gz (one field) or .h5 (its parts).")
        if self.reference is None and (self.images or self.labels or (self.combined and not self._is_composite())):
            raise ValueError(
                "--reference is missing: the image whose grid the result is to lie on. It is the fixed image, or with "
                "--inverse True the moving one."
            )
        given = {"image": self.images, "label": self.labels, "points": self.points}
        given["reference"] = _listed(self.reference)
        for name, paths in given.items():
            for path in paths:
                if not Path(path).is_file():
                    raise FileNotFoundError(f"no such file: --{name} '{path}'.")
        targets = self._targets()
        self._refuse_to_overwrite(targets.values(), [path for paths in given.values() for path in paths])
        self._check_volumes()
        return targets

    def _check_volumes(self) -> None:
        """Read images and labels once, so that a bad one among them is told before any result is written."""
        files = [*(("image", path) for path in self.images), *(("label", path) for path in self.labels)]
        check_files(files, may_be_constant=True)
        for path in self.images:
            if _looks_like_labels(_load(path).as_tensor()):
                raise ValueError(f"--image '{path}' looks like a label map: its ids would be blended. Use --label.")
        for path in self.labels:
            read_label(str(path))

    def _refuse_to_overwrite(self, targets: Iterable[Path], files: Iterable[str | Path]) -> None:
        """A result in the place of a file that is read would be the end of that file, a transform's above all."""
        transforms = itertools.chain(*(e.values() if isinstance(e, Mapping) else [e] for e in self.transforms))
        read = {Path(str(path)).resolve() for path in (*files, *transforms)}
        for target in targets:
            if target.resolve() in read:
                remedy = "Choose another `--combined`" if target == self.combined else "Choose another `--output_dir`"
                raise ValueError(f"'{target}' would be written, and is one of the files that are read. {remedy}.")

    def _targets(self) -> dict[tuple[str, Any], Path]:
        targets = {("combined", self.combined): self.combined} if self.combined else {}
        for kind, paths in (("image", self.images), ("label", self.labels), ("points", self.points)):
            for path in paths:
                target = self.output_dir / _result_name(kind, path)
                if target in targets.values():
                    raise ValueError(
                        f"two files would be written as '{target}', one of them from --{kind} '{path}'. Give them to "
                        "two commands with different `output_dir`."
                    )
                targets[kind, path] = target
        return targets

    def _is_composite(self) -> bool:
        """Whether the combined transform keeps its parts; otherwise it is one field."""
        return self.combined is not None and self.combined.suffix == ".h5"

    @torch.no_grad()
    def _write_volumes(self, chain: Chain, targets: Mapping[tuple[str, Any], Path]) -> None:
        reference = None if self.reference is None else _load(self.reference)
        if self._is_composite():
            write_chain(targets["combined", self.combined], chain.steps)
        if reference is None:
            return
        affine, here = reference.affine, voxel_points(reference.shape[1:], reference.affine)
        there = chain(here)
        if self.combined and not self._is_composite():
            write_displacement(targets["combined", self.combined], ras_to_lps(there - here).float(), affine)
        for path in self.images:
            image = _load(path)
            _warn_of_outside(there, image, path)
            warped = sample_at(image.as_tensor().float(), image.affine, there, fill=self.fill_value)
            write_volume(targets["image", path], as_stored(warped[0].numpy().astype(np.float32), image.meta), affine)
        for path in self.labels:
            ids = _load(path, read_label)
            _warn_of_outside(there, ids, path)
            warped = sample_label_at(ids.as_tensor(), ids.affine, there)
            write_volume(targets["label", path], smallest_type(warped[0].numpy()), affine)


def _listed(entries: Any) -> list[Any]:
    if entries is None:
        return []
    return list(entries) if isinstance(entries, Sequence) and not isinstance(entries, str) else [entries]


def _read_entry(entry: str | Path | Mapping[str, str]) -> list[WorldTransform]:
    """The steps of an entry of the chain."""
    if not isinstance(entry, Mapping):
        return read_transform(entry)
    if set(entry) != {"inverse"}:
        raise ValueError(f"an entry of `transform` is a file or {{'inverse': FILE}}, found {dict(entry)}.")
    return Chain(read_transform(entry["inverse"])).inverse().steps


def _result_name(kind: str, path: str | Path) -> str:
    if kind != "points":
        return case_name(path) + ENDINGS[kind]
    suffix = points_suffix(path) or Path(path).suffix
    return f"{Path(path).name[: -len(suffix)]}_transformed{suffix}"


def _load(path: str | Path, read: Callable[[str], Any] | None = None) -> Any:
    """One volume (1, X, Y, Z) with its affine."""
    volume = (read or load_volume)(str(path))
    if volume.ndim != 4 or volume.shape[0] != 1:
        raise ValueError(f"'{path}' is not one 3D volume: with its channels it has shape {tuple(volume.shape)}.")
    return volume


def _warn_of_outside(points: torch.Tensor, volume: Any, path: str | Path) -> None:
    """Say when most of a result comes from beyond its file: the transform is of others, or means something else."""
    some = points[::2, ::2, ::2]
    inside = inside_grid(change_grid(some, torch.eye(4), volume.affine), volume.shape[1:])
    outside = 100 * (1 - inside.float().mean().item())
    if outside > MOSTLY_OUTSIDE:
        logger.warning(
            "'%s': %.0f %% of the result lies outside of this file, and is filled. Is the transform of these images, "
            "in this direction, and in LPS mm?",
            *(path, outside),
        )


def _looks_like_labels(volume: torch.Tensor) -> bool:
    """Whether there are but a few values, all whole, in a volume; of a large one every n-th voxel is looked at."""
    values = volume.flatten()
    values = whole_ids(values[:: max(1, len(values) // LOOKED_AT)])
    return bool((values == values.round()).all()) and 2 <= len(values.unique()) <= FEW_VALUES


def _transform_points(chain: Chain, point_set: PointSet, source: str | Path, target: Path) -> None:
    moved, outside = chain.trace(torch.from_numpy(point_set.positions))
    if count := int(outside.sum()):
        message = "%s: %d of %d points lie outside the grid of a field, and move as its border does"
        logger.warning(message, source, count, len(moved))
    write_points(target, point_set.moved_to(moved.numpy()))


def _tell_residual(entry: Mapping[str, Any]) -> None:
    logger.info(
        "inverse of %(field)s: largest residual %(residual_mm).4f mm; %(percent_without_inverse).3f %% of the points "
        "have no inverse (within 0.1 mm), the field folds at %(folding_percent).3f %% of its voxels",
        entry,
    )
