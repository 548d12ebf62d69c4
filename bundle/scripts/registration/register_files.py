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
"""Register one volume file onto another: from files, through the networks' grid, to the fixed file's own grid.

The networks see preprocessed volumes on a small grid, and there lies the transform. Volumes are written on the grid of
the fixed file as it lies on disk, and every image and label is interpolated once, from its own file.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.ids import whole_ids
from ..data.image_checks import check_files, fill_number
from ..data.readers import load_volume
from ..data.volumes import Volume
from ..fields.maps import covering_grid, displacement_on_grid, rounded
from ..fields.transform_files import write_chain, write_displacement
from ..fields.transforms import Chain
from ..fields.volumes import write_volume
from ..files.datalist import case_name
from ..files.output_folder import OutputFolder
from ..files.series import is_series
from ..files.writing import write_json
from ..joint.state import PairState
from ..pictures.orientation import VIEWS, checked_view
from ..training.pair_picture import write_picture
from .pair import Subject, load_subject, register_pair
from .pair_result import PairResult, field_files, pair_result
from .refinement import Refinement

logger = logging.getLogger(__name__)


#: what registering may write beside the field, which is named after its pair
VOLUMES = ("warped", "warped_label", "jacobian", "confidence")


RESULTS = {*(f"{name}.nii.gz" for name in VOLUMES), "picture.png", "summary.json"}


def result_names(moving: str | Path | Volume, fixed: str | Path | Volume, inverse: bool = True) -> list[str]:
    """All files that registering one image onto another may write, those of the inverse among them where asked for."""
    names = [
        role if isinstance(image, Volume) else case_name(image)
        for role, image in zip(("moving", "fixed"), (moving, fixed), strict=True)
    ]
    return [*sorted(RESULTS), *field_files(*names), *(field_files(*reversed(names)) if inverse else ())]


class RegisterFiles:
    """Registers one file onto another and writes everything that a user could want of it.

    Into ``output_dir``, on the fixed file's own grid: ``warped.nii.gz``, with ``moving_label`` also
    ``warped_label.nii.gz`` in the original ids, ``jacobian.nii.gz`` and, where the recipe has one,
    ``confidence.nii.gz``. The transform twice, named after the two files since it goes into other programs, in voxels
    of the networks: ``MOVING_to_FIXED_transform.h5`` (ITK) is an affine after a field that fades to zero around their
    grid, ``MOVING_to_FIXED_warp.nii.gz`` (intent 1007, LPS mm) both in one on a grid that holds the fixed file, within
    which the two agree. Beside them ``summary.json``, and ``picture.png`` of the pair on the networks' grid. The result
    that was there before is replaced as a whole, once the new one is complete; fields of other pairs stay.

    Args:
        moving: the image that is pulled: a path, also of the folder of a DICOM series, or a volume in memory.
        fixed: the image that stays, likewise.
        output_dir: where the files go.
        preprocessing: as in training; where it has ``for_pair``, that of the pair.
        networks: ``registration``, and whatever else the state of the recipe reads.
        state: makes the state of a pair.
        labels: ids of the structures -> names; None: those that ``moving_label`` holds.
        moving_label: a label of the moving image, likewise.
        fill_value: intensity of the warped image where it comes from outside the moving one (-1024 for CT).
        refinement: improves the field of this pair.
        device: where the networks are.
        view: of the picture: ``radiological`` (the patient's right on the left) or ``neurological``.
        overwrite: also replace files in ``output_dir`` that this product did not write.
        inverse: also write the transform from moving to fixed, as ``FIXED_to_MOVING_...``, and report its residual.
    """

    def __init__(
        self,
        moving: str | Path | Volume,
        fixed: str | Path | Volume,
        output_dir: str,
        preprocessing: Callable,
        networks: Mapping[str, torch.nn.Module],
        state: Callable[..., PairState],
        labels: Mapping[str, str] | None,
        moving_label: str | Path | Volume | None = None,
        fill_value: float = 0.0,
        refinement: Refinement | None = None,
        device: torch.device | str = "cpu",
        view: str = VIEWS[0],
        overwrite: bool = False,
        inverse: bool = False,
    ) -> None:
        self.inverse = inverse
        self.view = checked_view(view)
        given = {"moving": moving, "fixed": fixed, "moving_label": moving_label}
        self.given = {name: source for name, source in given.items() if source is not None}
        self.output, self.preprocessing = OutputFolder(output_dir, overwrite), preprocessing
        self.networks, self.state, self.device = dict(networks), state, device
        self.refinement = refinement
        self.label_ids = None if labels is None else sorted(int(i) for i in labels if int(i) != 0)
        self.fill_value = fill_number(fill_value)

    def run(self) -> dict[str, Any]:
        """Register and write.

        Returns:
            What ``summary.json`` holds.

        Raises:
            FileNotFoundError, ValueError: see :meth:`compute`; before anything is computed.
            FileExistsError: when a result would replace what this product did not write, or another process writes
                there; before anything is computed.
        """
        self._check()
        with self.output:
            self.output.refuse_foreign(result_names(self.given["moving"], self.given["fixed"], self.inverse))
            result = self._compute()
            _place(self.output, result)
        return dict(result.summary)

    def compute(self) -> PairResult:
        """Register.

        Returns:
            All that :meth:`run` writes, in memory.

        Raises:
            FileNotFoundError: when a file is missing, before anything is computed.
            ValueError: when an image is not one volume that can be registered, the label does not lie on the moving
                image's grid, or it holds ids that are not known; before anything is computed.
        """
        self._check()
        return self._compute()

    def _check(self) -> None:
        for name in ("moving", "fixed"):
            if name not in self.given:
                raise ValueError(f"--{name} is missing: registering takes --moving FILE --fixed FILE --output_dir DIR.")
        for name, source in self.given.items():
            if not (isinstance(source, Volume) or Path(source).is_file() or is_series(source)):
                raise FileNotFoundError(f"no such file, or folder of a DICOM series: --{name} '{source}'.")
        names = result_names(self.given["moving"], self.given["fixed"], self.inverse)
        if len(set(names)) < len(names):
            raise ValueError("--inverse: both images have one name, and both directions would. Rename one of them.")
        check_files(self.given.items())

    def _compute(self) -> PairResult:
        images = self.given["moving"], self.given["fixed"]
        for_pair = getattr(self.preprocessing, "for_pair", None)
        preprocessing = self.preprocessing if for_pair is None else for_pair(*images)
        label_ids = self._ids_of_label() if self.label_ids is None else self.label_ids
        moving, fixed = (self._subject(role, preprocessing, label_ids) for role in ("moving", "fixed"))
        registered = register_pair(moving, fixed, self.networks, self.state, self.device, refinement=self.refinement)
        names = {role: _name(role, self.given[role]) for role in ("moving", "fixed")}
        return pair_result(moving, fixed, registered, label_ids, self.fill_value, names, self.view, self.inverse)

    def _ids_of_label(self) -> list[int]:
        if (source := self.given.get("moving_label")) is None:
            return []
        volume = source.as_image("moving_label") if isinstance(source, Volume) else load_volume(str(source))
        ids = np.unique(whole_ids(np.asarray(volume)))
        return [int(i) for i in ids if i > 0 and i == int(i)]  # whatever else is there is refused with its voxels

    def _subject(self, role: str, preprocessing: Callable, label_ids: Sequence[int]) -> Subject:
        case = {"image": self.given[role]}
        if isinstance(case["image"], Volume):
            case["case"] = role
        if f"{role}_label" in self.given:
            case["label"] = self.given[f"{role}_label"]
        return load_subject(case, preprocessing, label_ids)


def write_pair(output_dir: str | Path, result: PairResult, overwrite: bool = False) -> None:
    """Write all files of a pair, in the place of an earlier result.

    Args:
        output_dir: where they go.
        result: what registering gave.
        overwrite: also replace files there that this product did not write.

    Raises:
        FileExistsError: a result would replace what this product did not write, or another process writes there.
        ValueError: the fixed image has a grid that no ITK image can have.
    """
    with OutputFolder(output_dir, overwrite) as output:
        names = result.moving.case, result.fixed.case
        fields = field_files(*names), field_files(*reversed(names)) if result.inverse else ()
        output.refuse_foreign([*sorted(RESULTS), *itertools.chain(*fields)])
        _place(output, result)


def _place(output: OutputFolder, result: PairResult) -> None:
    with output.replacing(RESULTS) as folder:
        # first, as it refuses grids that no ITK image can have
        _write_transforms(folder, result.transform, result.moving, result.fixed)
        if result.inverse is not None:
            _write_transforms(folder, result.inverse, result.fixed, result.moving)
        for name in VOLUMES:
            if (volume := getattr(result, name)) is not None:
                write_volume(folder / f"{name}.nii.gz", volume, result.affine)
        write_picture(folder / "picture.png", result.picture())
        write_json(folder / "summary.json", result.summary)
    logger.info("written to %s", output.path.resolve())


def write_transform(path: Path, transform: Chain, fixed: Subject) -> None:
    """Write the map of a pair as ``.h5``, an affine after a field, or as ``.nii.gz``, one field that holds both.

    Args:
        path: says by its ending which.
        transform: from points of ``fixed``.
        fixed: a field covers its file.
    """
    if path.suffix == ".h5":
        write_chain(path, transform.steps)
    else:
        grid = covering_grid(fixed.network.affine, fixed.network.shape[1:], fixed.file.affine, fixed.file.shape[1:])
        write_displacement(path, rounded(displacement_on_grid(transform, *grid), grid[0]), grid[0])


def _write_transforms(folder: Path, transform: Chain, moving: Subject, fixed: Subject) -> None:
    for name in field_files(moving.case, fixed.case):
        write_transform(folder / name, transform, fixed)


def _name(role: str, source: str | Path | Volume) -> str:
    """What the summary calls an image."""
    return role if isinstance(source, Volume) else str(source)
