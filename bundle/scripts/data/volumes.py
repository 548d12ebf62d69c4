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
"""One volume, of a file as it is stored or in memory, and the faults that show in it alone or beside its label."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import ITKReader, MetaTensor, NibabelReader

from ..fields.volumes import write_volume

__all__ = ["Volume", "grid_faults", "image_faults", "read_volume", "shape_faults", "volume_faults"]


GRID_TOLERANCE = 0.1  # voxels between the outermost voxels of an image and its label


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """An array with its axes as stored, and where in the world its voxels lie.

    Args:
        array: (X, Y, Z); of a displacement (X, Y, Z, 3).
        affine: (4, 4), voxel to RAS mm, as nibabel and MONAI have it.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def orientation(self) -> str:
        return "".join(axis or "?" for axis in nib.aff2axcodes(self.affine))

    def __repr__(self) -> str:
        shape, spacing = ("x".join(map(str, self.array.shape)), " x ".join(f"{mm:.4g}" for mm in self.spacing))
        return f"{type(self).__name__}({shape} {self.array.dtype}, {spacing} mm, {self.orientation})"

    def as_image(self, name: str) -> MetaTensor:
        """What MONAI's ``LoadImage`` makes of a file of this name and content: (1, X, Y, Z) float32 with its affine."""
        array = torch.from_numpy(np.array(self.array, dtype=np.float32, order="C"))  # a copy, whatever is done to it
        affine = torch.from_numpy(np.array(self.affine, dtype=np.float64))
        return MetaTensor(array[None], affine=affine, meta={"filename_or_obj": name})

    def save(self, path: str | Path) -> None:
        """Write it as NIfTI, with the affine in both sform and qform.

        Args:
            path: ends in ``.nii.gz`` or ``.nii``.
        """
        write_volume(path, self.array, self.affine)


def read_volume(path: str, what: str, faults: list[str]) -> Volume | None:
    """Read a file as MONAI's ``LoadImaged`` does, but in the type it is stored in; a failure becomes a fault.

    Args:
        path: the file.
        what: ``image`` or ``label``, for the fault.
        faults: gets one more where the file is none, cannot be read, or is not one 3D volume of numbers.

    Returns:
        The volume, or none with a fault.
    """
    if not Path(path).exists():
        faults.append(f"the {what} is missing: {path}")
        return None
    reader = NibabelReader() if path.endswith((".nii", ".nii.gz")) else ITKReader()
    try:
        array, meta = reader.get_data(reader.read(path))
    except Exception as error:  # readers raise what they like, and the other cases are to be checked all the same
        reason = (str(error).strip() or "no reason given").splitlines()[-1]
        faults.append(
            f"the {what} cannot be read: {path}\n  {type(error).__name__}: {reason}\n"
            "  Copy it again, or convert it to NIfTI."
        )
        return None
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    volume = Volume(array, np.asarray(meta["affine"], dtype=float))
    if unlike := volume_faults(volume, what, path):
        faults += unlike
        return None
    return Volume(array.astype(array.dtype.newbyteorder("="), copy=False), volume.affine)


def volume_faults(volume: Volume, what: str, path: str) -> list[str]:
    """Say where a volume is none, or lies nowhere; ``what`` and ``path`` are for the fault."""
    return shape_faults(volume.array, what, path) or affine_faults(volume.affine, what, path)


def shape_faults(array: np.ndarray, what: str, path: str) -> list[str]:
    """Say where an array is not one 3D volume of real numbers; ``what`` and ``path`` are for the fault."""
    if array.ndim == 3 and min(array.shape) > 1 and array.dtype.kind in "buif":
        return []
    shape = "x".join(map(str, array.shape))
    return [
        f"the {what} is not one 3D volume of numbers: shape {shape}, type {array.dtype}, {path}\n"
        "  Split a series into its volumes, and make one channel of real numbers of colours or complex ones."
    ]


def affine_faults(affine: np.ndarray, what: str, path: str) -> list[str]:
    """Say where the header of a file puts its voxels nowhere; ``what`` and ``path`` are for the fault."""
    if affine.shape == (4, 4) and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-15:
        return []
    return [
        f"the {what} has a header that puts its voxels nowhere: its matrix {affine[:3].tolist()} is not finite, or "
        f"flat, or not 4x4. Export the file again.\n  {path}"
    ]


def image_faults(image: Volume, may_be_constant: bool = False) -> list[str]:
    """Say where an image has values that nothing can be computed with, or, where it is constant, learnt from."""
    array = image.array
    if array.dtype.kind == "f" and (bad := array.size - int(np.isfinite(array).sum())):
        return [
            f"the image holds {bad} values that are not finite (NaN or infinite). "
            "Replace them, for example by the lowest value of the image."
        ]
    if not may_be_constant and array.min() == array.max():
        return [
            f"the image is constant: every voxel is {array.min():g}. Export it again if it is empty, or leave it out."
        ]
    return []


def grid_faults(image: Volume, label: Volume, tolerance: float = GRID_TOLERANCE) -> list[str]:
    """Compare where the outermost voxels lie: shape, spacing, direction and origin at one go."""
    same_shape = image.array.shape == label.array.shape
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in image.array.shape))])
    apart = np.linalg.norm(corners @ (image.affine - label.affine).T, axis=1).max() / image.spacing.min()
    if same_shape and apart <= tolerance:
        return []
    lines = ["label and image do not share a grid."]
    for name, a, b, unit in (
        ("shape", image.array.shape, label.array.shape, "voxels"),
        ("spacing", image.spacing, label.spacing, "mm"),
        ("axes", image.orientation, label.orientation, ""),
        ("origin", image.affine[:3, 3], label.affine[:3, 3], "mm"),
    ):
        left, right = (x if isinstance(x, str) else "(" + ", ".join(f"{v:.5g}" for v in x) + ")" for x in (a, b))
        if left != right:
            lines.append(f"  {name:<8} image {left}  label {right}  {unit}".rstrip())
    if same_shape:
        lines.append(f"  Their outermost voxels lie up to {apart:.3g} voxels apart; {tolerance:g} is tolerated.")
    lines.append("  Resample the label onto the image's grid, without interpolating between ids.")
    return ["\n".join(lines)]
