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
"""A raw data set of nnU-Net, version 2: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .datalist import SUFFIXES, read_json
from .pairing import find_cases, pair_up, rule_of, volumes_in

__all__ = ["find_nnunet_images", "is_nnunet", "scan_nnunet"]


def is_nnunet(content: Mapping[str, Any]) -> bool:
    """Whether a ``dataset.json`` is of nnU-Net's version 2, and not of the Decathlon."""
    return "channel_names" in content or "file_ending" in content


def scan_nnunet(
    content: Mapping[str, Any], source: Path, image_name: str | None = None, label_name: str | None = None
) -> dict:
    """Describe the data set as a datalist that nobody has split yet.

    Cases of ``imagesTr`` without a file in ``labelsTr`` are unlabelled; those of ``imagesTs`` are test cases where
    ``labelsTs`` has their labels, and unlabelled otherwise.

    Args:
        content: of ``dataset.json``.
        source: that file.
        image_name: a rule for the images instead of ``*_0000.nii.gz``, such as one for another channel.
        label_name: a rule for the labels.

    Raises:
        FileNotFoundError: there are no images.
        ValueError: an image has several channels, a label is a region, or files are of a format that is not read.
    """
    names, parts = _names_of_ids(content.get("labels"), source), {}
    for part in ("Tr", "Ts"):
        images = _images(content, source, part, image_name)
        folder = source.parent / f"labels{part}"
        labels = find_cases(folder, rule_of(label_name, "label_name")) if folder.is_dir() and images else {}
        parts[part] = pair_up(images, labels, folder)
    return {
        "labels": names,
        "training": parts["Tr"]["training"],
        "test": parts["Ts"]["training"],
        "unlabeled": parts["Tr"]["unlabeled"] + parts["Ts"]["unlabeled"],
    }


def find_nnunet_images(folder: Path, image_name: str | None = None) -> list[dict] | None:
    """All images of a data set, or of its ``imagesTr`` or ``imagesTs`` alone, whether they have labels or not.

    Args:
        folder: the one or the other.
        image_name: as for :func:`scan_nnunet`.

    Returns:
        Cases; none where the folder is of no data set of nnU-Net.
    """
    is_part = folder.name in ("imagesTr", "imagesTs")
    source = (folder.parent if is_part else folder) / "dataset.json"
    if not source.is_file() or not is_nnunet(content := read_json(source)):
        return None
    parts = [folder.name[-2:]] if is_part else ["Tr", "Ts"]
    images = {name: path for part in parts for name, path in _images(content, source, part, image_name).items()}
    return [{"case": name, "image": str(path)} for name, path in images.items()]


def _images(content: Mapping[str, Any], source: Path, part: str, image_name: str | None) -> dict[str, Path]:
    """Images of one part by case; `imagesTs` need not be there."""
    folder, ending = source.parent / f"images{part}", str(content.get("file_ending", ".nii.gz"))
    if "dataset" in content:
        raise ValueError(
            f"{source} lists its files under `dataset`, which is not read here. Write a datalist of them "
            "({'labels': {'1': 'liver'}, 'training': [{'image': path, 'label': path}]}), and name it by --datalist."
        )
    if ending.lower() not in SUFFIXES:
        raise ValueError(f"{source}: volumes with the `file_ending` '{ending}' are not read. Convert them to .nii.gz.")
    if not folder.is_dir():
        if part == "Ts":
            return {}
        raise FileNotFoundError(f"{source} is a dataset.json of nnU-Net, and there is no folder {folder} with images.")
    if image_name:
        return find_cases(folder, rule_of(image_name, "image_name"))
    return _single_channels(folder, ending, content, source)


def _single_channels(folder: Path, ending: str, content: Mapping[str, Any], source: Path) -> dict[str, Path]:
    """Images by case, each of which has one file, of channel 0.

    Several channels a case are to be taken from here once they are.
    """
    channels: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(volumes_in(folder)):
        match = re.fullmatch(rf"(.+)_(\d{{4}}){re.escape(ending)}", path.name)
        if match is None:
            raise ValueError(
                f"{path} has no number of a channel: expected CASE_0000{ending}, as {source} is of nnU-Net.\n"
                f'  Rename it, or add --image_name "*{ending}".'
            )
        channels[match[1]][int(match[2])] = path
    for case, files in channels.items():
        if list(files) != [0] or len(content.get("channel_names") or {"0": ""}) > 1:
            found = ", ".join(path.name for path in files.values())
            raise ValueError(
                f"case '{case}' of {folder}: expected one channel, {case}_0000{ending}, found {found}; {source} names "
                f"the channels {content.get('channel_names')}. Several channels are not taken yet.\n"
                f'  Choose one for all cases: --image_name "*_{min(files):04d}{ending}".'
            )
    return {case: files[0] for case, files in channels.items()}


def _names_of_ids(labels: Any, source: Path) -> dict[str, str]:
    """Id -> name, the other way round than nnU-Net has it."""
    if not isinstance(labels, Mapping):
        raise ValueError(f"`labels` of {source} should map names to ids, as nnU-Net's do, found {labels!r}.")
    names: dict[str, str] = {}
    for name, value in labels.items():
        if isinstance(value, list | tuple):
            raise ValueError(
                f"{source}: the label '{name}' is a region, of the ids {list(value)}. Regions are not taken yet.\n"
                "  Give each id of the label files a name of its own: "
                '{"background": 0, "edema": 1, "enhancing tumour": 2}.'
            )
        if isinstance(value, bool) or not str(value).isdigit():
            raise ValueError(f"{source}: the label '{name}' should have a whole number as its id, found {value!r}.")
        if str(value) in names:
            raise ValueError(f"{source}: the labels '{names[str(value)]}' and '{name}' have one id, {value}. Keep one.")
        names[str(value)] = str(name)
    return names
