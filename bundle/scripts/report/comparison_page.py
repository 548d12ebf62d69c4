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
"""The page that sets two evaluations side by side: what differs on the same cases, by how much, and how it looks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..pictures.charts import dice_box_plot
from ..pictures.panels import BLUE, ORANGE, structure_color
from .comparison import Comparison
from .examples import orientation
from .page import (
    MEASURES,
    METHODS,
    PER_STRUCTURE,
    SURFACES,
    count,
    key_figures,
    legend,
    number,
    page,
    paragraph,
    picture,
    script,
    section,
    signed,
    table,
    text,
    with_share,
)
from .scores import DISTANCES, FIELD_MEASURES
from .viewer import viewer, viewer_colors

SHOWN = ("dice", "hd95")


def comparison_html(comparison: Comparison, title: str) -> str:
    """Return the whole page as text."""
    sections = [_differences(comparison), _structures(comparison)]
    pictured = [task for task in comparison.tasks if all(run.examples[task] for run in comparison.runs.values())]
    sections += [_slices(comparison, task) for task in pictured]
    sections += [_cases(comparison), _provenance(comparison)]
    byline = " and ".join(f"{name} ({run.date})" for name, run in comparison.runs.items())
    scripts = viewer_colors() + script("viewer.js")
    return page(title, byline, _headline(comparison), "".join(sections), scripts)


def _headline(comparison: Comparison) -> str:
    entries = []
    for task in comparison.tasks:
        dice = comparison.values(task, "dice")
        remark = (
            f"{_mean(dice.first, 3)} and {_mean(dice.second, 3)}, on {_cases_of(task, len(comparison.cases[task]))}"
        )
        entries.append((f"Dice of {task}", signed(dice.difference, 3), remark))
    return key_figures(entries)


def _mean(values: np.ndarray, digits: int) -> str:
    return number(float(values.mean()), digits) if values.size else number(None, digits)


def _cases_of(task: str, amount: int) -> str:
    return count(amount, "case" if task == "segmentation" else "pair")


def _differences(comparison: Comparison) -> str:
    first, second = map(text, comparison.runs)
    head = ["", first, second, "difference", "95 % interval", f"{second} better"]
    rows = []
    for task in comparison.tasks:
        columns = PER_STRUCTURE if task == "segmentation" else (*PER_STRUCTURE, *FIELD_MEASURES)
        rows += [_difference(comparison, task, column) for column in columns if comparison.has(task, column)]
    note = (
        "Means over the cases that both runs have, and of these only over the structures where both have a value."
        f" {SURFACES} The difference is second"
        " minus first, with a bootstrap interval over cases. Registered pairs share images: their interval is too"
        " narrow. One run of each says nothing about what another seed would give."
    )
    return section("Difference", table(head, rows), paragraph(note, kind="note"))


def _difference(comparison: Comparison, task: str, column: str) -> list[str]:
    heading, digits = MEASURES[column]
    values = comparison.values(task, column)
    low, high = (signed(end, digits) for end in values.interval())
    n, found, expected = values.first.size, comparison.count(task, column), comparison.count(task, "dice")
    share = f"{found} of {expected} structures" if column in DISTANCES and found != expected else ""
    means = [_mean(values.first, digits), _mean(values.second, digits), signed(values.difference, digits)]
    return [
        f"{METHODS[task]}, {heading}",
        *means,
        f"{low} to {high}",
        with_share(f"{values.better('↑' in heading)} of {n}", share),
    ]


def _structures(comparison: Comparison) -> str:
    first, second = comparison.runs
    blocks = []
    for task in comparison.tasks:
        paired = {name: comparison.values(task, "dice", name) for name in comparison.structures}
        samples = {
            first: {name: values.first for name, values in paired.items()},
            second: {name: values.second for name, values in paired.items()},
        }
        chart = dice_box_plot(samples, {first: BLUE, second: ORANGE})
        rows = [
            [text(name), _mean(values.first, 3), _mean(values.second, 3), signed(values.difference, 3)]
            for name, values in paired.items()
        ]
        blocks.append(picture(chart, f"Dice of {task}, each structure, on the cases of both runs.", kind="chart"))
        blocks.append(f'<div class="even">{table(["Dice ↑", text(first), text(second), "difference"], rows)}</div>')
    return section("By structure", *blocks)


def _slices(comparison: Comparison, task: str) -> str:
    """The viewer with a column for each run, first on a case that both have kept, when there is one."""
    kept = [{example.case for example in run.examples[task]} for run in comparison.runs.values()]
    common = set.intersection(*kept)
    examples = {
        name: sorted(run.examples[task], key=lambda example: example.case not in common)
        for name, run in comparison.runs.items()
    }
    intro = (
        f"Of each run its worst, median and best {'case' if task == 'segmentation' else 'pair'}, by Dice. One slider"
        " moves both columns."
    )
    if not common:
        intro += " No one of them is kept in both runs, so the two columns show different subjects."
    about = orientation([example for run in comparison.runs.values() for example in run.examples[task]])
    every = next(iter(comparison.runs.values())).structures
    colors = {name: structure_color(index) for index, name in enumerate(every, start=1)}
    return section(
        f"{METHODS[task]}: slices", paragraph(intro), paragraph(about), legend(colors), viewer(task, examples)
    )


def _cases(comparison: Comparison) -> str:
    blocks = [paragraph("Means over the structures, the greatest loss in Dice first.")]
    for task in comparison.tasks:
        noun = "case" if task == "segmentation" else "pair"
        names = [text(name) for name in comparison.runs]
        head = [noun]
        for column in SHOWN:
            head += [*(f"{MEASURES[column][0]}<br>{name}" for name in names), "difference"]
        lines = []
        for case in comparison.cases[task]:
            values = [comparison.of_case(task, case, column, comparison.structures) for column in SHOWN]
            lines.append((values[0][1] - values[0][0], case, values))
        lines.sort(key=lambda line: (not math.isfinite(line[0]), line[0]))
        cells = [[" → ".join(map(text, case)), *_cells(values)] for _, case, values in lines]
        summary = f"{METHODS[task]}: {_cases_of(task, len(cells))}"
        blocks.append(f"<details><summary>{summary}</summary>\n{table(head, cells)}</details>\n")
    return section("Case by case", *blocks)


def _cells(values: Sequence[Sequence[float]]) -> list[str]:
    cells = []
    for column, (first, second) in zip(SHOWN, values, strict=True):
        digits = MEASURES[column][1]
        cells += [number(first, digits), number(second, digits), signed(second - first, digits)]
    return cells


def _provenance(comparison: Comparison) -> str:
    settings = [run.metrics.get("config", {}) for run in comparison.runs.values()]
    names = list(dict.fromkeys(name for each in settings for name in each))
    rows = [[text(name), *(_setting(each, name) for each in settings)] for name in names]
    rows.append(["evaluation", *(text(run.date) for run in comparison.runs.values())])
    return section("Provenance", table(["", *map(text, comparison.runs)], rows, words=True))


def _setting(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name, "")
    return text(value if isinstance(value, str) else json.dumps(value))
