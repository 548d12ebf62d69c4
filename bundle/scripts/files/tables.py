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
"""Tables as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .writing import replacing


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Tell what keeps a CSV, or a JSON, from being read by the name of the file.

    Raises:
        ValueError: within, a cell was endless or a nesting too deep; the libraries raise other errors.
    """
    try:
        yield
    except (csv.Error, RecursionError) as error:
        raise ValueError(f"'{path}' cannot be read: {error}.") from error


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one form as a whole; without rows, remove what an earlier run left.

    A value that does not exist is an empty field.
    """
    if not rows:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, (float, np.floating)):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""
