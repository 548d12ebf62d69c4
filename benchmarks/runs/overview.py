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
"""A few methods on several data sets, four labels, the learned ones with random augmentation: a table, and a figure.

python -m benchmarks.runs.overview table --methods none,greedy,unet,deeprs,best
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fire
import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure

from benchmarks.runs.plans import listed
from benchmarks.runs.records import LABELS, read_records
from benchmarks.runs.tables import figures_of

COLUMNS = {"S-Dice": 1, "R-Dice": 1, "folding": 2}  # and their decimals
NONE = "none"
Record = Mapping[str, Any]


def table(methods: str, datasets: str = "hippocampus,mouse_brain") -> str:
    """A row for each method, three columns for each data set: mean over cases and seeds, in percent.

    Args:
        methods: in the order of the rows; `none` is what doing nothing scores.
        datasets: folders of ``benchmarks/results``.
    """
    names = listed(datasets)
    titles = [f"{name.replace('_', ' ')}: {column}" for name in names for column in ("S", "R", "folds")]
    lines = [f"| method | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    records = {name: read_records(name) for name in names}
    for method in listed(methods):
        found = [figures_of_method(records[name], method) for name in names]
        cells = [_cell(figures.get(column), digits) for figures in found for column, digits in COLUMNS.items()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float] | None, digits: int) -> str:
    return f"{np.mean(values):.{digits}f}" if values else "-"


def figures_of_method(records: Sequence[Record], method: str) -> dict[str, list[float]]:
    """Column -> its figure in each run of a method.

    Args:
        records: of one data set.
        method: its runs with augmentation and four labels count, and those of a method that does not learn.
    """
    runs = [r for r in records if r["method"] == method and r["augmented"] in (True, None)]
    runs = [figures_of(r) for r in runs if r["num_labeled"] in (0, LABELS)]
    if not runs and method == NONE:  # a learned run that registers has it as well
        identities = [r["metrics"]["identity"] for r in records if "identity" in r["metrics"]]
        runs = [{"R-Dice": (100 * identity["dice"]["mean"], 0.0)} for identity in identities[:1]]
    return {name: [run[name][0] for run in runs] for name in COLUMNS if runs and name in runs[0]}


def figure(dataset: str) -> Figure:
    """A panel for segmentation and one for registration: a dot for each method, a line over its seeds, best on top.

    Args:
        dataset: a folder of ``benchmarks/results``.
    """
    records = read_records(dataset)
    found = {method: figures_of_method(records, method) for method in sorted({r["method"] for r in records})}
    drawn = Figure(figsize=(10, 5), layout="constrained")
    for panel, column in zip(drawn.subplots(1, 2), ("S-Dice", "R-Dice"), strict=True):
        ranked = sorted((np.mean(f[column]), method) for method, f in found.items() if column in f)
        for row, (mean, method) in enumerate(ranked):
            seeds = found[method][column]
            color = "C1" if any(r["method"] == method and r["augmented"] is None for r in records) else "C0"
            panel.plot([min(seeds), max(seeds)], [row, row], color=color)
            panel.plot(mean, row, color=color, marker="s" if color == "C1" else "o")
        panel.set_yticks(range(len(ranked)), [method for _, method in ranked], fontsize="small")
        panel.set_xlabel(f"{column} in %")
        panel.grid(alpha=0.4)
    drawn.suptitle(
        f"{dataset.replace('_', ' ')}, {LABELS} labels (dots: learned, with augmentation; squares: classical)"
    )
    return drawn


if __name__ == "__main__":
    fire.Fire({"table": table})
