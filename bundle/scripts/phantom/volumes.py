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
"""Heart-like CT volumes drawn from formulas, so that the whole pipeline can be tried without any patient's data.

A subject is a drawing in patient space (millimetres, right-anterior-superior, the heart at the origin) that is bent by
a smooth random field and then sampled on a voxel grid of any spacing and orientation. The chambers share their
intensity with each other and with vessels that bear no label: no threshold separates them, only shape and place do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..data.anatomy import EXTENT_MM, STRUCTURES, Canvas, bend, draw_heart, draw_surroundings, smooth_field
from ..fields.volumes import save_nifti
from ..files.manifest import PRIVATE
from ..files.output_folder import OutputFolder, settle
from ..files.writing import write_json

# Case by case in turn: radiological, neurological, upside down, and axes in every place of the array.
ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "PIR", "SAL", "ASL")
# An empty file that tells a folder of phantoms, which may be replaced, from anyone else's folder, which may not.
MARKER = ".deeprs_phantom"


@dataclass(frozen=True)
class PhantomSubject:
    """One subject on its own grid: the image, the labels with their ids on disk, and where the voxels lie.

    Attributes:
        image: (X, Y, Z) int16, values like those of a CT with contrast agent.
        label: (X, Y, Z) int16, 0 or an id of `STRUCTURES`.
        affine: (4, 4), voxel index to patient space in mm, right-anterior-superior.
    """

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


def phantom_subject(
    seed: int | Sequence[int],
    shape: Sequence[int] = (48, 48, 48),
    spacing: Sequence[float] = (3.0, 3.0, 3.0),
    orientation: str = "RAS",
    tilt: float = 0.0,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
) -> PhantomSubject:
    """Draws one subject: the seed decides the anatomy, the other arguments only the grid it is seen on.

    The noise is drawn voxel by voxel; everything else is the same wherever a grid puts its voxels.

    Args:
        seed: of the anatomy, its surroundings, the contrast and the noise.
        shape: voxels along the array's axes.
        spacing: mm between voxels along the array's axes.
        orientation: which way each array axis points, as in nibabel ("LPS": to the left, to the back, upwards).
        tilt: degrees by which the grid is turned about the patient's left-right axis, like a tilted gantry.
        centre: patient-space position in mm, right-anterior-superior, of the grid's centre and of the heart.

    Returns:
        The subject; with a `tilt` of 0 and the orientation "RAS" the affine is diagonal.

    Raises:
        ValueError: when `orientation` does not name each of the three body axes once.
    """
    anatomy, surroundings, scanner = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    affine = grid_affine(shape, spacing, orientation, tilt, centre)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = (index @ affine[:3, :3].T + affine[:3, 3] - np.asarray(centre)).astype(np.float32)
    canvas = Canvas(shape, value=-1000)
    draw_surroundings(canvas, bend(surroundings, points, degrees=3, shift_mm=3, field_mm=3), surroundings)
    draw_heart(canvas, bend(anatomy, points, degrees=6, shift_mm=3, field_mm=3.5), anatomy)
    return PhantomSubject(_scan(canvas.image, points, scanner), canvas.label, affine)


def _scan(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds what differs from scanner to scanner: gain, offset, uneven contrast, and correlated noise."""
    gain, offset = rng.uniform(0.88, 1.12), rng.uniform(-40, 40)
    uneven = 18 * smooth_field(rng, points, channels=1, knots=9)[..., 0]
    noise = rng.uniform(30, 50) * gaussian_filter(rng.normal(size=image.shape), 0.5) / 0.55
    return np.clip(np.rint(gain * image + offset + uneven + noise), -1024, 3071).astype(np.int16)


def grid_affine(
    shape: Sequence[int], spacing: Sequence[float], orientation: str, tilt: float, centre: Sequence[float]
) -> np.ndarray:
    """Affine (4, 4), voxel index to patient space, of the grid that the arguments of `phantom_subject` describe."""
    axes = [next((i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair), None) for letter in orientation]
    if sorted(axes, key=str) != [0, 1, 2]:
        raise ValueError(
            f"orientation {orientation!r} does not name each body axis once. Give three letters, one each of R or L, "
            "A or P, S or I, such as 'RAS' or 'LPS'."
        )
    directions = np.zeros((3, 3))
    for column, (axis, letter) in enumerate(zip(axes, orientation, strict=True)):
        directions[axis, column] = 1.0 if letter in "RAS" else -1.0
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", tilt, degrees=True).as_matrix() @ directions * np.asarray(spacing)
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def make_phantoms(
    output_dir: str | os.PathLike,
    num_labeled: int = 4,
    num_unlabeled: int = 12,
    num_validation: int = 4,
    num_test: int = 6,
    size: int = 48,
    seed: int = 0,
) -> Path:
    """Writes a data set of phantoms as NIfTI files with a datalist; the same arguments write the same bytes.

    Every case shows the same cube of EXTENT_MM about the heart, each in its own spacing, orientation, tilt and place
    in the scanner, as files from several hospitals do. Cases of the list `unlabeled` get no label file at all.

    Args:
        output_dir: folder to write; made when missing. A folder of an earlier call is replaced.
        num_labeled: cases with a label for training.
        num_unlabeled: cases without a label for training.
        num_validation: cases with a label to choose the weights by.
        num_test: cases with a label to measure on.
        size: voxels per axis that the cube has after resampling to EXTENT_MM / size.
        seed: of everything; the n-th case is a function of the seed and n.

    Returns:
        Path of the datalist.

    Raises:
        ValueError: when the folder holds files that this function did not write, or a number is out of range.
    """
    counts = dict(labeled=num_labeled, unlabeled=num_unlabeled, validation=num_validation, test=num_test)
    if min(counts.values()) < 0 or size < 8:
        raise ValueError(f"expected no negative number of cases and a size of at least 8, found {counts}, size {size}.")
    folder = Path(output_dir)
    _refuse_other_folder(folder)
    datalist: dict = {
        "name": "DeepRS phantoms",
        "labels": {"0": "background"} | {str(label_id): name for label_id, name in STRUCTURES.items()},
        "modality": {"0": "CT (drawn)"},
        "tensorImageSize": "3D",
        "licence": "CC0-1.0",
        "reference": f"drawn by DeepRS: make_phantoms with size {size}, seed {seed}",
    }
    numbers = itertools.count()
    with OutputFolder(folder, overwrite=True) as output, output.replacing(_cases_of(folder)) as new:
        for split, count in counts.items():
            datalist[split] = [_write_case(new, next(numbers), size, seed, split != "unlabeled") for _ in range(count)]
        write_json(new / "datalist.json", datalist)
        (new / MARKER).touch()
    return folder / "datalist.json"


def _refuse_other_folder(folder: Path) -> None:
    settle(folder)
    there = [path for path in folder.iterdir() if path.name != PRIVATE] if folder.is_dir() else []
    if there and not (folder / MARKER).is_file():
        raise ValueError(f"{folder} holds files that are not phantoms. Name a new or an empty folder as output_dir.")


def _cases_of(folder: Path) -> list[str]:
    """The files of an earlier call."""
    return [
        path.relative_to(folder).as_posix()
        for kind in ("images", "labels")
        for path in folder.glob(f"{kind}/*phantom_*")
    ]


def _write_case(folder: Path, number: int, size: int, seed: int, is_labeled: bool) -> dict[str, str]:
    """Writes one case on a grid of its own, coarser along the body as in CT, and returns its datalist entry."""
    rng = np.random.default_rng((seed, number, 0))
    orientation = ORIENTATIONS[number % len(ORIENTATIONS)]
    spacing = EXTENT_MM / size * rng.uniform(0.8, 1.1, 3)
    through_plane = next(i for i, letter in enumerate(orientation) if letter in "SI")
    spacing[through_plane] *= rng.uniform(1.0, 1.5)
    shape = np.ceil(EXTENT_MM * rng.uniform(1.0, 1.08) / spacing).astype(int)
    subject = phantom_subject(
        (seed, number, 1), shape, spacing, orientation, rng.choice((0, 0, 5, -5)), rng.uniform(-60, 60, 3)
    )
    entry = {}
    for key in ("image", "label") if is_labeled else ("image",):
        entry[key] = f"./{key}s/phantom_{number:03d}.nii.gz"
        volume = nib.Nifti1Image(getattr(subject, key), subject.affine)
        volume.header.set_xyzt_units("mm")
        save_nifti(volume, folder / entry[key])
    return entry
