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

"""Several evaluations as one: what the folds of a data set, or the seeds of a training, come to together."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.marks import KEY, written_by
from ..files.output_folder import OutputFolder
from ..files.tables import told_of, write_csv
from ..files.writing import write_json
from ..pictures.orientation import VIEWS, checked_view
from ..report.comparison import distinct_names
from ..report.evaluation_folder import CASE_KEYS, RESULTS, Evaluation, mean_of, read_evaluation
from ..report.scores import (
    FIELD_MEASURES,
    OVERLAPS,
    format_table,
    mean_std,
    summarise,
    summarise_registration,
    write_examples,
)
from ..report.write import Report
from ..training.options import TASKS

__all__ = ["Pool"]

logger = logging.getLogger(__name__)


class Pool:
    """Puts evaluations together, and writes what an evaluation writes, ``report.html`` included.

    Every score counts once: a case that the tests of several folds have is there once for each, as ``FOLD/CASE``. The
    spread of the pooled scores is that between cases. How far the evaluations themselves differ is another question,
    which ``between_evaluations`` answers: the mean of each one, and mean and standard deviation of these.

    Args:
        evaluations: folders that the run ``evaluating`` filled, with the same tasks and structures.
        output_dir: a folder of its own.
        title: of the report.
        view: of its pictures: ``radiological`` (the patient's right on the left) or ``neurological``.
        overwrite: also replace files there that this product did not write.

    Raises:
        ValueError: there are fewer than two folders, one stands twice, or ``output_dir`` is one of them.
    """

    def __init__(
        self,
        evaluations: Sequence[str | Path] | None,
        output_dir: str | Path,
        title: str = "DeepRS evaluation",
        view: str = VIEWS[0],
        overwrite: bool = False,
    ) -> None:
        self.view = checked_view(view)
        if isinstance(evaluations, (str, Path)) or len(evaluations or ()) < 2:
            raise ValueError(
                f"`evaluations` should be a list of two folders or more, found {evaluations!r}:\n"
                "  --evaluations \"['OUT/fold0','OUT/fold1']\""
            )
        self.folders = [Path(folder).expanduser() for folder in evaluations]
        self.output, self.title = OutputFolder(output_dir, overwrite), title
        if self.output.path.resolve() in [folder.resolve() for folder in self.folders]:
            raise ValueError(f"`output_dir` is one of the evaluations, {output_dir}: name a folder of its own.")
        self.names = distinct_names(self.folders)

    def run(self) -> dict[str, Any]:
        """Read, pool, write and print.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            FileNotFoundError: a folder, or one of its files, is missing.
            ValueError: the evaluations are not of the same tasks and structures.
            FileExistsError: a result would replace what this product did not write, or another process writes there.
        """
        with self.output:
            self.output.refuse_foreign(RESULTS)
            return self._pool()

    def _pool(self) -> dict[str, Any]:
        runs = {name: read_evaluation(folder) for name, folder in zip(self.names, self.folders, strict=True)}
        _refuse_unlike(runs)
        first = next(iter(runs.values()))
        rows = {task: _pooled_rows(runs, task) for task in TASKS if task in first.rows}
        landmarks = self._landmarks()
        metrics: dict[str, Any] = {
            "structures": list(first.structures),
            "config": {"evaluations": [str(folder) for folder in self.folders]},
            "between_evaluations": {task: _between(runs, task) for task in rows},
            KEY: written_by(),
        }
        if "segmentation" in rows:
            metrics["segmentation"] = summarise(rows["segmentation"], CASE_KEYS["segmentation"], first.structures)
        if "registration" in rows:
            metrics |= summarise_registration(rows["registration"], landmarks, first.structures)
        with self.output.replacing(RESULTS) as folder:
            for task in TASKS:
                write_csv(folder / f"{task}.csv", rows.get(task, []))
                write_examples(folder, task, _examples(runs, task, rows[task]) if task in rows else [])
            write_csv(folder / "landmarks.csv", landmarks)
            write_json(folder / "metrics.json", metrics)
            Report(folder, self.title, view=self.view, name=self.output.path.resolve().name).write(folder)
        logger.info("\n%s\n%s", format_table(metrics), _format_between(metrics["between_evaluations"]))
        return metrics

    def _landmarks(self) -> list[dict[str, Any]]:
        rows = []
        for name, folder in zip(self.names, self.folders, strict=True):
            if not (path := folder / "landmarks.csv").is_file():
                continue
            with told_of(path), path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    errors = {key: float(row[key] or "nan") for key in ("tre", "identity_tre")}
                    rows.append(_renamed(row, "registration", name) | errors)
        return rows


def _refuse_unlike(runs: Mapping[str, Evaluation]) -> None:
    (first_name, first), *others = runs.items()
    for name, run in others:
        for what, expected, found in (
            ("structures", first.structures, run.structures),
            ("tasks", tuple(first.rows), tuple(run.rows)),
        ):
            if found != expected:
                raise ValueError(
                    f"evaluations of other {what} cannot be put together:\n"
                    f"  {first_name}: {', '.join(expected)}\n  {name}: {', '.join(found)}"
                )


def _renamed(row: Mapping[str, Any], task: str, name: str) -> dict[str, Any]:
    """A row under names that are unique among the evaluations."""
    return {**row, **{key: f"{name}/{row[key]}" for key in CASE_KEYS[task]}}


def _pooled_rows(runs: Mapping[str, Evaluation], task: str) -> list[dict[str, Any]]:
    return [_renamed(row, task, name) for name, run in runs.items() for row in run.rows[task]]


def _between(runs: Mapping[str, Evaluation], task: str) -> dict[str, Any]:
    """The mean of each measure in each evaluation, and how these spread."""
    measures = (*OVERLAPS, *(FIELD_MEASURES if task == "registration" else ()))
    table = {}
    for measure in measures:
        if not any(measure in run.metrics[task] for run in runs.values()):
            continue  # of evaluations by 0.6.1
        values = {name: run.metrics[task].get(measure, {}).get("mean") for name, run in runs.items()}
        table[measure] = {"values": values, **mean_std([np.nan if v is None else v for v in values.values()])}
    return table


def _examples(runs: Mapping[str, Evaluation], task: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of what the evaluations kept the worst and the best, and the one that is nearest to the median of all."""
    keys = ("case",) if task == "segmentation" else ("moving_case", "fixed_case")
    kept = [
        {**example.arrays, **{key: f"{name}/{example.arrays[key]}" for key in keys}}
        for name, run in runs.items()
        for example in run.examples[task]
    ]
    if not kept:
        return []
    groups: dict[tuple[str, ...], list] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in CASE_KEYS[task]), []).append(row)
    median = np.nanmedian([mean_of(group, "dice") for group in groups.values()])
    kept.sort(key=lambda example: float(example["dice"]))
    return [kept[0], min(kept, key=lambda example: abs(float(example["dice"]) - median)), kept[-1]]


def _format_between(table: Mapping[str, Any]) -> str:
    lines = []
    for task, measures in table.items():
        dice = measures["dice"]
        values = ", ".join(f"{name} {'-' if v is None else f'{v:.3f}'}" for name, v in dice["values"].items())
        total = f"{dice['mean']:.3f} +- {dice['std']:.3f} between them" if dice["n"] else "no Dice"
        lines.append(f"Dice of {task} by evaluation: {values}; {total}")
    return "\n".join(lines)
