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
"""One reader for each format, whatever other packages are installed: NIfTI by nibabel, all else by ITK, of a folder its
DICOM series.

MONAI's own ``LoadImage`` takes the last registered reader that can read a file, so that an NRRD has other axes where
pynrrd is installed; and ITK opens ``w.nii`` where ``w.nii.gz`` is named. Where voxels lie is the rule of
:mod:`scripts.fields.placement`.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, ITKReader, NibabelReader
from monai.transforms import LoadImage, LoadImaged
from monai.utils import ensure_tuple

from ..fields.dicom_series import read_series
from ..fields.nrrd_header import NO_SPACE, is_nrrd, nrrd_space, read_nrrd_header
from ..fields.placement import TOLERANCE, Placement, corners_apart, is_nifti, load_nifti, place_nifti
from ..fields.volumes import STORED_TYPE

__all__ = ["LoadVolumed", "VolumeReader", "lay_on", "load_volume", "place_file", "same_place", "tell_placement"]

logger = logging.getLogger(__name__)

_told: set[str] = set()  # the files whose placement was told in this process


class VolumeReader(ImageReader):
    """Reads any volume by the one reader of its format, in the type it is stored in."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Every file is tried."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[ImageReader, Any]:
        """Open files, as a rule one.

        Raises:
            ValueError: a header does not say where left is, or a folder has no series that is a straight, even volume.
        """
        paths = [str(path) for path in ensure_tuple(data)]
        if len(paths) == 1 and Path(paths[0]).is_dir():
            return ITKReader(), read_series(paths[0])
        for path in paths:
            if is_nifti(path):
                load_nifti(path)
            elif is_nrrd(path):
                nrrd_space(read_nrrd_header(path), Path(path).name)
        reader = NibabelReader() if all(map(is_nifti, paths)) else ITKReader()
        return reader, reader.read(paths, **kwargs)

    def get_data(self, img: tuple[ImageReader, Any]) -> tuple[np.ndarray, dict]:
        """The array with its axes as stored, and MONAI's metadata with the affine (4, 4) to RAS mm and the type."""
        reader, opened = img
        array, meta = reader.get_data(opened)
        meta[STORED_TYPE] = array.dtype.name
        if isinstance(reader, NibabelReader):
            first = opened[0] if isinstance(opened, list) else opened
            affine = place_nifti(first.header).affine
            meta |= {"affine": affine, "original_affine": affine.copy()}
        return array, meta


class LoadVolumed(LoadImaged):
    """MONAI's ``LoadImaged`` by :class:`VolumeReader`, with a warning where programs disagree about a header.

    Args:
        keys: the image first; what else is loaded is taken to lie on the image's grid where either the rule or ITK sees
            it there, and gets the image's affine.
        kwargs: those of ``LoadImaged``. A ``reader`` among them has no say.
    """

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Load the files of ``keys``."""
        d = super().__call__(data, reader or VolumeReader())
        for key in self.key_iterator(d):
            tell_placement(path_of(d[key]))
            if key != self.keys[0] and self.keys[0] in d:
                lay_on(d[key], d[self.keys[0]])
        return d


def load_volume(path: str | Path) -> Any:
    """Load one file with a channel in front, (C, X, Y, Z) float32, warning where programs disagree about its header."""
    volume = LoadImage(ensure_channel_first=True)(str(path), VolumeReader())
    tell_placement(str(path))
    return volume


def place_file(path: str | Path, affine: np.ndarray) -> Placement:
    """Say where the voxels of a file lie.

    Args:
        path: the file.
        affine: (4, 4), what its reader said.
    """
    if is_nifti(path) and Path(path).is_file():  # a volume in memory has but a name
        return place_nifti(load_nifti(path).header)
    unsaid = is_nrrd(path) and nrrd_space(read_nrrd_header(path), Path(path).name) is None
    return Placement(affine, affine, NO_SPACE if unsaid else None)


def tell_placement(path: str | Path, placement: Placement | None = None, silent: bool = False) -> None:
    """Warn, once in a process, where programs disagree about where the voxels of a file lie.

    Args:
        path: the file.
        placement: what is known of it already.
        silent: it was told in another way.
    """
    if str(path) in _told:
        return
    _told.add(str(path))
    note = None if silent else (placement or place_file(path, np.eye(4))).note
    if note:
        logger.warning("'%s': %s", path, note)


def same_place(one: Placement, other: Placement, shape: Sequence[int]) -> bool:
    """Whether the rule or, for files whose forms differ, ITK sees two volumes of one shape on one grid."""
    tolerance = TOLERANCE * np.linalg.norm(one.affine[:3, :3], axis=0).min()
    pairs = ((one.affine, other.affine), (one.itk, other.itk))
    return any(corners_apart(*affines, shape) <= tolerance for affines in pairs)


def lay_on(label: Any, image: Any) -> Any:
    """Give a label the affine of its image where only ITK sees the two on one grid, as for a label drawn in ITK-SNAP.

    Args:
        label: as it was loaded, (C, X, Y, Z) with its affine and its file's name; gets another affine in place.
        image: likewise.

    Returns:
        The label.
    """
    shape = tuple(image.shape[1:])
    if tuple(label.shape[1:]) == shape and not np.array_equal(label.affine, image.affine):
        placements = (place_file(path_of(volume), np.asarray(volume.affine)) for volume in (label, image))
        if same_place(*placements, shape):
            label.affine = image.affine.clone()
    return label


def path_of(volume: Any) -> str:
    """The file that a volume was loaded from."""
    return str(volume.meta.get("filename_or_obj", ""))
