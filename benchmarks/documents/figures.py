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
"""The figures of ``bundle/docs/results.md``, drawn from the records into ``bundle/docs``, where the zoo finds them.

Each PNG says in its text ``Source`` which records it was drawn from, so that a stale one is found.

python -m benchmarks.documents.figures
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import fire
from matplotlib.figure import Figure

from benchmarks import ROOT
from benchmarks.runs import claims, overview
from benchmarks.runs.plots import label_curves
from benchmarks.runs.records import RESULTS, read_records
from benchmarks.studies import refinement
from scripts.files.writing import replacing

DPI = 80
FIGURES: dict[str, Callable[[], Figure | None]] = {
    "results_methods.png": lambda: overview.figure("hippocampus"),
    "results_claims.png": claims.figure,
    "results_labels.png": lambda: label_curves(
        [record for record in read_records("hippocampus") if record["method"] in ("unet", "deeprs")]
    ),
    "results_refinement.png": lambda: refinement.figure("hippocampus"),
}


def source() -> str:
    """A digest of all records that the figures may be drawn from."""
    digest = hashlib.sha256()
    for path in sorted(path for name in claims.DATASETS for path in _records(RESULTS / name)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _records(folder: Path) -> list[Path]:
    return [*folder.glob("*.json"), *folder.glob("refinement.csv")]


def draw(folder: str = str(ROOT / "bundle" / "docs")) -> list[str]:
    """Draw them all.

    Args:
        folder: where the PNG files go.

    Returns:
        The files.
    """
    files = []
    for name, figure in FIGURES.items():
        if (drawn := figure()) is not None:
            with replacing(Path(folder) / name) as temporary:
                drawn.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None, "Source": source()})
            files.append(str(Path(folder) / name))
    return files


if __name__ == "__main__":
    fire.Fire(draw)
