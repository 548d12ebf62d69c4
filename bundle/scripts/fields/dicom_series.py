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
"""A DICOM series, one slice a file: which slices there are, in which order, and whether they make a volume at all.

ITK, and MONAI by it, read a series with a missing slice as one of even, thicker slices, and a series of a tilted gantry
as if it stood straight: all voxels between the ends, or beside the axis, are told at the wrong place. Such series are
refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .placement import LARGEST_SHEAR, TOLERANCE

__all__ = ["SeriesFault", "read_series", "sorted_slices"]

UNEVEN = 0.01  # of the distance between slices
TURNED = 1e-3  # between the axes of two slices, as numbers of their direction

SERIES, POSITION, DIRECTION, SPACING = "0020|000e", "0020|0032", "0020|0037", "0028|0030"
ROWS, COLUMNS, FRAMES, SAMPLES, DESCRIPTION = "0028|0010", "0028|0011", "0028|0008", "0028|0002", "0008|103e"
ADVICE = "Export the series again, whole, or convert it by a program that resamples it, such as dcm2niix."


class SeriesFault(ValueError):
    """A folder is no series, or holds one that is not one straight, even volume."""


@dataclass(frozen=True)
class Slice:
    """What the header of a slice says.

    Args:
        path: the file.
        grid: rows, columns, and mm between them.
        position: (3,) LPS mm of its first voxel.
        axes: (2, 3) unit vectors along its rows and columns.
    """

    path: Path
    grid: tuple[str, ...]
    position: np.ndarray
    axes: np.ndarray


def read_series(folder: str | Path) -> Any:
    """Read the only series of a folder by ITK.

    Returns:
        A 3D image of ITK, float32, its slices in the order of their positions.

    Raises:
        SeriesFault: as :func:`sorted_slices` does.
    """
    import itk  # takes a while, and nothing else of most commands needs it

    return itk.imread([str(path) for path in sorted_slices(folder)], itk.F)


def sorted_slices(folder: str | Path) -> list[Path]:
    """The slices of the only series in a folder, along the normal of its planes.

    Raises:
        SeriesFault: there is no series or there are several; the slices differ in their grids, lie unevenly, or not one
            above the other; names the slice and what was found.
    """
    files = _only_series(Path(folder))
    slices = [_read_header(Path(file)) for file in files]
    if len(slices) == 1:
        raise SeriesFault(f"the DICOM series has one slice, {slices[0].path.name}: that is no volume.")
    first = slices[0]
    for other in slices[1:]:
        if other.grid != first.grid or np.abs(other.axes - first.axes).max() > TURNED:
            raise SeriesFault(
                f"the slices of the DICOM series do not lie alike: {first.path.name} and {other.path.name} have other "
                f"sizes, voxels or directions:\n  {_describe(first)}\n  {_describe(other)}\n"
                "  Put each part into a folder of its own: there may be a localizer among them."
            )
    normal = np.cross(*first.axes)
    slices.sort(key=lambda each: float(each.position @ normal))
    _refuse_uneven(slices, normal)
    _refuse_tilted(slices, normal)
    return [each.path for each in slices]


def _only_series(folder: Path) -> Sequence[str]:
    """The files of the series, by GDCM."""
    import itk

    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(False)
    names.SetDirectory(str(folder))
    series = {uid: list(names.GetFileNames(uid)) for uid in names.GetSeriesUIDs()}
    if not series:
        raise SeriesFault(f"no DICOM series with images was found in {folder}.")
    if len(series) > 1:
        told = "".join(
            f"\n    {len(files)} files: {_read_tags(files[0]).get(DESCRIPTION) or 'without a description'}, {uid}, "
            f"such as {Path(files[0]).name}"
            for uid, files in series.items()
        )
        raise SeriesFault(
            f"expected one DICOM series, found {len(series)}:{told}\n  Give a folder with one of them alone."
        )
    return next(iter(series.values()))


def _read_tags(file: str | Path) -> dict[str, str]:
    import itk

    reader = itk.GDCMImageIO.New()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    content = reader.GetMetaDataDictionary()
    return {key: str(content[key]).strip() for key in content.GetKeys() if "|" in key}


def _read_header(path: Path) -> Slice:
    tags = _read_tags(path)
    if int(tags.get(FRAMES) or 1) > 1:
        raise SeriesFault(
            f"{path.name} holds {tags[FRAMES]} frames: where each of them lies cannot be checked. Convert it to NIfTI, "
            "by dcm2niix."
        )
    if int(tags.get(SAMPLES) or 1) > 1:
        raise SeriesFault(f"{path.name} is in colour: expected one value for each voxel. Export the series in grey.")
    position, axes = _numbers(tags, POSITION, 3, path), _numbers(tags, DIRECTION, 6, path)
    grid = tuple(tags.get(tag, "?") for tag in (ROWS, COLUMNS, SPACING))
    return Slice(path, grid, position, axes.reshape(2, 3))


def _numbers(tags: Mapping[str, str], tag: str, count: int, path: Path) -> np.ndarray:
    try:
        numbers = np.array([float(part) for part in tags.get(tag, "").split("\\")])
    except ValueError:
        numbers = np.array([])
    if len(numbers) != count or not np.isfinite(numbers).all():
        what = "ImagePositionPatient" if tag == POSITION else "ImageOrientationPatient"
        raise SeriesFault(
            f"{path.name} does not say where it lies: expected {count} numbers as {what}, found "
            f"'{tags.get(tag, 'nothing')}'. Export the series as it came from the scanner, or leave the file out."
        )
    return numbers


def _refuse_uneven(slices: Sequence[Slice], normal: np.ndarray) -> None:
    heights = np.array([each.position @ normal for each in slices])
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])  # of two, the smaller: a gap is no rule
    worst = int(np.abs(steps - usual).argmax())
    if abs(steps[worst] - usual) <= UNEVEN * usual and usual > 0:
        return
    one, other = slices[worst], slices[worst + 1]
    if steps.min() <= UNEVEN * max(usual, 1e-6):
        worst = int(steps.argmin())
        one, other = slices[worst], slices[worst + 1]
        raise SeriesFault(
            f"two slices of the DICOM series lie at one place, {one.path.name} and {other.path.name}, at "
            f"{heights[worst]:.6g} mm. Several time points or echoes? Put each into a folder of its own."
        )
    lacking = round(steps[worst] / usual) - 1
    guess = f" (as if {lacking} {'was' if lacking == 1 else 'were'} missing)" if lacking > 0 else ""
    raise SeriesFault(
        f"the slices of the DICOM series are not evenly spaced{guess}: behind {one.path.name}, at {heights[worst]:.6g} "
        f"mm, the next one, {other.path.name}, lies {steps[worst]:.5g} mm further; expected {usual:.5g} mm, as between "
        f"most of the {len(slices)}, within {UNEVEN:.0%}.\n  {ADVICE}"
    )


def _refuse_tilted(slices: Sequence[Slice], normal: np.ndarray) -> None:
    way = np.array([each.position - slices[0].position for each in slices])
    along = way @ normal
    aside = way - along[:, None] * normal
    tangent = float(np.linalg.norm(aside[-1]) / along[-1])
    if tangent > LARGEST_SHEAR:
        raise SeriesFault(
            f"the slices of the DICOM series are not stacked straight: from {slices[0].path.name} to "
            f"{slices[-1].path.name} they go {np.degrees(np.arctan(tangent)):.3g} degrees aside of the normal of their "
            f"planes ({np.linalg.norm(aside[-1]):.4g} mm), as with a tilted gantry.\n  Resample it to straight axes, "
            "by a program that knows the tilt, such as dcm2niix, which writes a straightened NIfTI."
        )
    off = np.linalg.norm(aside - np.outer(along / along[-1], aside[-1]), axis=1)
    worst = int(off.argmax())
    try:
        voxel = min(float(part) for part in slices[0].grid[2].split("\\"))
    except ValueError:
        voxel = float(along[-1] / (len(slices) - 1))
    if off[worst] > TOLERANCE * voxel:
        raise SeriesFault(
            f"a slice of the DICOM series lies aside of the others: {slices[worst].path.name}, by {off[worst]:.4g} mm; "
            f"expected at most {TOLERANCE:g} of a voxel, {TOLERANCE * voxel:.3g} mm.\n  {ADVICE}"
        )


def _describe(one: Slice) -> str:
    rows, columns, spacing = one.grid
    axes = ", ".join(f"{number:.4g}" for number in one.axes.ravel())
    return f"{one.path.name}: {rows} x {columns}, {spacing} mm, directions ({axes})"
