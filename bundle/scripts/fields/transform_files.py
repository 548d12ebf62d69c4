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
"""Files of transforms: those of ITK (SimpleITK, ANTs, elastix, Slicer), and displacement fields as images.

ITK has LPS millimetres, DeepRS has RAS in memory; here is where one becomes the other. Read and written by SimpleITK,
which loads in a fifth of a second: ITK's own Python takes ten for the same classes, and has no images of vectors in
double.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch

from ..files.datalist import SUFFIXES
from ..files.writing import replacing
from .transforms import AffineTransform, FieldTransform, WorldTransform
from .volumes import save_nifti

TRANSFORM_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
VECTOR, DISPLACEMENT = 1007, 1006  # NIfTI intents: ITK takes vectors as they are, and negates x and y of the other
LARGEST_SHEAR = 1e-3
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_transform(path: str | Path) -> list[WorldTransform]:
    """Read a transform from any program that resamples as ITK does, from fixed to moving.

    Args:
        path: a transform of ITK (``.h5``, ``.tfm``, ``.txt``, ``.mat``): linear, a displacement field, or a
            composite of these; or a field as an image (``.nii.gz`` with intent 1007, LPS mm; ``.nrrd``, ``.mha``).

    Returns:
        Its parts, in the order in which a point goes through them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no transform, one of another kind, or a field that does not say what its numbers are.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such transform: '{path}'.")
    if path.name.lower().endswith(SUFFIXES):
        return [_read_field_image(path)]
    if not path.name.lower().endswith(TRANSFORM_SUFFIXES):
        known = ", ".join((*TRANSFORM_SUFFIXES, *SUFFIXES))
        raise ValueError(f"'{path.name}': a transform is one of {known}.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        hint = ""
        if path.suffix == ".txt":
            hint = " The parameters of elastix are no file of ITK: have `transformix -def all` write their field."
        raise ValueError(f"ITK cannot read '{path}' as a transform.{hint}\n  {_last_line(error)}") from error
    return _parts(transform, path)


def write_displacement(path: str | Path, displacement: torch.Tensor, affine: torch.Tensor) -> None:
    """Write a world field as a NIfTI file that SimpleITK, ITK and ANTs apply: intent 1007, LPS mm, float32.

    The intent is the trap: with 1006 ITK takes the same numbers for RAS, and silently warps the wrong way. The affine
    goes into both sform and qform, since programs differ in which they read.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        displacement: (X, Y, Z, 3), LPS mm, as from :func:`scripts.fields.world.displacement_lps`.
        affine: (4, 4), voxel to RAS mm, of the grid it lies on (that of the fixed file).

    Raises:
        ValueError: when the file name or a shape does not fit, or the affine has shear, which ITK's images cannot have.
    """
    path = Path(path)
    if not path.name.endswith((".nii.gz", ".nii")):
        raise ValueError(f"a displacement field is written as .nii or .nii.gz, got '{path.name}'.")
    matrix = _check_field(displacement, affine, path)
    field = displacement.detach().cpu().float().numpy()[:, :, :, None, :]
    file = nib.Nifti1Image(np.ascontiguousarray(field), matrix)
    file.set_sform(matrix, code="scanner")
    file.set_qform(matrix, code="scanner")
    file.header.set_intent(VECTOR)
    file.header.set_xyzt_units("mm")
    save_nifti(file, path)


def write_field_transform(path: str | Path, displacement: torch.Tensor, affine: torch.Tensor) -> None:
    """Write a world field as an ITK transform: what SimpleITK, ITK, ANTs and Slicer take without being told what it is.

    Args:
        path: ``.h5``.
        displacement: (X, Y, Z, 3), LPS mm, as from :func:`displacement_lps`; in the file as double.
        affine: (4, 4), voxel to RAS mm, of its grid.

    Raises:
        ValueError: when a shape does not fit, or the affine has shear, which ITK's images cannot have.
    """
    _check_field(displacement, affine, path)
    _write(path, sitk.DisplacementFieldTransform(_to_image(displacement, affine)))


def write_chain(path: str | Path, steps: Sequence[WorldTransform]) -> None:
    """Write matrices and fields as one composite transform of ITK, each as it is.

    Args:
        path: ``.h5``.
        steps: in the order in which a point goes through them.

    Raises:
        ValueError: a step is the inverse of a field, which ITK has no transform for.
    """
    check_chain(steps, path)
    composite = sitk.CompositeTransform(3)
    for step in reversed(list(steps)):  # ITK takes a point through what was added last first
        if isinstance(step, FieldTransform):
            _check_field(step.displacement, step.affine, path)
            composite.AddTransform(sitk.DisplacementFieldTransform(_to_image(step.displacement, step.affine)))
        else:
            lps = LPS @ step.matrix.numpy() @ LPS
            composite.AddTransform(sitk.AffineTransform(lps[:3, :3].flatten().tolist(), lps[:3, 3].tolist()))
    _write(path, composite)


def check_chain(steps: Sequence[WorldTransform], path: str | Path) -> None:
    """Refuse a chain that :func:`write_chain` cannot write.

    Raises:
        ValueError: a step is the inverse of a field.
    """
    if not all(isinstance(step, (AffineTransform, FieldTransform)) for step in steps):
        raise ValueError(
            f"'{path}': a chain with the inverse of a field is no composite of ITK. Name a .nii.gz instead: one field "
            "on the grid of the reference, with the whole chain in it."
        )


def _check_field(displacement: torch.Tensor, affine: torch.Tensor, path: str | Path) -> np.ndarray:
    """Refuse what no file of a field can hold; the affine as an array."""
    if displacement.ndim != 4 or displacement.shape[-1] != 3:
        raise ValueError(f"a displacement field has shape (X, Y, Z, 3), got {tuple(displacement.shape)}.")
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"an affine is one 4x4 matrix from voxels to RAS mm, got shape {matrix.shape}.")
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > LARGEST_SHEAR:
        raise ValueError(
            f"'{Path(path).name}': the axes of the fixed grid are not at right angles (cosine {shear:.4f}, expected at "
            f"most {LARGEST_SHEAR}), which ITK's images cannot have. Resample the fixed image to a grid without shear "
            "first."
        )
    return matrix


def _write(path: str | Path, transform: sitk.Transform) -> None:
    with replacing(path) as temporary:
        try:
            sitk.WriteTransform(transform, str(temporary))
            sitk.ReadTransform(str(temporary))
        except RuntimeError as error:  # ITK says nothing about a full disc that a program could tell from other faults
            raise OSError(errno.EIO, _last_line(error)) from error


def _read_field_image(path: Path) -> FieldTransform:
    if path.name.lower().endswith((".nii", ".nii.gz")):
        header = nib.load(path).header
        if header["intent_code"] not in (VECTOR, DISPLACEMENT):
            raise ValueError(
                f"'{path}' is no displacement field: its NIfTI intent code is {int(header['intent_code'])}, expected "
                "1007 (vectors in LPS mm) or 1006 (RAS mm). Set the code that says what its numbers are."
            )
    try:
        image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    except RuntimeError as error:
        raise ValueError(f"ITK cannot read '{path}' as a displacement field.\n  {_last_line(error)}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 3:
        raise ValueError(
            f"'{path}' is no displacement field: expected three axes and three numbers a voxel, found "
            f"{image.GetDimension()} and {image.GetNumberOfComponentsPerPixel()}."
        )
    return _from_image(image, path.name)


def _parts(transform: sitk.Transform, path: Path) -> list[WorldTransform]:
    if transform.GetDimension() != 3:
        raise ValueError(f"'{path}' transforms points of {transform.GetDimension()} dimensions, expected 3.")
    if isinstance(transform, sitk.CompositeTransform):
        nested = [transform.GetNthTransform(number) for number in reversed(range(transform.GetNumberOfTransforms()))]
        return [part for each in nested for part in _parts(each, path)]
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return [_from_image(transform.GetDisplacementField(), path.name)]
    if transform.IsLinear():  # whatever its kind, four points say all of it
        corners = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)]).tolist()])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = (corners[1:] - corners[0]).T, corners[0]
        return [AffineTransform(torch.from_numpy(LPS @ matrix @ LPS))]
    raise ValueError(
        f"'{path}' holds a {transform.GetName()}, expected matrices and displacement fields. Turn it into a field "
        "first: SimpleITK.TransformToDisplacementField, or in Slicer Transforms > Convert."
    )


def _from_image(field: sitk.Image, name: str) -> FieldTransform:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(field.GetDirection(), (3, 3)) * field.GetSpacing()
    matrix[:3, 3] = field.GetOrigin()
    vectors = np.ascontiguousarray(sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3), dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(f"'{name}' holds displacements that are not finite (NaN or infinite). Replace them.")
    return FieldTransform(torch.from_numpy(vectors), torch.from_numpy(LPS @ matrix), name)


def _to_image(displacement: torch.Tensor, affine: torch.Tensor) -> sitk.Image:
    vectors = displacement.detach().cpu().double().numpy().transpose(2, 1, 0, 3)
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    matrix = LPS @ np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(_orthonormal(matrix[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _orthonormal(axes: np.ndarray) -> np.ndarray:
    """The nearest axes at right angles: headers in float32 miss them by rounding, and ITK then refuses them."""
    left, _, right = np.linalg.svd(axes)
    return left @ right


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
