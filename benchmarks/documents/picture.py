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
"""The picture of the README, from the median test pair of an evaluation.

python -m benchmarks.documents.picture --evaluation output/compare/hippocampus/best_aug_s0 --path docs/result.png
"""

from __future__ import annotations

from pathlib import Path

import fire
import numpy as np

from scripts.pictures.figures import figure_to_png, pair_figure
from scripts.pictures.orientation import Frame


def picture(evaluation: str, path: str = "docs/result.png", rank: str = "median") -> None:
    """Draw a test pair: moving, fixed and warped image with outlines, deformation grid and confidence.

    Args:
        evaluation: a folder that ``evaluating`` wrote.
        path: of the PNG file.
        rank: ``worst``, ``median`` or ``best``.
    """
    with np.load(Path(evaluation) / "examples" / f"registration_{rank}.npz") as pair:
        figure = pair_figure(
            pair["moving"],
            pair["fixed"],
            pair["warped"],
            pair["ddf"],
            confidence=pair.get("confidence"),
            pred=pair["warped_label"],
            label=pair["fixed_label"],
            frame=Frame.of(pair["affine"]) if "affine" in pair else Frame(tuple(pair["spacing"])),
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(figure_to_png(figure))


if __name__ == "__main__":
    fire.Fire(picture)
