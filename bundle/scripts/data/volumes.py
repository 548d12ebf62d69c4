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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from ..fields.dicom_series import SeriesFault
from ..fields.placement import LARGEST_SHEAR, TOLERANCE, Placement, corners_apart, shear_of, without_shear
from ..fields.volumes import STORED_TYPE, write_volume
from .ids import whole_ids
from .readers import VolumeReader, lay_on, place_file, same_place

__all__ = ["Volume", "grid_faults", "image_faults", "lay_label", "read_volume", "shape_faults", "volume_faults"]


GRID_TOLERANCE = TOLERANCE  # voxels between the outermost voxels of an image and its label


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """An array with its axes as stored, and where in the world its voxels lie.

    Args:
        array: (X, Y, Z); of a displacement (X, Y, Z, 3).
        affine: (4, 4), voxel to RAS mm, as nibabel and MONAI have it.
        placement: what the header of a file says of that, to this and to other programs.
    """

    array: np.ndarray
    affine: np.ndarray
    placement: Placement | None = field(default=None, kw_only=True)

    @property
    def spacing(self) -> np.ndarray:
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def orientation(self) -> str:
        return "".join(axis or "?" for axis in nib.aff2axcodes(self.affine))

    @property
    def note(self) -> str | None:
        """Where programs disagree about the header; None where they do not."""
        return self.placement.note if self.placement else None

    def laid_on(self, image: Volume) -> Volume:
        """This label at the place of its image, where only ITK sees the two on one grid (:func:`readers.lay_on`)."""
        places, shape = (self.placement, image.placement), image.array.shape
        if self.array.shape != shape or None in places or not same_place(*places, shape):
            return self
        return replace(self, affine=image.affine)

    def __repr__(self) -> str:
        shape, spacing = ("x".join(map(str, self.array.shape)), " x ".join(f"{mm:.4g}" for mm in self.spacing))
        return f"{type(self).__name__}({shape} {self.array.dtype}, {spacing} mm, {self.orientation})"

    def as_image(self, name: str) -> MetaTensor:
        """What MONAI's ``LoadImage`` makes of a file of this name and content: (1, X, Y, Z) float32 with its affine."""
        array = torch.from_numpy(np.array(self.array, dtype=np.float32, order="C"))  # a copy, whatever is done to it
        affine = torch.from_numpy(np.array(self.affine, dtype=np.float64))
        return MetaTensor(
            array[None], affine=affine, meta={"filename_or_obj": name, STORED_TYPE: self.array.dtype.name}
        )

    def save(self, path: str | Path) -> None:
        """Write it as NIfTI, with the affine in both sform and qform.

        Args:
            path: ends in ``.nii.gz`` or ``.nii``.
        """
        write_volume(path, self.array, self.affine)


def read_volume(path: str, what: str, faults: list[str]) -> Volume | None:
    """Read a file as ``LoadVolumed`` does, but in the type it is stored in; a failure becomes a fault.

    Args:
        path: the file, or the folder of a DICOM series.
        what: ``image`` or ``label``, for the fault.
        faults: gets one more where the file is none, cannot be read, or is not one 3D volume of numbers.

    Returns:
        The volume, or none with a fault.
    """
    if not Path(path).exists():
        faults.append(f"the {what} is missing: {path}")
        return None
    reader = VolumeReader()
    try:
        array, meta = reader.get_data(reader.read(path))
        placement = place_file(path, np.asarray(meta["affine"], dtype=float))
    except SeriesFault as fault:
        faults.append(f"{fault}\n  The {what}: {path}")
        return None
    except Exception as error:  # readers raise what they like, and the other cases are to be checked all the same
        reason = (str(error).strip() or "no reason given").splitlines()[-1]
        faults.append(
            f"the {what} cannot be read: {path}\n  {type(error).__name__}: {reason}\n"
            "  Copy it again, or convert it to NIfTI."
        )
        return None
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if unlike := volume_faults(Volume(array, placement.affine), what, path):
        faults += unlike
        return None
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Volume(whole_ids(array) if what == "label" else array, placement.affine, placement=placement)


def volume_faults(volume: Volume, what: str, path: str) -> list[str]:
    """Say where a volume is none, or lies nowhere; ``what`` and ``path`` are for the fault."""
    return shape_faults(volume.array, what, path) or affine_faults(volume.affine, volume.array.shape, what, path)


def shape_faults(array: np.ndarray, what: str, path: str) -> list[str]:
    """Say where an array is not one 3D volume of real numbers; ``what`` and ``path`` are for the fault."""
    if array.ndim == 3 and min(array.shape) > 1 and array.dtype.kind in "buif":
        return []
    shape = "x".join(map(str, array.shape))
    return [
        f"the {what} is not one 3D volume of numbers: shape {shape}, type {array.dtype}, {path}\n"
        "  Split a series into its volumes, and make one channel of real numbers of colours or complex ones."
    ]


def affine_faults(affine: np.ndarray, shape: Sequence[int], what: str, path: str) -> list[str]:
    """Say where a header puts its voxels nowhere, or askew; ``what`` and ``path`` are for the fault."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-15:
        return [
            f"the {what} has a header that puts its voxels nowhere: its matrix {affine[:3].tolist()} is not finite, or "
            f"flat, or not 4x4. Export the file again.\n  {path}"
        ]
    if (shear := shear_of(affine)) <= LARGEST_SHEAR:
        return []
    lost = corners_apart(affine, without_shear(affine), shape)
    return [
        f"the {what} has a sheared header: two of its axes are not at right angles (cosine {shear:.4f}, expected at "
        f"most {LARGEST_SHEAR}). ITK's images, and fields, cannot have that; straightened, its voxels would be up to "
        f"{lost:.4g} mm off.\n  Resample it to straight axes, by nibabel.processing.resample_to_output(image), a "
        f"label with order=0.\n  {path}"
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
    apart = corners_apart(image.affine, label.affine, image.array.shape) / image.spacing.min()
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
    told = [
        f"  The header of the {what}: {volume.note}"
        for what, volume in (("image", image), ("label", label))
        if volume.note
    ]
    lines += told or ["  Resample the label onto the image's grid, without interpolating between ids."]
    return ["\n".join(lines)]


def lay_label(label: Any, image: Any, case: str) -> Any:
    """Refuse a label that lies elsewhere than its image; give it the image's affine where ITK alone sees it there.

    Args:
        label: (1, X, Y, Z), as it was loaded.
        image: likewise.
        case: its name, for the message.

    Returns:
        The label.

    Raises:
        ValueError: image and label do not share a grid.
    """
    lay_on(label, image)
    volumes = (Volume(volume[0].numpy(), np.asarray(volume.affine)) for volume in (image, label))
    if faults := grid_faults(*volumes):
        raise ValueError(f"case '{case}': {faults[0]}")
    return label
