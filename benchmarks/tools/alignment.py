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

"""How well the affine aligners of prepare.yaml bring pairs together: Dice of the labels, which they do not see.

python -m benchmarks.tools.alignment --pairs pairs.csv --tools elastix,SimpleITK \
    --elastix_python .venv-classical/bin/python
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch

from scripts.alignment.affine import choose_aligner
from scripts.alignment.prepare import align, write_fixed
from scripts.data.original import Original, read_original
from scripts.data.pair_table import read_pair_table
from scripts.fields.grids import voxel_points
from scripts.fields.world import sample_label_at


def overlap(moving: Original, fixed: Original, matrix: np.ndarray) -> float:
    """Mean Dice, over the structures of the fixed label, on the fixed file's own grid.

    Args:
        moving: with its label.
        fixed: with its label.
        matrix: (4, 4), from points of the fixed to those of the moving volume, RAS mm.
    """
    truth = fixed.label.as_tensor()[0]
    points = voxel_points(truth.shape, torch.from_numpy(matrix) @ fixed.label.affine)
    found = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)[0]
    both = [(found == i, truth == i) for i in truth.unique() if i]
    return float(np.mean([2 * float((a & b).sum()) / float(a.sum() + b.sum()) for a, b in both]))


def compare(pair: Mapping[str, Any], tools: Sequence[str], elastix_python: str | None) -> list[str]:
    """A line for the pair as it lies, and one for each tool."""
    fixed, moving = (read_original(pair[role]) for role in ("fixed", "moving"))
    lines = [f"{pair['name']}: as it lies {overlap(moving, fixed, np.eye(4)):.3f}"]
    with tempfile.TemporaryDirectory() as folder:
        file = write_fixed(Path(folder), fixed, None)
        for tool in tools:
            aligner = choose_aligner(tool, elastix_python=elastix_python if tool == "elastix" else None)
            start = time.time()
            matrix = align(moving, file, aligner)
            lines.append(f"  {tool} {overlap(moving, fixed, matrix):.3f}, {time.time() - start:.0f} s")
    return lines


def main(pairs: str, tools: str = "elastix,SimpleITK", elastix_python: str | None = None) -> None:
    """Align every pair by every tool.

    Args:
        pairs: a table with the columns moving, fixed, moving_label and fixed_label.
        tools: of ``elastix`` and ``SimpleITK``.
        elastix_python: the interpreter that has itk-elastix, when it is another environment's.
    """
    names = list(tools) if isinstance(tools, (list, tuple)) else tools.split(",")
    for pair in read_pair_table(pairs):
        sys.stdout.write("\n".join(compare(pair, names, elastix_python)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    fire.Fire(main)
