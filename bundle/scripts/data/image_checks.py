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
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..files import processes
from ..files.each_case import Failure, for_each
from ..files.errors import root_cause
from .label_map_files import ENDINGS
from .label_map_folder import LabelMapFolder
from .preprocessed_checks import value_faults
from .readers import tell_placement
from .transforms import describe_strays, find_strays
from .volumes import Volume, grid_faults, image_faults, read_volume, volume_faults

__all__ = ["CheckImaged", "CheckPreprocessedd", "ImageCheck", "check_cases", "check_files", "fill_number"]

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


def check_cases(
    cases: Iterable[Mapping[str, str]], label_ids: Sequence[int], preprocessing: Callable | None = None
) -> int:
    """Refuse cases that nothing can be scored on, all at once and before any is.

    Args:
        cases: ``case``, ``image`` and, where there is one, ``label``: paths. A case may come several times.
        label_ids: those that a label may hold. Not all, nor any, have to be there: an empty label is told in a warning.
        preprocessing: what the networks get of an image, from its path; it is looked at as training does.

    Returns:
        Voxels of the largest image.

    Raises:
        ValueError: names each faulty case, what is wrong with it, and what to do.
    """
    once = list({(case["image"], case.get("label")): case for case in cases}.values())
    look = partial(_look_at_case, label_ids=label_ids, preprocessing=preprocessing)
    found = for_each(once, look, "Checking cases")
    if faults := [f"case '{case['case']}': {f}" for case, look in zip(once, found, strict=True) for f in look.faults]:
        raise ValueError("\n".join(faults))
    warn_of_empty_labels([case["case"] for case, look in zip(once, found, strict=True) if look.is_empty])
    return max((look.voxels for look in found), default=0)


def warn_of_empty_labels(names: Sequence[str]) -> None:
    """Say which cases to score have a label without any structure; of several processes the first one says it."""
    if names and processes.rank() == 0:
        logger.warning(
            "the label of %s is empty. Where nothing is found there, rightly, the case has no Dice and is left out of "
            "the means; any voxel that is found counts as a Dice of 0.",
            ", ".join(names),
        )


class _Look(NamedTuple):
    """What was seen of a case: voxels of its image, whether its label is empty, and what is wrong."""

    voxels: int
    is_empty: bool
    faults: list[str]


def _look_at_case(case: Mapping[str, str], label_ids: Sequence[int], preprocessing: Callable | None) -> _Look:
    faults: list[str] = []
    image = read_volume(case["image"], "image", faults)
    label = read_volume(case["label"], "label", faults) if "label" in case else None
    for key, volume in (("image", image), ("label", label)):
        if volume is not None:
            tell_placement(case[key], volume.placement)
    if image is not None:
        faults += image_faults(image, may_be_constant=True)
    if label is not None and (strays := find_strays(torch.from_numpy(label.array), label_ids)):
        faults.append(describe_strays(strays, label_ids))
    if image is not None and label is not None:
        faults += grid_faults(image, label.laid_on(image))
    if preprocessing is not None and not faults:
        faults += _preprocessed_faults(case["image"], preprocessing)
    is_empty = label is not None and not label.array.any()
    return _Look(0 if image is None else image.array.size, is_empty, faults)


def _preprocessed_faults(path: str, preprocessing: Callable) -> list[str]:
    """What is wrong with what the networks get of an image; or what preprocessing it ended with."""
    try:
        seen = preprocessing({"image": path})["image"]
    except Exception as error:  # transforms raise what they like, and the other images are to be checked, too
        cause = root_cause(error)
        if isinstance(cause, ValueError):
            return [str(cause).removeprefix(f"'{path}': ")]
        return [f"preprocessing fails: {type(cause).__name__}: {cause}"]
    return seen_faults(seen)


def seen_faults(seen: Any) -> list[str]:
    """Say where what preprocessing made of an image cannot be used, by what it still knows of its file.

    Args:
        seen: what the networks get, (1, D, H, W); anything but a MONAI tensor was not preprocessed, and passes.
    """
    if not isinstance(seen, MetaTensor):
        return []
    affine, shape = seen.meta.get("original_affine"), seen.meta.get("spatial_shape")
    if affine is None or shape is None:  # made by hand: all of it is shown
        affine, shape = seen.affine, seen.shape[1:]
    return value_faults(seen, affine, tuple(int(size) for size in shape[:3]))


def _file_faults(file: str | Path | Volume, what: str, may_be_constant: bool = False) -> list[str]:
    faults: list[str] = []
    if isinstance(file, Volume):
        volume, faults = file, volume_faults(file, what, "an array in memory")
    else:
        volume = read_volume(str(file), what, faults)
        if volume is not None:
            tell_placement(file, volume.placement)
    return faults if faults or what == "label" else image_faults(volume, may_be_constant)


class ImageCheck:
    """Looks through the images to segment before the first of them is, so that a bad one does not stop the others.

    Results that lie beside the images, such as ``NAME_seg`` of a case ``NAME``, are no images, whoever made them.

    Args:
        cases: ``case`` and ``image`` of each.
        results: where the label maps go.
        preprocessing: what the networks get of an image, from its path; it is looked at as training does.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, str]],
        results: LabelMapFolder,
        preprocessing: Callable | None = None,
    ) -> None:
        self.cases, self.results, self.preprocessing = list(cases), results, preprocessing
        self.failures: list[Failure] = []

    def usable(self) -> list[Mapping[str, str]]:
        """Read every image, and look at what preprocessing makes of it.

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
        found = for_each(self.cases, self._faults, "Checking images")
        faulty = [(case, faults) for case, faults in zip(self.cases, found, strict=True) if faults]
        self.failures = [Failure(case["case"], f"{case['image']}: {faults[0]}") for case, faults in faulty]
        for failure in self.failures:
            logger.error("left out: %s", failure)
        if len(faulty) == len(self.cases):
            self.report()
        return [case for case, faults in zip(self.cases, found, strict=True) if not faults]

    def _faults(self, case: Mapping[str, str]) -> list[str]:
        faults = _file_faults(case["image"], "image")
        return faults or ([] if self.preprocessing is None else _preprocessed_faults(case["image"], self.preprocessing))

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
            logger.info("%d results that lie beside their images are left out", count)
        self.cases = images


def _segmented_case(case: Mapping[str, str]) -> tuple[Path, str] | None:
    """The folder and the name of the case that this one would be a result of, by its name."""
    name = case["case"]
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    return None if ending is None else (Path(case["image"]).resolve().parent, name.removesuffix(ending))


class CheckImaged(MapTransform):
    """Refuses an image that nothing can be computed from, and changes nothing. Stands after ``LoadVolumed``.

    Args:
        keys: images, channels first, that know their files.
        allow_missing_keys: do not insist on every key.

    Raises:
        ValueError: when called, if an image is not one 3D volume, is constant, or holds NaN or infinity, or its axes
            are not at right angles.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at the images of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            array, path = d[key].numpy(force=True), str(d[key].meta.get("filename_or_obj", ""))
            array = array[0] if len(array) == 1 else array
            volume = Volume(array, np.asarray(d[key].affine))
            if faults := volume_faults(volume, "image", path) or image_faults(volume):
                raise ValueError(f"'{path}': {faults[0]}")
        return d


class CheckPreprocessedd(MapTransform):
    """Refuses what the networks could not use of an image, and changes nothing. Stands at the end of preprocessing.

    Args:
        keys: images (1, D, H, W) that know their files and come from them.
        allow_missing_keys: do not insist on every key.

    Raises:
        ValueError: when called, if an image is constant, not finite, or not within [0, 1]; says what to do.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at the images of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            if faults := seen_faults(d[key]):
                raise ValueError(f"'{d[key].meta.get('filename_or_obj', key)}': {faults[0]}")
        return d
