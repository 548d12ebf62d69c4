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

"""What is asked of volumes without a data check before them: those to segment, register, or apply a transform to."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from ..files.each_case import Failure, for_each
from .label_map_folder import LabelMapFolder
from .transforms import SEGMENTED, describe_strays, find_strays
from .volumes import Volume, grid_faults, image_faults, read_volume, shape_faults, volume_faults

__all__ = ["CheckImaged", "ImageCheck", "check_cases", "check_files", "fill_number"]

logger = logging.getLogger(__name__)


def fill_number(value: Any) -> float:
    """Read ``--fill_value``, where a command line may have given a word.

    Raises:
        ValueError: it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--fill_value '{value}': expected a number, that of air: 0 for MR, -1024 for CT.") from error


def check_files(files: Iterable[tuple[str, str | Path | Volume]], may_be_constant: bool = False) -> None:
    """Refuse files, or volumes in memory, that nothing can be computed from, all at once.

    Args:
        files: (option, path or volume); an option that ends in ``label`` is one of a label, and the values are not
            looked at.
        may_be_constant: let images pass that have one value only.

    Raises:
        ValueError: names each faulty file, its option, what is wrong, and what to do.
    """
    faults = [
        (f"{option}: " if isinstance(file, Volume) else f"--{option} '{file}': ") + fault
        for option, file in files
        for fault in _file_faults(file, "label" if option.endswith("label") else "image", may_be_constant)
    ]
    if faults:
        raise ValueError("\n".join(faults))


def check_cases(cases: Iterable[Mapping[str, str]], label_ids: Sequence[int]) -> int:
    """Refuse cases that nothing can be scored on, all at once and before any is.

    Args:
        cases: ``case``, ``image`` and, where there is one, ``label``: paths. A case may come several times.
        label_ids: those that a label may hold. Not all, nor any, have to be there.

    Returns:
        Voxels of the largest image.

    Raises:
        ValueError: names each faulty case, what is wrong with it, and what to do.
    """
    once = list({(case["image"], case.get("label")): case for case in cases}.values())
    found = for_each(once, partial(_case_faults, label_ids=label_ids), "Checking cases")
    if faults := [f"case '{case['case']}': {f}" for case, (_, told) in zip(once, found, strict=True) for f in told]:
        raise ValueError("\n".join(faults))
    return max((voxels for voxels, _ in found), default=0)


def _case_faults(case: Mapping[str, str], label_ids: Sequence[int]) -> tuple[int, list[str]]:
    faults: list[str] = []
    image = read_volume(case["image"], "image", faults)
    label = read_volume(case["label"], "label", faults) if "label" in case else None
    if image is not None:
        faults += image_faults(image, may_be_constant=True)
    if label is not None and (strays := find_strays(torch.from_numpy(label.array), label_ids)):
        faults.append(describe_strays(strays, label_ids))
    if image is not None and label is not None:
        faults += grid_faults(image, label)
    return 0 if image is None else image.array.size, faults


def _file_faults(file: str | Path | Volume, what: str, may_be_constant: bool = False) -> list[str]:
    faults: list[str] = []
    if isinstance(file, Volume):
        volume, faults = file, volume_faults(file, what, "an array in memory")
    else:
        volume = read_volume(str(file), what, faults)
    return faults if faults or what == "label" else image_faults(volume, may_be_constant)


class ImageCheck:
    """Looks through the images to segment before the first of them is, so that a bad one does not stop the others.

    Label maps that lie beside the images, ``NAME_seg`` of a case ``NAME``, are no images, whoever made them.

    Args:
        cases: ``case`` and ``image`` of each.
        results: where the label maps go.
    """

    def __init__(self, cases: Sequence[Mapping[str, str]], results: LabelMapFolder) -> None:
        self.cases, self.results = list(cases), results
        self.failures: list[Failure] = []

    def usable(self) -> list[Mapping[str, str]]:
        """Read every image once.

        Returns:
            The cases that can be segmented.

        Raises:
            ValueError: there are none; names every image and what is wrong with it.
            FileExistsError: a label map would replace what this product did not write, or another process writes there.
        """
        self._leave_out_label_maps()
        self.results.begin(self.cases)
        try:
            return self.results.left(self._usable())
        except BaseException:
            self.results.close()
            raise

    def _usable(self) -> list[Mapping[str, str]]:
        found = for_each(self.cases, lambda case: _file_faults(case["image"], "image"), "Checking images")
        faulty = [(case, faults) for case, faults in zip(self.cases, found, strict=True) if faults]
        self.failures = [Failure(case["case"], f"{case['image']}: {faults[0]}") for case, faults in faulty]
        for failure in self.failures:
            logger.error("left out: %s", failure)
        if len(faulty) == len(self.cases):
            self.report()
        return [case for case, faults in zip(self.cases, found, strict=True) if not faults]

    def report(self) -> None:
        """Tell at the end which images were left out.

        Raises:
            ValueError: there are any; names them, what is wrong with each, and what to do.
        """
        if self.failures:
            raise ValueError(
                f"{len(self.failures)} of {len(self.cases)} images could not be segmented:\n"
                + "\n".join(map(str, self.failures))
            )

    def _leave_out_label_maps(self) -> None:
        places = {(Path(case["image"]).resolve().parent, case["case"]) for case in self.cases}
        images = [case for case in self.cases if _segmented_case(case) not in places]
        if count := len(self.cases) - len(images):
            logger.info("%d label maps that lie beside their images are left out", count)
        self.cases = images


def _segmented_case(case: Mapping[str, str]) -> tuple[Path, str] | None:
    """The folder and the name of the case that this one would be a label map of, by its name."""
    name = case["case"]
    return (Path(case["image"]).resolve().parent, name.removesuffix(SEGMENTED)) if name.endswith(SEGMENTED) else None


class CheckImaged(MapTransform):
    """Refuses an image that nothing can be computed from, and changes nothing. Stands after ``LoadImaged``.

    Args:
        keys: images, channels first, that know their files.
        allow_missing_keys: do not insist on every key.

    Raises:
        ValueError: when called, if an image is not one 3D volume, is constant, or holds NaN or infinity.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at the images of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            array, path = d[key].numpy(force=True), str(d[key].meta.get("filename_or_obj", ""))
            array = array[0] if len(array) == 1 else array
            if faults := shape_faults(array, "image", path) or image_faults(Volume(array, np.asarray(d[key].affine))):
                raise ValueError(f"'{path}': {faults[0]}")
        return d
