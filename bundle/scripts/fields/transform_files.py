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
from .field_images import VECTOR, field_of_itk, read_field_image
from .placement import LARGEST_SHEAR, LPS, orthonormal, shear_of
from .transforms import AffineTransform, FieldTransform, WorldTransform
from .volumes import save_nifti

TRANSFORM_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat")


def read_transform(path: str | Path) -> list[WorldTransform]:
    """Read a transform from any program that resamples as ITK does, from fixed to moving.

    Args:
        path: a transform of ITK (``.h5``, ``.tfm``, ``.txt``, ``.mat``): linear, a displacement field, or a
            composite of these; or a field as an image (:func:`scripts.fields.field_images.read_field_image`).

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
        return [read_field_image(path)]
    if not path.name.lower().endswith(TRANSFORM_SUFFIXES):
        known = ", ".join((*TRANSFORM_SUFFIXES, *SUFFIXES))
        raise ValueError(f"'{path.name}': a transform is one of {known}.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        raise ValueError(f"ITK cannot read '{path}' as a transform.{_hint(path)}\n  {said}") from error
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
    if (shear := shear_of(matrix)) > LARGEST_SHEAR:
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
            _compress(temporary)
            sitk.ReadTransform(str(temporary))
        except RuntimeError as error:  # ITK says nothing about a full disc that a program could tell from other faults
            raise OSError(errno.EIO, str(error).strip().splitlines()[-1]) from error


def _compress(path: Path) -> None:
    """Write a file of ITK again, a third as large: SimpleITK has no option for it.

    Of ITK only the modules by name: all that it would load by itself takes ten seconds instead of one.
    """
    from itk import itkCompositeTransformPython, itkDisplacementFieldTransformPython  # noqa: F401  the types of results
    from itk.itkHDF5TransformIOPython import itkHDF5TransformIOTemplateD as Hdf5
    from itk.itkTransformFileReaderPython import itkTransformFileReaderTemplateD as Reader
    from itk.itkTransformFileWriterPython import itkTransformFileWriterTemplateD as Writer

    reader, writer = Reader.New(), Writer.New()
    for file in (reader, writer):
        file.SetTransformIO(Hdf5.New())
        file.SetFileName(str(path))
    reader.Update()
    writer.SetInput(reader.GetTransformList().front())
    writer.SetUseCompression(True)
    writer.Update()


def _parts(transform: sitk.Transform, path: Path) -> list[WorldTransform]:
    if transform.GetDimension() != 3:
        raise ValueError(f"'{path}' transforms points of {transform.GetDimension()} dimensions, expected 3.")
    if isinstance(transform, sitk.CompositeTransform):
        nested = [transform.GetNthTransform(number) for number in reversed(range(transform.GetNumberOfTransforms()))]
        return [part for each in nested for part in _parts(each, path)]
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return [field_of_itk(transform.GetDisplacementField(), path.name)]
    if transform.IsLinear():  # whatever its kind, four points say all of it
        corners = np.array([transform.TransformPoint(point) for point in np.vstack([np.zeros(3), np.eye(3)]).tolist()])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = (corners[1:] - corners[0]).T, corners[0]
        return [AffineTransform(torch.from_numpy(LPS @ matrix @ LPS))]
    raise ValueError(
        f"'{path}' holds a {transform.GetName()}, expected matrices and displacement fields. Turn it into a field "
        "first: SimpleITK.TransformToDisplacementField, or in Slicer Transforms > Convert."
    )


def _to_image(displacement: torch.Tensor, affine: torch.Tensor) -> sitk.Image:
    vectors = displacement.detach().cpu().double().numpy().transpose(2, 1, 0, 3)
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    matrix = LPS @ np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(orthonormal(matrix[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _hint(path: Path) -> str:
    """What a file is that ITK does not know, where it can be told."""
    if path.suffix.lower() not in (".txt", ".mat"):
        return ""
    with open(path, "rb") as file:
        words = file.read(4096).decode("latin-1").split()
    if len(words) == 16 and all(map(_is_number, words)):
        return (
            " It is a bare 4x4 matrix: NiftyReg's, from fixed to moving in RAS mm, which is what `c3d_affine_tool FILE "
            "-oitk OUT.txt` takes; or of FSL's flirt, which says nothing without its two images: `c3d_affine_tool -ref "
            "FIXED -src MOVING FILE -fsl2ras -oitk OUT.txt`."
        )
    if path.suffix.lower() == ".txt":
        return " The parameters of elastix are no file of ITK: have `transformix -def all` write their field."
    return ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
