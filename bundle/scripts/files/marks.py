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
"""How a file says that this product wrote it, so that a later run may replace it and nobody else's.

NIfTI says it in ``descrip``, with a checksum of the voxels: a label map that somebody has corrected is no longer ours.
JSON has a key, PNG, HTML and YAML have a line. CSV, HDF5, NumPy and files of points are known by the manifest of their
folder (:mod:`scripts.files.manifest`).
"""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np

PRODUCT = "DeepRS"
KEY = "written_by"
CHUNK = 2**20


@cache
def written_by() -> str:
    """The product and its version: ``DeepRS 0.6.1``."""
    metadata = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"
    return f"{PRODUCT} {json.loads(metadata.read_text(encoding='utf-8'))['version']}"


def mark_nifti(image: nibabel.Nifti1Image) -> None:
    """Put the product and the checksum of the voxels, as they lie in the file, into ``descrip``."""
    voxels = np.asarray(image.dataobj).astype(image.get_data_dtype(), copy=False).tobytes(order="F")
    image.header["descrip"] = f"{written_by()}, crc {zlib.crc32(voxels):08x}".encode()


def marked(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with its mark, which is its last entry."""
    return {**content, KEY: written_by()}


def is_marked(path: Path) -> bool:
    """Whether a file says that this product wrote it; a NIfTI, also that its voxels are those that were written."""
    look = next((look for suffix, look in LOOKS.items() if path.name.lower().endswith(suffix)), None)
    try:
        return look is not None and look(path)
    except Exception:  # whatever it is, it is not ours
        return False


def open_nifti(path: Path) -> BinaryIO:
    """The bytes of a NIfTI, unpacked."""
    return gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _nifti(path: Path) -> bool:
    with open_nifti(path) as file:
        header = nibabel.Nifti1Header.from_fileobj(file, check=False)
        product, _, checksum = header["descrip"].item().decode("ascii", "replace").partition(", crc ")
        if not product.startswith(f"{PRODUCT} "):
            return False
        file.seek(int(header["vox_offset"]))
        found = 0
        while chunk := file.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return checksum == f"{found:08x}"


def _json(path: Path) -> bool:
    content = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and str(content.get(KEY, "")).startswith(f"{PRODUCT} ")


def _head(path: Path) -> bool:
    """PNG, HTML and YAML: near the beginning stands who made it."""
    with open(path, "rb") as file:
        return f"{PRODUCT} ".encode() in (head := file.read(2048)) and any(word in head for word in LINES)


LINES = (b"Software\0", b'name="generator"', f"# {KEY} ".encode())
LOOKS = {
    ".nii.gz": _nifti,
    ".nii": _nifti,
    ".json": _json,
    **dict.fromkeys((".png", ".html", ".yaml"), _head),
}
