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
"""The manifest of an output folder: which of its files this product wrote, with sizes and hashes.

It lies in ``.deeprs/``, beside the lock of a run and what a run has not put in place yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .datalist import read_json
from .marks import CHUNK, is_marked
from .writing import write_result

#: the folder of what is ours and no result, in each output folder
PRIVATE = ".deeprs"
MANIFEST = f"{PRIVATE}/manifest.json"


def describe(path: Path) -> dict[str, Any]:
    """Bytes and hash of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": found.hexdigest()}


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """What the manifest of a folder lists: path, relative to the folder or absolute -> bytes and hash."""
    path = folder / MANIFEST
    return dict(read_json(path).get("files", {})) if path.is_file() else {}


def add_to_manifest(folder: Path, files: Mapping[str, Mapping[str, Any]], removed: Iterable[str] = ()) -> None:
    """Write the manifest anew with further files, and without those that have gone."""
    known = {name: facts for name, facts in listed(folder).items() if name not in set(removed)}
    write_result(folder / MANIFEST, {"files": dict(sorted((known | dict(files)).items()))})


def is_ours(folder: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether this product wrote what a file holds now.

    Args:
        folder: the output folder.
        name: of the file, relative to the folder or absolute.
        files: what the manifest lists.
    """
    path = folder / name
    if not path.is_file():
        return False
    facts = files.get(name)
    if facts is not None and path.stat().st_size == facts["bytes"] and describe(path) == facts:
        return True
    is_volume = path.name.lower().endswith((".nii", ".nii.gz"))  # its mark has a checksum, and speaks for itself
    return (facts is None or is_volume) and is_marked(path)


def differing(folder: Path, names: Iterable[str]) -> list[str]:
    """Those files that are not what the manifest says; without a manifest, as of 0.6, none is."""
    files = listed(folder)
    return [
        name
        for name in names
        if name in files and not ((folder / name).is_file() and describe(folder / name) == files[name])
    ]
