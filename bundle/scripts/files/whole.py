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
"""Whether a file is whole: looked at after it was written, since libraries lose errors of a full disc."""

from __future__ import annotations

import errno
import gzip
import json
import os
import zipfile
import zlib
from pathlib import Path

import nibabel
from PIL import Image

from .marks import CHUNK, open_nifti

__all__ = ["check_whole", "sync"]


def check_whole(path: Path) -> None:
    """Read a file again as far as it takes to know that nothing of it is missing.

    Args:
        path: of any format; what is known of it goes by the suffix, and no file may be empty.

    Raises:
        OSError: it is cut short, or cannot be read.
    """
    check = next((check for suffix, check in CHECKS.items() if path.name.lower().endswith(suffix)), None)
    try:
        if path.stat().st_size == 0:
            raise EOFError("0 bytes were written")
        if check is not None:
            check(path)
    except (EOFError, ValueError, SyntaxError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise OSError(errno.EIO, f"what was written is not whole ({error})") from error


def sync(path: Path) -> None:
    """Have the system put a file, or the names of a folder, onto the disc."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing for folders
            raise
    finally:
        os.close(descriptor)


def _nifti(path: Path) -> None:
    with open_nifti(path) as file:
        header = nibabel.Nifti1Header.from_fileobj(file, check=False)
        expected = int(header["vox_offset"]) + header.get_data_dtype().itemsize * int(_product(header.get_data_shape()))
        file.seek(0)
        found = sum(len(chunk) for chunk in iter(lambda: file.read(CHUNK), b""))
    if found < expected:
        raise EOFError(f"{found} bytes of {expected}")


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= int(size)
    return count


def _json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        if (bad := file.testzip()) is not None:
            raise EOFError(f"damaged: {bad}")


def _png(path: Path) -> None:
    with Image.open(path) as picture:
        picture.verify()


CHECKS = {".nii.gz": _nifti, ".nii": _nifti, ".json": _json, ".npz": _zip, ".png": _png}
