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
"""Records as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.runs.paired import paired_difference
from benchmarks.runs.records import dice_table

REFERENCE = "deeprs"
TASKS = {"segmentation": "S", "registration": "R"}
COLUMNS = {"S-Dice": 2, "S-HD95": 2, "R-Dice": 2, "R-HD95": 2, "folding": 3}  # and their decimals
Record = Mapping[str, Any]


class Group(NamedTuple):
    """Runs that differ in their seed only; ``augmented`` is None for methods that do not learn."""

    augmented: bool | None
    num_labeled: int
    method: str

    @property
    def augmentation(self) -> str:
        """``on``, ``off``, or ``-`` for methods that do not learn."""
        return {True: "on", False: "off", None: "-"}[self.augmented]


def grouped(records: Sequence[Record]) -> dict[Group, list[Record]]:
    """Records by group: classical methods first, then without and with augmentation, by labels, in the order given."""
    groups: dict[Group, list[Record]] = {}
    for record in records:
        key = Group(record["augmented"], record["num_labeled"], record["method"])
        groups.setdefault(key, []).append(record)
    order = {None: 0, False: 1, True: 2}
    return dict(sorted(groups.items(), key=lambda item: (order[item[0].augmented], item[0].num_labeled)))


def figures_of(record: Record) -> dict[str, tuple[float, float]]:
    """The figures of a run that a table shows, mean and SD over cases: Dice and folding in percent, distances in mm."""
    figures = {}
    for task, short in TASKS.items():
        if metrics := record["metrics"].get(task):
            columns = {f"{short}-Dice": (metrics["dice"], 100), f"{short}-HD95": (metrics["hd95"], 1)}
            if task == "registration":
                columns["folding"] = (metrics["folding_percent"], 1)
            figures |= {
                name: (scale * value["mean"], scale * value["std"])
                for name, (value, scale) in columns.items()
                if value["n"]
            }
    return figures


def markdown(records: Sequence[Record], reference: str = REFERENCE, of_reference: Sequence[Record] = ()) -> str:
    """Make the table of figures and, below it, that of the differences to the reference.

    Args:
        records: of one data set.
        reference: a method; when it has no runs, there is no second table.
        of_reference: runs of the reference, where ``records`` leave them out.

    Returns:
        Markdown.
    """
    tables = [figure_table(records)]
    if differences := difference_table(records, reference, of_reference):
        tables.append(differences)
    return "\n\n".join(tables)


def figure_table(records: Sequence[Record]) -> str:
    """A row for each method: mean over runs and cases, SD over cases, and the range of the means over seeds.

    Where no classical method is among them, a first row has the overlap of the pairs as they come.
    """
    lines = [
        "Mean ± SD over cases, both averaged over seeds; in brackets the range of the mean over seeds. Dice and "
        "folding in percent, HD95 in mm.",
        "",
        "| method | augmentation | labels | S-Dice | S-HD95 | R-Dice | R-HD95 | folding | runs | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    if identity := _identity(records):
        dice = _cell([(100 * identity["dice"]["mean"], 100 * identity["dice"]["std"])], 2)
        lines.append(f"| no registration | - | 0 | - | - | {dice} | - | - | - | - |")
    for group, runs in grouped(records).items():
        figures = [figures_of(run) for run in runs]
        cells = [_cell([f[name] for f in figures if name in f], digits) for name, digits in COLUMNS.items()]
        whole = [run["train_seconds"] / 60 for run in runs if "train_seconds" in run and not run.get("resumed")]
        minutes = f"{np.mean(whole):.0f}" if whole else "-"
        row = [group.method, group.augmentation, str(group.num_labeled), *cells, str(len(runs)), minutes]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def structure_table(records: Sequence[Record]) -> str:
    """A row for each structure: Dice of every method, mean over cases and seeds, in percent.

    Args:
        records: of one data set.

    Returns:
        Markdown. A column for each method and task, ``S`` segmentation, ``R`` registration; in brackets augmentation
        and number of labels.
    """
    columns: dict[str, dict[str, float]] = {}
    for group, runs in grouped(records).items():
        for task, short in TASKS.items():
            found = [run["metrics"][task]["dice"]["per_structure"] for run in runs if run["metrics"].get(task)]
            if found:
                setting = "" if group.augmented is None else f" ({group.augmentation}, {group.num_labeled})"
                columns[f"{short}: {group.method}{setting}"] = {
                    name: 100 * float(np.mean([dice[name]["mean"] for dice in found if dice[name]["n"]]))
                    for name in found[0]
                }
    if identity := _identity(records):
        per_structure = identity["dice"]["per_structure"]
        columns["no registration"] = {name: 100 * dice["mean"] for name, dice in per_structure.items() if dice["n"]}
    structures = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [f"| structure | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in structures:
        cells = [f"{column[name]:.1f}" if name in column else "-" for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _identity(records: Sequence[Record]) -> Mapping[str, Any] | None:
    """What the evaluation of a learned method says of the pairs without a field; the same in all of them."""
    if any(record["augmented"] is None for record in records):
        return None
    return next((record["metrics"]["identity"] for record in records if record["metrics"].get("identity")), None)


def _cell(values: Sequence[tuple[float, float]], digits: int) -> str:
    if not values:
        return "-"
    means, deviations = zip(*values, strict=True)
    text = f"{np.mean(means):.{digits}f} ± {np.mean(deviations):.{digits}f}"
    return text if len(means) == 1 else f"{text} ({min(means):.{digits}f}..{max(means):.{digits}f})"


def difference_table(records: Sequence[Record], reference: str = REFERENCE, of_reference: Sequence[Record] = ()) -> str:
    """A row for each method: its Dice minus that of the reference on the same cases, with 95 % intervals.

    The reference has the same augmentation and number of labels; a method that does not learn is compared with it both
    without and with augmentation, at its own number of labels, or at 4 where it uses none.
    """
    groups = grouped(records)
    references = grouped(of_reference or [record for record in records if record["method"] == reference])
    lines = []
    for group, runs in groups.items():
        for augmented in (False, True) if group.augmented is None else (group.augmented,):
            against = references.get(Group(augmented, group.num_labeled or 4, reference), [])
            cells = [_difference(runs, against, task) for task in TASKS]
            if group.method != reference and any(cell != "-" for cell in cells):
                row = [group.method, "on" if augmented else "off", str(group.num_labeled), *cells]
                lines.append(f"| {' | '.join(row)} |")
    if not lines:
        return ""
    head = [
        f"Difference in Dice to `{reference}` in points, on the same cases (S) or pairs (R), with 95 % bootstrap "
        "intervals over cases and seeds.",
        "\\* a learned method with a single run on either side: cases only, the seed may add as much again.",
        "",
        "| method | augmentation of the reference | labels | S-Dice | R-Dice |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(head + lines)


def _difference(runs: Sequence[Record], against: Sequence[Record], task: str) -> str:
    method, reference = ([scores for run in side if (scores := dice_table(run, task))] for side in (runs, against))
    if not method or not reference:
        return "-"
    difference = paired_difference(method, reference)
    learned = runs[0]["augmented"] is not None
    mark = "\\*" if len(reference) == 1 or (learned and len(method) == 1) else ""
    return f"{100 * difference.mean:+.2f} ({100 * difference.low:+.2f}..{100 * difference.high:+.2f}){mark}"
