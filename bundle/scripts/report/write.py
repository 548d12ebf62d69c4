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
"""The report of an evaluation: one HTML page with tables and pictures that opens without a network."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.output_folder import OutputFolder
from ..files.writing import write_text
from ..pictures.charts import dice_box_plot
from ..pictures.orientation import VIEWS, checked_view
from .comparison import Comparison, comparison_names
from .comparison_page import comparison_html
from .evaluation_folder import Evaluation, is_measured, mean_of, read_evaluation
from .examples import registration_section, segmentation_section
from .page import (
    MEASURES,
    METHODS,
    PER_STRUCTURE,
    SURFACES,
    count,
    key_figures,
    mean_and_spread,
    number,
    page,
    paragraph,
    picture,
    script,
    section,
    table,
    text,
    with_share,
)
from .review_page import is_review, review_html
from .scores import DISTANCES, share_defined
from .viewer import viewer_colors

logger = logging.getLogger(__name__)

# Measures of a pair that stand in registration.csv, and what each was before registration, where that is shown.
PAIR_MEASURES = (*PER_STRUCTURE, "folding_percent", "sdlogj", "seconds")


class Report:
    """Write the HTML page of an evaluation: what was measured, how it spreads, and what it looks like.

    Numbers alone do not show whether a field folds where it matters or a network misses the same corner each time;
    therefore the worst, the median and the best case are drawn beside them.

    Args:
        evaluation_dir: the folder that the run ``evaluating`` filled: ``metrics.json``, ``segmentation.csv`` and/or
            ``registration.csv``, and ``examples``; or that of ``inferring``, with ``review.csv``.
        title: what stands at the top of the page.
        compare_with: folder of a second evaluation on the same test cases: the page then sets it beside the first.
        view: of the pictures: ``radiological`` (the patient's right on the left) or ``neurological``.
        name: what the page calls the evaluation; None: as its folder is called.
        overwrite: also replace a page that this product did not write.
    """

    def __init__(
        self,
        evaluation_dir: str | os.PathLike,
        title: str = "DeepRS evaluation",
        compare_with: str | os.PathLike | None = None,
        view: str = VIEWS[0],
        name: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.view, self.name, self.overwrite = checked_view(view), name, overwrite
        self.folder, self.title = Path(evaluation_dir), title
        self.other = None if compare_with is None else Path(compare_with)

    def run(self) -> Path:
        """Write ``report.html``, or ``comparison.html`` of two, into the evaluation's folder and return its path.

        Raises:
            FileNotFoundError: if a folder or one of its files is missing.
            FileExistsError: if there is a page that this product did not write, or another process writes there.
            ValueError: if a file lacks what the page shows, or two evaluations have nothing in common.
        """
        if not self.folder.is_dir():
            read_evaluation(self.folder)  # says what is missing
        with OutputFolder(self.folder, self.overwrite) as output:
            page_name = "report.html" if self.other is None else "comparison.html"
            output.refuse_foreign([page_name])
            with output.replacing() as folder:
                self.write(folder)
        logger.info("report written to %s", self.folder / page_name)
        return self.folder / page_name

    def write(self, folder: Path) -> None:
        """Write the page into a folder that this process has to itself."""
        if self.other is None and is_review(self.folder):
            write_text(folder / "report.html", review_html(self.folder, self.title, self.view))
            return
        evaluation = read_evaluation(self.folder, self.view, self.name)
        if self.other is None:
            name, content = "report.html", report_html(evaluation, self.title)
        else:
            names = comparison_names(self.folder, self.other)
            comparison = Comparison(evaluation, read_evaluation(self.other, self.view), names)
            name, content = "comparison.html", comparison_html(comparison, self.title)
        write_text(folder / name, content)


def report_html(evaluation: Evaluation, title: str) -> str:
    """Return the whole page as text."""
    sections = [_summary(evaluation), _between(evaluation), _structures(evaluation)]
    if evaluation.examples.get("segmentation"):
        sections.append(segmentation_section(evaluation))
    if evaluation.examples.get("registration"):
        sections.append(registration_section(evaluation))
    sections += [_cases(evaluation), _provenance(evaluation)]
    scripts = viewer_colors() + script("viewer.js")
    return page(title, _byline(evaluation), _headline(evaluation), "".join(sections), scripts)


def _byline(evaluation: Evaluation) -> str:
    metrics, parts = evaluation.metrics, []
    if "segmentation" in metrics:
        parts.append(count(metrics["segmentation"]["n"], "segmented case"))
    if "registration" in metrics:
        parts.append(count(metrics["registration"]["n"], "registered pair"))
    parts.append(count(len(evaluation.structures), "structure"))
    return " · ".join([*parts, f"{evaluation.name}, {evaluation.date}"])


def _headline(evaluation: Evaluation) -> str:
    metrics, entries = evaluation.metrics, []
    if "segmentation" in metrics:
        score = number(metrics["segmentation"]["dice"]["mean"], 3)
        entries.append(("Dice of segmentation", score, "network S, on single images"))
    if "registration" in metrics:
        registration = metrics["registration"]
        before = metrics.get("identity", {}).get("dice", {}).get("mean")
        known = before is not None and math.isfinite(before)
        remark = "network R, on pairs" + (f"; {before:.3f} without it" if known else "")
        entries.append(("Dice of registration", number(registration["dice"]["mean"], 3), remark))
        folds = number(registration["folding_percent"]["mean"], 3)
        entries.append(("Folded voxels, %", folds, "where |J| ≤ 0"))
    return key_figures(entries)


def _summary(evaluation: Evaluation) -> str:
    present = {name: evaluation.metrics[name] for name in METHODS if name in evaluation.metrics}
    measures = [name for name in MEASURES if any(name in section for section in present.values())]
    head = ["", *(MEASURES[name][0] for name in measures), "n"]
    rows = [
        [
            METHODS[name],
            *(_figure(section, measure) for measure in measures),
            _scored(section),
        ]
        for name, section in present.items()
    ]
    note = (
        f"Mean ± standard deviation. Dice is 1 for perfect overlap. {SURFACES} |J| is the Jacobian determinant of the"
        " deformation: the field folds where it is not positive. A dash stands where a number is not defined."
    )
    return section("Summary", table(head, rows), _similarity(present), paragraph(note, kind="note"))


def _similarity(present: Mapping[str, Mapping[str, Any]]) -> str:
    """How alike the images of pairs are; nothing of an evaluation by 0.6.1, which did not measure it."""
    if not present.get("registration", {}).get("local_ncc", {}).get("n"):
        return ""
    before, after = (present[name]["local_ncc"] for name in ("identity", "registration"))
    worse = present["registration"]["similarity_worse"]
    return paragraph(
        f"Similarity of the images (local NCC, 0 to 1): {before['mean']:.3f} without registration, {after['mean']:.3f}"
        f" after it. In {worse} of {count(after['n'], 'pair')} registration made the images less alike than they were."
    )


def _figure(section: Mapping[str, Any], measure: str, structure: str | None = None) -> str:
    """A mean with its spread, and over how many values it is where these are not those of Dice."""
    figures = section.get(measure)
    shown = figures if figures is None or structure is None else figures.get("per_structure", {}).get(structure)
    share = share_defined(section, measure, structure) if figures else ""
    return with_share(mean_and_spread(shown, MEASURES[measure][1]), share)


def _between(evaluation: Evaluation) -> str:
    """Dice of each of the evaluations that were pooled; nothing of a single one."""
    tasks = evaluation.metrics.get("between_evaluations")
    if not tasks:
        return ""
    dice = [measures["dice"] for measures in tasks.values()]
    rows = [[text(name), *(number(of_task["values"][name], 3) for of_task in dice)] for name in dice[0]["values"]]
    rows.append(["mean of these", *(mean_and_spread(of_task, 3) for of_task in dice)])
    note = "Mean Dice of each evaluation; the spread in the last line is that between them."
    head = ["", *(METHODS[task] for task in tasks)]
    return section("By evaluation", table(head, rows), paragraph(note, kind="note"))


def _scored(section: Mapping[str, Any]) -> str:
    """How many there are and, where some have landmarks alone, of how many the overlaps are."""
    n = section.get("n", "")
    labelled = section.get("dice", {}).get("n", n)
    return text(n if labelled == n else f"{n}, {labelled} with labels")


def _structures(evaluation: Evaluation) -> str:
    columns = {"segmentation": ("segmentation", "dice"), "registration": ("registration", "dice")}
    columns["no registration"] = ("registration", "identity_dice")
    samples = {
        method: {name: evaluation.samples(task, column, name) for name in evaluation.structures}
        for method, (task, column) in columns.items()
        if task in evaluation.rows
    }
    caption = (
        "Dice of each structure. Box: first to third quartile, line: median, whiskers: the furthest value within 1.5"
        " box lengths, points: single cases or pairs."
    )
    chart = picture(dice_box_plot(samples), caption, kind="chart")
    tables = "".join(_structure_table(evaluation, measure) for measure in PER_STRUCTURE)
    return section("By structure", chart, f'<div class="even">{tables}</div>')


def _structure_table(evaluation: Evaluation, measure: str) -> str:
    present = {name: evaluation.metrics[name] for name in METHODS if name in evaluation.metrics}
    if not any(measure in section for section in present.values()):  # of an evaluation by 0.6.1
        return ""
    rows = [
        [text(name), *(_figure(section, measure, name) for section in present.values())]
        for name in evaluation.structures
    ]
    return table([MEASURES[measure][0], *(METHODS[name] for name in present)], rows)


def _cases(evaluation: Evaluation) -> str:
    """Every case and pair in a folded table, worst first, so that a reader finds the one to look at."""
    blocks = [paragraph("Means over the structures, worst first.")]
    if "segmentation" in evaluation.rows:
        blocks.append(_folded(evaluation, "segmentation", "case", PER_STRUCTURE))
    if "registration" in evaluation.rows:
        blocks.append(_folded(evaluation, "registration", "pair", ("identity_dice", *PAIR_MEASURES)))
    return section("Case by case", *blocks)


def _folded(evaluation: Evaluation, task: str, noun: str, columns: Sequence[str]) -> str:
    columns = [column for column in columns if is_measured(evaluation.rows[task], column)]
    cases = sorted(evaluation.by_case(task).items(), key=lambda item: _worst_first(item[1]))
    measures = [MEASURES[column.removeprefix("identity_")] for column in columns]
    remarks = [", before" if column.startswith("identity_") else "" for column in columns]
    head = [noun, *(heading + remark for (heading, _), remark in zip(measures, remarks, strict=True))]
    lines = []
    for case, rows in cases:
        cells = (_of_case(rows, column, digits) for column, (_, digits) in zip(columns, measures, strict=True))
        lines.append([" → ".join(map(text, case)), *cells])
    summary = f"{METHODS[task]}: {count(len(lines), noun)}"
    return f"<details><summary>{summary}</summary>\n{table(head, lines)}</details>\n"


def _of_case(rows: Sequence[Mapping[str, Any]], column: str, digits: int) -> str:
    """The mean over the structures of a case, and over how many of them it is where these are not those of Dice."""
    values, dice = ([row[key] for row in rows if math.isfinite(row[key])] for key in (column, "dice"))
    share = f"{len(values)} of {len(dice)}" if column in DISTANCES and len(values) != len(dice) else ""
    return with_share(number(mean_of(rows, column), digits), share)


def _worst_first(rows: Sequence[Mapping[str, Any]]) -> float:
    dice = mean_of(rows, "dice")
    return dice if math.isfinite(dice) else math.inf


def _provenance(evaluation: Evaluation) -> str:
    settings = evaluation.metrics.get("config", {})
    rows = [
        [text(name), text(value if isinstance(value, str) else json.dumps(value))] for name, value in settings.items()
    ]
    rows += [["evaluation", text(f"{evaluation.name}, {evaluation.date}")]]
    return section("Provenance", table([], rows, words=True))
