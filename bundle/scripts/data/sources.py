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
"""What states the cases of a data set, a datalist or a folder as people have them, read into the form of a datalist."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files.bids import find_bids_images, is_bids, scan_bids
from ..files.datalist import SUFFIXES, check_lists, read_json, resolve_entry
from ..files.nnunet import find_nnunet_images, is_nnunet, scan_nnunet
from ..files.output_folder import settle
from ..files.pairing import find_cases, rule_of, scan_folder
from ..files.series import find_series, is_series

__all__ = ["Source", "find_images", "find_source"]

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """What states the cases.

    Args:
        path: the file or folder, to which paths are relative.
        entries: the lists, as a datalist has them.
        names: what ids are called that the label files hold; None: ``labels`` of a datalist has to say it.
    """

    path: Path
    entries: dict[str, Any]
    names: Mapping[int, str] | None = None


def find_source(
    folder: Path, datalist: str | Path | None, image_name: str | None = None, label_name: str | None = None
) -> Source:
    """Find what states the cases; arguments as for :func:`scripts.data.cases.load_cases`.

    Raises:
        FileNotFoundError: nothing does.
        ValueError: it is malformed, or has no pair of an image and a label.
    """
    settle(Path(datalist).expanduser() if datalist else folder)
    lists = [Path(datalist).expanduser()] if datalist else [folder / "datalist.json", folder / "dataset.json"]
    for path in lists:
        if datalist or path.is_file():
            content = read_json(path)
            if is_nnunet(content):
                return Source(path, scan_nnunet(content, path, image_name, label_name))
            for option, rule in (("image_name", image_name), ("label_name", label_name)):
                if rule is not None:
                    logger.warning("--%s %s is passed over: %s says which files there are", option, rule, path)
            return Source(path, content)
    if not (folder / "images").is_dir() and is_bids(folder):
        return Source(folder, *scan_bids(folder, image_name, label_name))
    if (folder / "images").is_dir() or (image_name and folder.is_dir()):
        return Source(folder, scan_folder(folder, image_name, label_name), {})
    raise FileNotFoundError(
        f"no cases found in {folder}. Looked for datalist.json, dataset.json and a folder images/ in it, and for "
        "sub-*/anat/ (BIDS).\n  Set `dataset_dir` to a folder that has one of them, or `datalist` to a JSON file; or "
        'say how images and labels are named: --image_name "*_T1w.nii.gz" --label_name "*_dseg.nii.gz".'
    )


def find_images(
    dataset_dir: str | Path, datalist: str | Path | None, lists: Sequence[str], image_name: str | None = None
) -> tuple[Path, list[dict]]:
    """List images, whether they have labels or not; arguments as for :func:`scripts.data.cases.load_images`.

    Returns:
        What states them, and cases with at least ``case`` and ``image``, of which there may be none.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    source = Path(datalist or dataset_dir).expanduser()
    settle(source)
    if datalist:
        entries = read_json(source)
        check_lists(entries, source)
        return source, [resolve_entry(entry, source, key) for key in lists for entry in entries.get(key) or ()]
    if not source.exists():
        raise FileNotFoundError(f"no such file or folder: {source}. Expected a folder of images, or one image.")
    if source.is_file():
        return source, [resolve_entry(str(source.absolute()), source, "images")]
    return source, [resolve_entry(entry, source, "images") for entry in _images_in(source, image_name)]


def _images_in(folder: Path, image_name: str | None) -> list[dict]:
    """The images of a folder that has a form of its own, or are simply there: volumes, and DICOM series."""
    if not (folder / "images").is_dir():
        if (found := find_nnunet_images(folder.absolute(), image_name)) is not None:
            return found
        if is_bids(folder):
            return find_bids_images(folder, image_name)
    folder = folder / "images" if (folder / "images").is_dir() else folder
    found = find_cases(folder, rule_of(image_name, "image_name"))
    if image_name is None:
        found |= find_series(folder)
        if not found and is_series(folder):
            found = {folder.absolute().name: folder.absolute()}
    return [{"case": name, "image": str(path)} for name, path in found.items()]


def looked_for(datalist: str | Path | None, lists: Sequence[str]) -> str:
    """What :func:`find_images` looks for, in words."""
    return ", ".join(lists) if datalist else f"{', '.join(SUFFIXES)}, and for DICOM files"
