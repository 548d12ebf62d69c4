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
"""Displacement fields that other programs wrote as images: what their vectors are is said in many ways.

Taken, each by what its header says:

- ITK, ANTs, elastix, SimpleITK: NIfTI of intent 1007 without a name, or another format of ITK: displacements, LPS mm.
- ITK since 5.0, Slicer: NIfTI of intent 1006 without a name: displacements, RAS mm.
- NiftyReg: intent name NREG_TRANS, with ``intent_p1`` 0 positions or 1 displacements, RAS mm.
- SPM, CAT12: ``y_*.nii`` and ``iy_*.nii``, intent name Mapping: positions, RAS mm.

Everything else is refused by its name: a field that is taken for another's warps the wrong way without a word.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from .grids import ras_to_lps, voxel_points
from .nrrd_header import is_nrrd, nrrd_space, read_nrrd_header
from .placement import UNITS, affine_of_itk, is_nifti, load_nifti, place_nifti
from .transforms import FieldTransform

__all__ = ["DISPLACEMENT", "VECTOR", "field_of_itk", "read_field_image"]

logger = logging.getLogger(__name__)

VECTOR, DISPLACEMENT = 1007, 1006  # NIfTI intents: ITK takes vectors as they are, and negates x and y of the other
FSL = {
    2006: "a displacement field of FSL's fnirt", 2007: "spline coefficients of FSL's fnirt",
    2008: "coefficients of FSL's fnirt", 2009: "spline coefficients of FSL's fnirt",
    2016: "spline coefficients of FSL's topup", 2017: "spline coefficients of FSL's topup",
    2018: "a field of FSL's topup",
}  # fmt: skip
# by `intent_p1`; the first two are taken
NIFTYREG = {
    2: "a grid of cubic splines", 3: "a velocity field", 4: "a velocity field", 5: "a velocity grid of splines",
    6: "a grid of linear splines",
}  # fmt: skip
PROGRAMS = {4: ("AFNI", "3dNwarpCat"), 14: ("FreeSurfer", "mri_warp_convert --outitk")}  # by the code of an extension
OTHER_WORDS = ("flow field", "velocity", "momentum", "jacobian", "deformation field", "coefficient")
ALIKE = 0.3  # how far values may stray from the places of their voxels, of the spread of these, and still be places


@dataclass(frozen=True)
class _Meaning:
    """What the vectors of a file are."""

    ras: bool
    positions: bool = False
    program: str = "ITK"


def read_field_image(path: Path) -> FieldTransform:
    """Read a displacement field from an image of any format, as what it says it is.

    Args:
        path: the very file that is read, whatever lies beside it.

    Raises:
        ValueError: it is no field, one of another kind, or does not say what its numbers are.
    """
    return _read_nifti(path) if is_nifti(path) else _read_by_itk(path)


def field_of_itk(field: sitk.Image, name: str) -> FieldTransform:
    """A field that ITK holds, displacements in LPS mm."""
    vectors = np.ascontiguousarray(sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3), dtype=np.float32)
    return _field(torch.from_numpy(vectors), torch.from_numpy(affine_of_itk(field)), name)


def _read_nifti(path: Path) -> FieldTransform:
    try:
        image = load_nifti(path)
    except Exception as error:  # nibabel raises what it likes
        raise ValueError(f"'{path}' cannot be read as a displacement field: {error}") from error
    header, meaning = image.header, _meaning(image, path.name)
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        raise ValueError(
            f"'{path}' is no displacement field: expected three axes and three numbers a voxel, shape (X, Y, Z, 1, 3), "
            f"found {tuple(image.shape)}."
        )
    if unit := UNITS.get(int(header["xyzt_units"]) & 7):
        raise ValueError(f"'{path}': its unit is the {unit[1]}, and whether its vectors' is, too, is not said.")
    placement = place_nifti(header)
    if placement.note:
        logger.warning("'%s': %s", path, placement.note)
    affine = torch.from_numpy(placement.itk if meaning.program == "ITK" else placement.affine)
    vectors = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float64)[:, :, :, 0])
    if meaning.positions:
        vectors = vectors - voxel_points(vectors.shape[:3], affine)
    field = _field(ras_to_lps(vectors) if meaning.ras else vectors, affine, path.name)
    if meaning.program == "ITK":
        _refuse_positions(field, path.name)
    else:
        kind = "positions" if meaning.positions else "displacements"
        logger.info("'%s' is a field of %s: %s in RAS mm", path, meaning.program, kind)
    return field


def _meaning(image: Any, name: str) -> _Meaning:
    """What the vectors of a NIfTI file are, by all that its header says.

    Raises:
        ValueError: it is of another kind, or does not say it.
    """
    header = image.header
    code, intent = int(header["intent_code"]), _text(header["intent_name"])
    if code in FSL:
        raise ValueError(
            f"'{name}' is {FSL[code]} (intent code {code}), which says nothing without its two images: convert it by "
            "`wb_command -convert-warpfield -from-fnirt FIELD MOVING -to-itk OUT.nii.gz`."
        )
    if code not in (VECTOR, DISPLACEMENT):
        raise ValueError(
            f"'{name}' is no displacement field: its NIfTI intent code is {code}, expected 1007 (vectors in LPS mm) or "
            "1006 (RAS mm). Set the code that says what its numbers are."
        )
    if intent.startswith("NREG"):
        return _meaning_of_niftyreg(header, intent, name)
    if intent == "Mapping":
        return _Meaning(ras=True, positions=True, program="SPM")
    if intent:
        raise ValueError(
            f"'{name}' calls its vectors '{intent}' (NIfTI intent name), which is not known here. Known are none (ITK, "
            "ANTs: displacements, code 1007 in LPS mm, 1006 in RAS mm), NREG_TRANS (NiftyReg) and Mapping (SPM). If it "
            "holds displacements, clear the name and set the code."
        )
    for extension in header.extensions:
        if extension.get_code() in PROGRAMS:
            program, way = PROGRAMS[extension.get_code()]
            raise ValueError(
                f"'{name}' is of {program} by the extension of its header, and has that program's meaning: convert it "
                f"({way}), or write it without the extension if it is a field of ITK's."
            )
    if word := next((word for word in OTHER_WORDS if word in _text(header["descrip"]).lower()), None):
        raise ValueError(
            f"'{name}' calls itself '{_text(header['descrip'])}' (NIfTI descrip): a {word} is no displacement field of "
            "ITK. Convert it, or clear the description if it is one."
        )
    return _Meaning(ras=code == DISPLACEMENT)


def _meaning_of_niftyreg(header: Any, intent: str, name: str) -> _Meaning:
    kind = float(header["intent_p1"])
    if intent == "NREG_TRANS" and kind in (0, 1):
        return _Meaning(ras=True, positions=kind == 0, program="NiftyReg")
    what = NIFTYREG.get(int(kind), "a transform") if intent == "NREG_TRANS" else "a transform of an early version"
    raise ValueError(
        f"'{name}' is {what} of NiftyReg (intent name {intent}, intent_p1 {kind:g}), expected a deformation (0) or "
        "displacement field (1): `reg_transform -ref FIXED -def FILE OUT.nii.gz`."
    )


def _text(cell: Any) -> str:
    return bytes(cell.item()).decode("latin-1").strip("\0 ")


def _read_by_itk(path: Path) -> FieldTransform:
    if is_nrrd(path):
        header = read_nrrd_header(path)
        space, frame = nrrd_space(header, path.name), header.get("measurement frame", "")
        numbers = frame.replace("(", " ").replace(")", " ").replace(",", " ").split()
        turned = [number for number in numbers if number != "none"]
        if space not in (None, "LPS") or (turned and not np.allclose(np.float64(turned), np.eye(3).ravel())):
            raise ValueError(
                f"'{path.name}' has the space {space} and the measurement frame {frame or 'none'}: ITK turns its grid, "
                "and not its vectors. Save the field in LPS, left-posterior-superior."
            )
    try:
        image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        raise ValueError(f"ITK cannot read '{path}' as a displacement field.\n  {said}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise ValueError(
            f"'{path}' is no displacement field: expected three axes and three numbers a voxel, found "
            f"{image.GetDimension()} and {image.GetNumberOfComponentsPerPixel()}."
        )
    field = field_of_itk(image, path.name)
    _refuse_positions(field, path.name)
    return field


def _field(displacement: torch.Tensor, affine: torch.Tensor, name: str) -> FieldTransform:
    """Displacements (X, Y, Z, 3), LPS mm, on a grid; refused where they are not finite."""
    if not displacement.isfinite().all():
        raise ValueError(f"'{name}' holds displacements that are not finite (NaN or infinite). Replace them.")
    return FieldTransform(displacement.float(), affine, name)


def _refuse_positions(field: FieldTransform, name: str) -> None:
    """Refuse numbers that go along with the places of their voxels, in LPS or in RAS: points, and no displacements."""
    vectors = field.displacement.double().flatten(0, 2)
    places = ras_to_lps(voxel_points(field.displacement.shape[:3], field.affine)).flatten(0, 2)
    spread = places.std(dim=0, correction=0)
    for system, sign in (("LPS", 1.0), ("RAS", -1.0)):
        rest = vectors - places * places.new_tensor([sign, sign, 1.0])
        if spread.max() > 0 and (rest.std(dim=0, correction=0) < ALIKE * spread).all():
            raise ValueError(
                f"'{name}' holds positions, {system} mm by their range, where displacements are expected: each number "
                "is near the place of its voxel. Subtract that place, in the axes that the file has its vectors in."
            )
