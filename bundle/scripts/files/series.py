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
"""Folders that hold a DICOM series, told from others without opening an image."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_series", "is_series", "slices_in"]


def slices_in(folder: str | Path) -> list[Path]:
    """The files of a folder that are DICOM by the mark behind their preamble, by name; not those of its folders."""
    return [path for path in sorted(Path(folder).iterdir()) if _is_dicom(path)]


def is_series(path: str | Path) -> bool:
    """Whether a path is a folder with DICOM files in it."""
    return Path(path).is_dir() and any(_is_dicom(file) for file in Path(path).iterdir())


def find_series(folder: Path) -> dict[str, Path]:
    """The folders in a folder that hold DICOM files, by name."""
    return {path.name: path for path in sorted(folder.absolute().iterdir()) if path.name[0] != "." and is_series(path)}


def _is_dicom(path: Path) -> bool:
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
