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
"""Where the voxels of a file lie: one rule, and what other programs make of the same header.

The rule, for everything that is read here. Of a NIfTI file the sform counts where its code is above 0, else the qform
where its code is, else nibabel's guess (x to the left, the middle at the origin); its unit of length is believed. This
is nibabel's choice, so MONAI's. ITK, and with it SimpleITK, ANTs, elastix, Slicer and ITK-SNAP, prefers the qform where
the code of the sform is 2 or more, and has another guess. Where the two are apart, a note says how far. Of all other
formats ITK is the reader, and what it says counts. Whatever is written here has both forms, alike, with codes above 0.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LARGEST_SHEAR = 1e-3  # cosine between two axes of a grid
TOLERANCE = 0.1  # voxels: within it two headers mean the same place
UNITS = {1: (1e3, "metre"), 3: (1e-3, "micrometre")}  # of a NIfTI, in mm; all others are mm

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_GEOMETRY = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """What a header says of where its voxels lie.

    Args:
        affine: (4, 4), voxel to RAS mm, by the rule.
        itk: (4, 4), the same as ITK has it; that of the rule where ITK cannot read the header.
        note: for the user, where programs disagree or have to guess; else None.
    """

    affine: np.ndarray
    itk: np.ndarray
    note: str | None = None


def is_nifti(path: str | Path) -> bool:
    """Whether a file is one of nibabel's by its name, of one file or of two."""
    return Path(path).name.lower().endswith(NIFTI_SUFFIXES)


def load_nifti(path: str | Path) -> Any:
    """Open the very file that is named; ITK's reader would take ``w.nii`` where ``w.nii.gz`` is asked for.

    Raises:
        ValueError: it is of Analyze 7.5, which does not say where left is.
    """
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Pair):
        raise ValueError(
            f"'{Path(path).name}' is no NIfTI but {type(image).__name__}, of which nobody knows where left is: convert "
            "it to NIfTI, and look whether left and right are right."
        )
    return image


def place_nifti(header: Any) -> Placement:
    """Say where the voxels of a NIfTI file lie, by the rule of this module, and what ITK and nibabel say.

    Args:
        header: of nibabel.
    """
    unit, _ = _unit(header)
    affine = np.diag([unit, unit, unit, 1.0]) @ np.asarray(header.get_best_affine(), dtype=np.float64)
    # of what is not finite, flat or sheared ITK has nothing to say, and it is refused for that
    if not np.isfinite(affine).all() or shear_of(affine) > LARGEST_SHEAR:
        return Placement(affine, affine)
    itk = _by_itk(header)
    return Placement(affine, affine if itk is None else itk, _note(header, affine, itk))


def corners_apart(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """The largest distance in mm between the corners of a grid by two affines (4, 4)."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in shape))], dtype=float)
    return float(np.linalg.norm(corners @ (np.asarray(one, float) - np.asarray(other, float)).T, axis=1).max())


def shear_of(affine: np.ndarray) -> float:
    """The largest cosine between two axes of a grid, 0 when they are at right angles, infinite for a flat one."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all():
        return float("inf")
    axes = affine[:3, :3] / lengths
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def orthonormal(axes: np.ndarray) -> np.ndarray:
    """The nearest axes (3, 3) at right angles: headers in float32 miss them by rounding, and ITK then refuses them."""
    left, _, right = np.linalg.svd(axes)
    return left @ right


def without_shear(affine: np.ndarray) -> np.ndarray:
    """The nearest affine (4, 4) with axes at right angles, of the same voxel size and first voxel."""
    straight, lengths = affine.copy(), np.linalg.norm(affine[:3, :3], axis=0)
    straight[:3, :3] = orthonormal(affine[:3, :3] / lengths) * lengths
    return straight


def affine_of_itk(image: Any) -> np.ndarray:
    """The affine (4, 4), voxel to RAS mm, of an image of SimpleITK, or of the header it read."""
    size = image.GetDimension()
    matrix = np.eye(4)
    matrix[:3, :3] = (np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing())[:3, :3]
    matrix[:3, 3] = image.GetOrigin()[:3]
    return LPS @ matrix


def _note(header: Any, affine: np.ndarray, itk: np.ndarray | None) -> str | None:
    """What programs make of a header, where that is not all the same; None where it is."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    remedy = "Look which is right, and write it into both: in nibabel image.set_sform(A, 1), image.set_qform(A, 1)."
    if itk is None:
        return (
            f"ITK, SimpleITK, ANTs and Slicer cannot read its header (sform_code {sform}, qform_code {qform}). {remedy}"
        )
    shape = (*header.get_data_shape(), 1, 1, 1)[:3]
    tolerance = TOLERANCE * np.linalg.norm(affine[:3, :3], axis=0).min()
    apart = corners_apart(affine, itk, shape)
    if sform == qform == 0:
        return (
            "its header does not say how the volume lies (sform_code and qform_code are 0): left and right are a "
            f"guess. nibabel's is used here; ITK's lies up to {apart:.4g} mm from it. {remedy}"
        )
    if apart > tolerance:
        return (
            f"programs disagree by up to {apart:.4g} mm about where its voxels lie. Used here, as by nibabel, is the "
            f"{'sform' if sform else 'qform'} (sform_code {sform}), first voxel at {_point(affine)} RAS mm; by ITK, "
            f"SimpleITK, ANTs and Slicer the other form (qform_code {qform}), at {_point(itk)}. What one of these made "
            f"with this file, a transform above all, refers to theirs. {remedy}"
        )
    if sform and qform and (apart := _forms_apart(header, shape) * _unit(header)[0]) > tolerance:
        return (
            f"its sform (code {sform}), which is used here, and its qform (code {qform}) are up to {apart:.4g} mm "
            f"apart, and there are programs that take the latter. {remedy}"
        )
    if _unit(header)[0] != 1:
        return f"its unit of length is the {_unit(header)[1]}, as it says; nibabel alone takes it for the millimetre."
    return None


def _unit(header: Any) -> tuple[float, str]:
    """The unit of length of a NIfTI in mm, and its name; a file that names none has mm."""
    return UNITS.get(int(header["xyzt_units"]) & 7, (1.0, "millimetre"))


def _forms_apart(header: Any, shape: Sequence[int]) -> float:
    try:
        return corners_apart(header.get_sform(), header.get_qform(), shape)
    except (ValueError, nib.spatialimages.HeaderDataError):  # a quaternion that is none: nobody can read that form
        return 0.0


def _by_itk(header: Any) -> np.ndarray | None:
    """Ask ITK itself, whose choice differs between versions: a file of the geometry alone, without voxels."""
    bare = nib.Nifti1Header()
    bare.set_data_shape((*header.get_data_shape(), 1, 1, 1)[:3])
    bare.set_data_dtype(np.uint8)
    for name in _GEOMETRY:
        bare[name] = header[name]
    bare["vox_offset"], bare["magic"] = 352, b"n+1"
    affine = _read_by_itk(bare.binaryblock)
    return None if affine is None else affine.copy()


@lru_cache(maxsize=1024)  # a file is read several times
def _read_by_itk(header: bytes) -> np.ndarray | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.nii"
        path.write_bytes(header + bytes(4))
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
        return affine_of_itk(reader)


def _point(affine: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in affine[:3, 3]) + ")"
