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
"""Volumes written as DICOM series by GDCM, and written wrong."""

from __future__ import annotations

import locale
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SPACING = (0.8, 0.6)  # mm between columns and between rows: an axial slice


def write_series(
    folder: Path,
    volume: np.ndarray,
    heights: Sequence[float] | None = None,
    uid: str = "1.2.826.1",
    aside: float = 0.0,
    axes: Sequence[Sequence[float]] = ((1, 0, 0), (0, 1, 0)),
    origin: Sequence[float] = (-10.0, 20.0, -30.0),
    spacing: Sequence[float] = SPACING,
    names: str = "IM{:04d}.dcm",
    **tags: str,
) -> Path:
    """Write a volume (X, Y, Z) slice by slice.

    Args:
        folder: what they go into.
        volume: whole numbers; 1 more is stored, and the header takes it off again, as that of a CT does. (X, Y, Z, 3)
            is in colour.
        heights: mm of each slice along the normal; 2.5 mm apart by default.
        uid: of the series.
        aside: mm along the columns of an image for each mm of height, as with a tilted gantry.
        axes: LPS, of rows and columns.
        origin: LPS mm of the first voxel at height 0.
        names: of files, by the number of the slice.
        tags: such as ``SeriesDescription`` is ``_0008_103e``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heights = [2.5 * number for number in range(volume.shape[2])] if heights is None else heights
    axes = np.asarray(axes, dtype=float)
    normal = np.cross(*axes)
    before = locale.setlocale(locale.LC_ALL)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    for number, height in enumerate(heights):
        colours = volume.ndim == 4
        plane = np.swapaxes(volume[:, :, number], 0, 1).astype(np.uint8 if colours else np.int16)
        image = sitk.GetImageFromArray(plane[None], isVector=colours)
        image.SetSpacing((*spacing, 1.0))
        place = np.asarray(origin) + height * (normal + aside * axes[1])
        values = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{number + 1}",
            "0008|103e": "a chest",
            "0020|000d": "1.2.826.9",
            "0020|000e": uid,
            "0020|0013": str(number + 1),
            "0020|0032": _text(place),
            "0020|0037": _text(axes.ravel()),
            "0018|0050": "1",
            "0028|1052": "-1",
            "0028|1053": "1",
        }
        if colours:
            values = {key: value for key, value in values.items() if not key.startswith("0028|105")}
        for key, value in {**values, **{k.strip("_").replace("_", "|"): v for k, v in tags.items()}}.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / names.format(number)))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # GDCM of SimpleITK 2.5.7 leaves "C", and files would be read as ASCII
    return folder


def affine_of_series(
    axes: Sequence[Sequence[float]], origin: Sequence[float], spacing: Sequence[float] = SPACING, step: float = 2.5
) -> np.ndarray:
    """The affine (4, 4), voxel to RAS mm, of what :func:`write_series` writes."""
    axes = np.asarray(axes, dtype=float)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([axes[0], axes[1], np.cross(*axes)], axis=1) * [*spacing, step]
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _text(numbers: np.ndarray) -> str:
    return "\\".join(f"{number:.10g}" for number in numbers)
