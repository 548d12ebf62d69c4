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

"""How datalists, folders of volumes and file names are read.

Nothing is chosen or split here: that is the work of :mod:`scripts.data.cases`.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LISTS = ("labeled", "unlabeled", "validation", "test")
# Of the formats with two files a volume, the header stands for it.
SUFFIXES = (".nii.gz", ".gipl.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".hdr")


def case_name(path: str | Path) -> str:
    """Name a case after its file, without the folder and without the format's suffix; a DICOM series after its folder.

    >>> case_name("imagesTr/ct_1007.nii.gz")
    'ct_1007'
    """
    path = Path(path)
    plain = path.name if path.is_dir() else path.stem
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), plain)


def check_name(name: str, source: Path) -> str:
    """Refuse a name that would put results out of their folder: files are named after cases, and folders after pairs.

    Args:
        name: as a list of cases or a table of pairs has it.
        source: that file, for the message.

    Returns:
        The same name.

    Raises:
        ValueError: it is a path, or none for a file.
    """
    if name == ".." or "\0" in name or Path(name).name != name:
        raise ValueError(f"{source}: '{name}' is no name for a file, and results are named so. Leave out `/` and `..`.")
    return name


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, with errors that name the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no text, or endless
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold a JSON object with lists of cases, found a {type(content).__name__}.")
    return content


def resolve_entry(entry: Any, source: Path, where: str) -> dict:
    """Turn an entry of a list into a case with absolute paths.

    Args:
        entry: ``{"image": path, "label": path, "case": name, "missing": [structure]}``, all but the first optional, or
            the image's path alone.
        source: the file that states it; paths are relative to its folder.
        where: the list it stands in, for messages.

    Returns:
        The case. Symbolic links are kept as they are, since a case is named after its link.

    Raises:
        ValueError: the entry has no image, a path is not a string, the name is none for a file, or ``missing`` is no
            list.
    """
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or "image" not in entry:
        raise ValueError(
            f"{source}: an entry of '{where}' names no image: {entry!r}. Expected a path or {{'image': path}}."
        )
    case = {"case": str(entry.get("case", ""))}
    for key in ("image", "label"):
        path = entry.get(key)
        if path is None and key == "label":
            continue
        if not isinstance(path, str):
            raise ValueError(f"{source}: the {key} of an entry of '{where}' should be one path, found {path!r}.")
        case[key] = os.path.abspath(source.parent / path)
    case["case"] = check_name(case["case"] or case_name(case["image"]), source)
    if "missing" in entry:
        if not isinstance(entry["missing"], list):
            raise ValueError(
                f"case '{case['case']}' of {source}: `missing` should list the structures that its label leaves out, "
                f"by their names or ids, found {entry['missing']!r}."
            )
        case["missing"] = tuple(entry["missing"])
    return case


def find_volumes(folder: Path) -> dict[str, Path]:
    """The volumes of a folder by case name; the hidden `._*` files of Decathlon archives are none."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.absolute().iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
            continue
        name = case_name(path)
        if name in found:
            raise ValueError(f"case '{name}' has two files: {found[name]} and {path}. Keep one of them.")
        found[name] = path
    return found


def check_lists(entries: Mapping[str, Any], source: Path) -> None:
    """Refuse a datalist in which a list of cases would be passed over, or would be read in two ways."""
    for key, value in entries.items():
        if key in (*LISTS, "training") and not isinstance(value, (list, type(None))):
            raise ValueError(f"{source}: '{key}' should be a list of cases, found {value!r}.")
        holds_cases = isinstance(value, list) and any(
            isinstance(entry, Mapping) and "image" in entry for entry in value
        )
        if holds_cases and key not in (*LISTS, "training"):
            near = difflib.get_close_matches(key, (*LISTS, "training"), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"{source}: unknown list of cases '{key}'.{hint} Known: {', '.join(LISTS)}, training.")
    if entries.get("training") and entries.get("labeled"):
        raise ValueError(
            f"{source} states both 'training' (to be split) and 'labeled' (already split). Keep one of them."
        )
