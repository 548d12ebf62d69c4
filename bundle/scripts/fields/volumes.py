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
"""Writing a volume as NIfTI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..files.marks import mark_nifti
from ..files.writing import replacing

#: in the metadata of a volume: the name of the type that its file stores
STORED_TYPE = "stored_type"


def as_stored(values: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """Interpolated values in the type of the image they come from, where that is whole numbers and can hold them.

    Args:
        values: float32, of any shape.
        meta: of the image; without a type there, values stay as they are.

    Returns:
        The nearest whole numbers, or ``values``.
    """
    stored = np.dtype(meta.get(STORED_TYPE, np.float32))
    if stored.kind not in "iu" or stored.itemsize > 4:  # few programs read NIfTI of 64-bit numbers
        return values
    whole, limits = np.rint(values), np.iinfo(stored)
    holds = np.isfinite(whole).all() and (not whole.size or limits.min <= whole.min() <= whole.max() <= limits.max)
    return whole.astype(stored) if holds else values


def write_volume(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a NIfTI as a whole, with the affine in both sform and qform.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        array: (X, Y, Z).
        affine: voxel to RAS mm (4, 4).
    """
    image = nibabel.Nifti1Image(array, np.asarray(affine, dtype=np.float64))
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    save_nifti(image, path)


def save_nifti(image: nibabel.Nifti1Image, path: str | Path) -> None:
    """Write a NIfTI as a whole, with the mark of who wrote it in ``descrip``."""
    mark_nifti(image)
    with replacing(path) as temporary:
        nibabel.save(image, temporary)
