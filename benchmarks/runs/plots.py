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
"""Records as figures: Dice of every structure as box plots, and against the number of labelled cases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure

from benchmarks.runs.records import dice_table
from benchmarks.runs.tables import TASKS, figures_of, grouped
from scripts.files.writing import replacing

logger = logging.getLogger(__name__)

Record = Mapping[str, Any]
COLUMNS = 4  # panels beside each other


def draw_figures(records: Sequence[Record], folder: Path, augmented: bool, num_labeled: int) -> list[Path]:
    """Draw every figure that there are records for.

    Args:
        records: of one data set.
        folder: where the PNG files go.
        augmented: which runs the box plots show, beside the classical methods.
        num_labeled: which runs the box plots show; methods that use no labels are always there.

    Returns:
        The files: ``boxes_segmentation.png``, ``boxes_registration.png``, ``labels.png``.
    """
    shown = [r for r in records if r["augmented"] in (augmented, None) and r["num_labeled"] in (num_labeled, 0)]
    drawn = {f"boxes_{task}.png": box_plots(shown, task) for task in TASKS} | {"labels.png": label_curves(records)}
    files = []
    for name, figure in drawn.items():
        if figure is not None:
            files.append(folder / name)
            with replacing(files[-1]) as temporary:
                figure.savefig(temporary, dpi=150)
    return files


def box_plots(records: Sequence[Record], task: str) -> Figure | None:
    """A panel for each structure, a box for each method: quartiles over cases of the Dice, a mean over the runs.

    Args:
        records: of one number of labels and one augmentation; those without Dice by case are left out.
        task: ``segmentation`` or ``registration``.

    Returns:
        The figure, or None when no record has this task.
    """
    groups = {
        group.method: kept
        for group, runs in grouped(records).items()
        if (kept := [run for run in runs if dice_table(run, task)])
    }
    if not groups:
        logger.info("no Dice by case of %s: no box plots of it", task)
        return None
    structures = list(next(iter(groups.values()))[0]["cases"][task]["dice"])
    ranked = sorted(groups, key=lambda method: np.mean([*_mean_over_runs(groups[method], task, None)]))
    columns = min(len(structures), COLUMNS)
    rows = -(-len(structures) // columns)
    figure = Figure(figsize=(2.2 + 3.2 * columns, rows * (1.2 + 0.32 * len(ranked))), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, structure in zip(panels, structures, strict=False):
        values = [_mean_over_runs(groups[method], task, structure) for method in ranked]
        panel.boxplot(values, orientation="horizontal", manage_ticks=False, widths=0.6, flierprops={"markersize": 3})
        panel.set_title(structure)
        panel.grid(axis="x", alpha=0.4)
    panels[0].set_yticks(range(1, len(ranked) + 1), ranked)  # shared by all: each panel on its own would add them again
    for panel in panels[len(structures) :]:
        panel.set_visible(False)
    figure.supxlabel(f"{TASKS[task]}-Dice of a case")
    return figure


def label_curves(records: Sequence[Record]) -> Figure | None:
    """A panel for each task: Dice against the number of labelled cases, a line for each method and augmentation,
    a colour for each method.

    A point is the mean over runs, its bar the range over them. Methods with one number of labels are left out.

    Args:
        records: of one data set.

    Returns:
        The figure, or None when no method was run with several numbers of labels.
    """
    curves: dict[tuple[str, str], dict[int, list[Record]]] = {}
    for group, runs in grouped(records).items():
        curves.setdefault((group.method, group.augmentation), {})[group.num_labeled] = runs
    curves = {key: by_labels for key, by_labels in curves.items() if len(by_labels) > 1}
    if not curves:
        logger.info("no method was run with several numbers of labels: no figure of them")
        return None
    numbers = sorted({labels for by_labels in curves.values() for labels in by_labels})
    colors = {method: f"C{number}" for number, method in enumerate(dict.fromkeys(method for method, _ in curves))}
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for panel, short in zip(figure.subplots(1, 2), TASKS.values(), strict=True):
        for (method, augmentation), by_labels in curves.items():
            style = {"color": colors[method], "linestyle": {"on": "-", "off": "--"}.get(augmentation, ":")}
            _draw_curve(panel, by_labels, f"{short}-Dice", f"{method}, augmentation {augmentation}", style)
        panel.set(xlabel="labelled cases", ylabel=f"{short}-Dice in %", xticks=numbers)
        panel.grid(alpha=0.4)
        if panel.lines:
            panel.legend(fontsize="small")
    return figure


def _draw_curve(panel: Any, by_labels: Mapping[int, Sequence[Record]], column: str, title: str, style: Any) -> None:
    points = []
    for labels, runs in sorted(by_labels.items()):
        if means := [figures[column][0] for run in runs if column in (figures := figures_of(run))]:
            points.append((labels, np.mean(means), np.mean(means) - min(means), max(means) - np.mean(means)))
    if points:
        labels, middle, below, above = zip(*points, strict=True)
        panel.errorbar(labels, middle, yerr=(below, above), marker="o", capsize=3, label=title, **style)


def _mean_over_runs(runs: Sequence[Record], task: str, structure: str | None) -> list[float]:
    tables = [dice_table(run, task, structure) for run in runs]
    return [float(np.mean([table[case] for table in tables])) for case in tables[0] if all(case in t for t in tables)]
