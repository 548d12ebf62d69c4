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

"""Dictionary transforms that MONAI lacks: label ids to classes and back, and a ``Spacingd`` that minds its own keys."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import LoadImaged, MapTransform, Spacingd
from monai.utils import convert_to_dst_type, convert_to_tensor

from ..files.datalist import case_name
from .ids import whole_ids
from .volumes import Volume

__all__ = [
    "ClassesToLabelsd",
    "LabelsToClassesd",
    "SafeSpacingd",
    "describe_strays",
    "find_strays",
    "preprocess",
]

MAX_CLASS = 255  # classes are kept as uint8
LARGEST_ID = 2**24 - 1  # files are read as float32, which cannot tell larger whole numbers apart


class LabelsToClassesd(MapTransform):
    """Map the ids of a label file to the contiguous classes 0..K.

    Networks and one-hot labels count from 0 without holes, files do not: MM-WHS uses 205..850, atlases leave numbers
    out. The k-th of ``label_ids`` becomes class k, counted from 1, and 0 stays the background. Run it before anything
    resamples the label. The result is uint8 and keeps the affine; ids that are 1..K already stay as they are.

    Args:
        keys: labels of any shape.
        label_ids: the foreground ids, without 0 (see :attr:`scripts.data.cases.Cases.label_ids`).
        allow_missing_keys: pass unlabelled subjects by.

    Raises:
        ValueError: when called, if the label holds anything else than 0 and ``label_ids``.
    """

    def __init__(self, keys: KeysCollection, label_ids: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_ids = _check_ids(label_ids)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the labels of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            values = _plain(d[key])
            if strays := find_strays(values, self.label_ids):
                raise ValueError(f"{_name_of(d, key)}: {describe_strays(strays, self.label_ids)}")
            values = _comparable(values)
            ids = torch.tensor((0, *self.label_ids), dtype=values.dtype, device=values.device)
            ascending, order = ids.sort()
            classes = order.to(torch.uint8)[torch.searchsorted(ascending, values, out_int32=True)]
            d[key] = convert_to_dst_type(classes, d[key], dtype=torch.uint8)[0]
        return d


class ClassesToLabelsd(MapTransform):
    """Map classes 0..K to the ids that files use: the inverse of :class:`LabelsToClassesd`.

    Args:
        keys: class maps of any shape, as integers or as floating-point numbers that are whole.
        label_ids: the foreground ids, without 0; class k becomes the k-th of them.
        allow_missing_keys: do not insist on every key.

    Raises:
        ValueError: when called, if there is a class that is not 0..K.
    """

    def __init__(self, keys: KeysCollection, label_ids: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_ids = _check_ids(label_ids)
        # The smallest type that NIfTI viewers read everywhere.
        largest = max(self.label_ids)
        self.dtype = torch.uint8 if largest < 2**8 else torch.int16 if largest < 2**15 else torch.int32

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the class maps of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            classes = _plain(d[key])
            if strays := find_strays(classes, range(1, len(self.label_ids) + 1)):
                raise ValueError(
                    f"{_name_of(d, key)}: '{key}' should hold the classes 0..{len(self.label_ids)}, "
                    f"found {_count_voxels(strays)}."
                )
            ids = torch.tensor((0, *self.label_ids), dtype=self.dtype, device=classes.device)
            d[key] = convert_to_dst_type(ids[_comparable(classes).to(torch.int32)], d[key], dtype=self.dtype)[0]
        return d


class SafeSpacingd(Spacingd):
    """MONAI's ``Spacingd``, without its claim on other entries whose names begin like its own.

    After resampling ``image`` of a NIfTI file, ``Spacingd`` updates every entry named ``image_...`` as if it were a
    dictionary of metadata, and fails on the ``image_path`` that MONAI Label sends, or on a volume ``fixed_label``. Here
    it sees the volumes only, under names that nothing begins with. Inverts as ``Spacingd`` does.

    Args:
        keys: images and labels to resample.
        pixdim: spacing of the result in mm.
        allow_missing_keys: do not insist on every key.
        kwargs: further options of ``Spacingd``; sequences have one entry per key.
    """

    def __init__(
        self, keys: KeysCollection, pixdim: Sequence[float] | float, allow_missing_keys: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(keys, pixdim, allow_missing_keys=allow_missing_keys, **kwargs)
        self._aliases = {key: f"{number}" for number, key in enumerate(self.keys)}
        self._inner = Spacingd(tuple(self._aliases.values()), pixdim, allow_missing_keys=True, **kwargs)
        self._inner.spacing_transform = self.spacing_transform  # MONAI lets only the instance that ran invert

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample the volumes of ``keys``; everything else passes through untouched."""
        d = dict(data)
        volumes = {self._aliases[key]: d[key] for key in self.key_iterator(d)}
        resampled = self._inner(volumes, lazy=self.lazy if lazy is None else lazy)
        return d | {key: resampled[alias] for key, alias in self._aliases.items() if alias in resampled}


def preprocess(preprocessing: Callable, image: str | Path | Volume, name: str) -> Any:
    """Preprocess an image for the networks.

    Args:
        preprocessing: dictionary transforms that start from the path of ``image``. A volume enters behind
            ``LoadImaged``.
        image: a path, or a volume in memory.
        name: of a volume in memory, for messages.

    Returns:
        The image as the networks see it, (1, D, H, W) with its affine and what was done to it.
    """
    if not isinstance(image, Volume):
        return preprocessing({"image": image})["image"]
    loading = preprocessing.get_index_of_first(lambda transform: isinstance(transform, LoadImaged))
    return preprocessing({"image": image.as_image(name)}, start=loading + 1)["image"]


def find_strays(values: torch.Tensor, known: Sequence[int]) -> dict[float, int]:
    """Find what is neither background nor a known id.

    Args:
        values: a label of any shape and type.
        known: the ids it may hold besides 0.

    Returns:
        Each other value with its number of voxels, ascending; NaN last. Empty for a good label.
    """
    values = _comparable(values)
    expected = torch.tensor(sorted({0, *known}), dtype=values.dtype, device=values.device)
    nearest = torch.searchsorted(expected, values, out_int32=True).clamp_(max=len(expected) - 1)
    strays = values[expected[nearest] != values]
    missing = int(strays.isnan().sum())
    found, counts = strays[~strays.isnan()].unique(return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True)) | ({float("nan"): missing} if missing else {})


def describe_strays(strays: Mapping[float, int], known: Sequence[int]) -> str:
    """Say which values of a label are unknown, which are known, and what to do about it."""
    whole = all(float(value).is_integer() for value in strays)
    advice = (
        "Correct the label, or name the id in `labels`."
        if whole
        else "A label holds whole numbers: was it resampled by linear interpolation, or is it an image?"
    )
    return f"unknown label {_count_voxels(strays)}.\n  known    0, {_shorten(known)}\n  {advice}"


def _count_voxels(strays: Mapping[float, int]) -> str:
    return _shorten(f"{value:g} ({count} voxel{'s' * (count > 1)})" for value, count in strays.items())


def _shorten(values: Iterable[Any], limit: int = 8) -> str:
    values = [str(value) for value in values]
    return ", ".join(values[:limit]) + (f" and {len(values) - limit} more" if len(values) > limit else "")


def _plain(label: Any) -> torch.Tensor:
    """The numbers of a label, whatever holds them."""
    return convert_to_tensor(label, track_meta=False)


def _comparable(values: torch.Tensor) -> torch.Tensor:
    """A copy in which every id can be written, whole: uint8 could not hold 850 to compare with."""
    return (whole_ids(values) if values.is_floating_point() else values.to(torch.int32)).contiguous()


def _check_ids(label_ids: Sequence[int]) -> tuple[int, ...]:
    ids = tuple(int(i) for i in label_ids)
    if not ids or len(set(ids)) < len(ids) or min(ids) < 1:
        raise ValueError(f"label_ids should be different numbers above 0 (the background), found {label_ids}.")
    if max(ids) > LARGEST_ID:
        raise ValueError(f"label_ids has {max(ids)}, and {LARGEST_ID} is the largest id possible: number them anew.")
    if len(ids) > MAX_CLASS:
        raise ValueError(f"at most {MAX_CLASS} structures are possible, found {len(ids)} label_ids.")
    return ids


def _name_of(data: Mapping[Hashable, Any], key: Hashable) -> str:
    """The case, and the file where it is known, for messages."""
    path = str(getattr(data[key], "meta", {}).get("filename_or_obj", ""))
    name = data.get("case") or case_name(path)
    return f"case '{name}'" + (f" ({path})" if path not in ("", name) else "")
