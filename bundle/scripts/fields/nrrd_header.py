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
"""What the header of an NRRD file says of its space, which its readers understand in different ways, or pass over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# those that ITK turns into its own LPS; a header may name them in two ways
SPACES = {
    "left-posterior-superior": "LPS", "lps": "LPS",
    "right-anterior-superior": "RAS", "ras": "RAS",
    "left-anterior-superior": "LAS", "las": "LAS",
}  # fmt: skip
NO_SPACE = (
    "its header names no space: left and right are a guess. LPS is taken, as ITK does. If that is right, write "
    "`space: left-posterior-superior` into it."
)
LONGEST = 2**20  # bytes: a header ends long before


def is_nrrd(path: str | Path) -> bool:
    """Whether a file is an NRRD by its name."""
    return Path(path).name.lower().endswith((".nrrd", ".nhdr"))


def read_nrrd_header(path: str | Path) -> dict[str, str]:
    """Read the fields of an NRRD header, names in lower case. Key/value pairs of its writer are left out."""
    with open(path, "rb") as file:
        text = file.read(LONGEST).replace(b"\r\n", b"\n").split(b"\n\n", 1)[0].decode("latin-1")
    lines = (line.partition(": ") for line in text.splitlines() if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def nrrd_space(header: Mapping[str, str], name: str) -> str | None:
    """Say in which space an NRRD file lies: LPS, RAS or LAS, all of which ITK reads rightly; None where it names none.

    Args:
        header: of :func:`read_nrrd_header`.
        name: of the file, for messages.

    Raises:
        ValueError: it lies in another space, of which nobody knows where the patient's left is, or not in mm.
    """
    units = header.get("space units", "").replace('"', " ").split()
    if wrong := {unit for unit in units if unit.lower() not in ("mm", "millimeter", "millimetre", "???", "none")}:
        raise ValueError(f"'{name}' is in {', '.join(sorted(wrong))}, which ITK takes for mm: convert it to mm.")
    space = header.get("space", "")
    if not space:
        return None
    if space.lower() not in SPACES:
        raise ValueError(
            f"'{name}' lies in the space '{space}', expected left-posterior-superior, right-anterior-superior or "
            "left-anterior-superior: where its left is nobody knows. Convert it to one of these."
        )
    return SPACES[space.lower()]
