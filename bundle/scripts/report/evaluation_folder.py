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
"""What an evaluation left in its folder, read back for the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..files.output_folder import refuse_changed, settle
from ..files.tables import told_of
from ..pictures.orientation import VIEWS, Frame
from ..training.options import TASKS

RANKS = ("worst", "median", "best")
NAMES = frozenset({"case", "moving", "fixed", "structure"})
COLUMNS = {
    "segmentation": ("case", "structure", "dice", "hd95", "asd"),
    "registration": (
        *("moving", "fixed", "structure", "dice", "hd95", "asd"),
        *("identity_dice", "identity_hd95", "identity_asd", "folding_percent", "sdlogj", "seconds"),
    ),
}
#: columns that evaluations by 0.6.1 lack: not a number there
LATER = {
    "segmentation": ("surface_dice_1", "surface_dice_2"),
    "registration": (
        *("surface_dice_1", "surface_dice_2", "identity_surface_dice_1", "identity_surface_dice_2"),
        *("local_ncc_before", "local_ncc_after", "similarity_worse"),
    ),
}
ARRAYS = {
    "segmentation": ("image", "label", "pred", "spacing", "case", "dice"),
    "registration": (
        *("moving", "fixed", "warped", "moving_label", "fixed_label", "warped_label", "ddf", "spacing"),
        *("moving_case", "fixed_case", "dice", "identity_dice"),
    ),
}
#: all that an evaluation writes, and what is made of it
RESULTS = (
    *("metrics.json", "segmentation.csv", "registration.csv", "landmarks.csv", "report.html", "comparison.html"),
    *(f"examples/{task}_{rank}.npz" for task in TASKS for rank in RANKS),
)
CASE_KEYS = {"segmentation": ("case",), "registration": ("moving", "fixed")}


@dataclass(frozen=True)
class Example:
    """One case or pair that was chosen for its rank by Dice: its arrays, its rows of the table, and how it lies."""

    rank: str
    case: tuple[str, ...]
    arrays: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    frame: Frame


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: summary, a row for each case (or pair) and structure, and examples, by task."""

    name: str
    date: str
    metrics: Mapping[str, Any]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    examples: Mapping[str, Sequence[Example]]

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures, class 1 first."""
        return tuple(self.metrics["structures"])

    def samples(self, task: str, column: str, structure: str) -> list[float]:
        """Return the values of one column and structure, case by case."""
        return [row[column] for row in self.rows[task] if row["structure"] == structure]

    def by_case(self, task: str) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
        """Return the rows of every case (or pair), under its name (or names), in the order of the table."""
        cases: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in self.rows[task]:
            cases.setdefault(_case_of(row, task), []).append(row)
        return cases


def read_evaluation(folder: Path, view: str = VIEWS[0], name: str | None = None) -> Evaluation:
    """Read what the run ``evaluating`` wrote into ``folder``, to be looked at in the ``view`` of ``VIEWS``.

    Args:
        folder: the folder.
        name: what to call it; None: as it is called.

    Raises:
        FileNotFoundError: if the folder or one of its files is missing; says which command writes it.
        ValueError: if a file lacks what the report shows, or the files are not those of one evaluation.
    """
    settle(folder)
    refuse_changed(folder, [file for file in RESULTS if not file.endswith(".html")])
    metrics_file = _existing(folder / "metrics.json", folder)
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    tasks = [task for task in TASKS if task in metrics]
    if not tasks:
        raise ValueError(f"{metrics_file} holds neither 'segmentation' nor 'registration', found {sorted(metrics)}.")
    if "structures" not in metrics:
        raise ValueError(f"{metrics_file} has no 'structures', found {sorted(metrics)}; run the evaluation again.")
    rows = {task: _read_rows(_existing(folder / f"{task}.csv", folder), task) for task in tasks}
    return Evaluation(
        name=name or folder.resolve().name,
        date=datetime.fromtimestamp(metrics_file.stat().st_mtime).strftime("%Y-%m-%d %H:%M"),
        metrics=metrics,
        rows=rows,
        examples={task: _read_examples(folder, task, rows[task], view) for task in tasks},
    )


def is_measured(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Return whether a column is there: evaluations by 0.6.1 have fewer."""
    later = {name for names in LATER.values() for name in names}
    return column not in later or any(np.isfinite(row[column]) for row in rows)


def mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    """Return the mean of a column over the rows where it is defined; NaN when it is defined in none."""
    values = [row[column] for row in rows if np.isfinite(row[column])]
    return float(np.mean(values)) if values else float("nan")


def _existing(path: Path, folder: Path) -> Path:
    if path.is_file():
        return path
    missing = f"evaluation folder {folder}" if not folder.is_dir() else f"{path.name} in evaluation folder {folder}"
    raise FileNotFoundError(
        f"no {missing}.\n  It is written by `python -m monai.bundle run evaluating --config_file"
        " \"['configs/train.yaml','configs/evaluate.yaml']\" --dataset_dir DATA --output_dir FOLDER`;"
        " give the report that FOLDER."
    )


def _read_rows(path: Path, task: str) -> list[dict[str, Any]]:
    with told_of(path), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS[task] if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {missing}, found {reader.fieldnames}; run the evaluation again."
            )
        absent = dict.fromkeys(LATER[task], float("nan"))
        return [
            absent | {name: text if name in NAMES else float(text or "nan") for name, text in row.items()}
            for row in reader
        ]


def _read_examples(folder: Path, task: str, rows: Sequence[Mapping[str, Any]], view: str) -> list[Example]:
    """Read the examples of a task; one that has several ranks, as the only case of a test list has, comes once.

    Pairs that have landmarks and no labels have no overlap by which to choose any.
    """
    if not any(np.isfinite(row["dice"]) for row in rows):
        return []
    chosen: dict[tuple[str, ...], Example] = {}
    for rank in RANKS:
        path = _existing(folder / "examples" / f"{task}_{rank}.npz", folder)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        missing = [name for name in ARRAYS[task] if name not in arrays]
        if missing:
            raise ValueError(f"{path} lacks {missing}, found {sorted(arrays)}; run the evaluation again.")
        keys = ("case",) if task == "segmentation" else ("moving_case", "fixed_case")
        case = tuple(str(arrays[key]) for key in keys)
        ranks = f"{chosen[case].rank} and {rank}" if case in chosen else rank
        own = [row for row in rows if _case_of(row, task) == case]
        chosen[case] = Example(ranks, case, arrays, own, _frame(arrays, view))
    return [replace(example, rank="only") for example in chosen.values()] if len(chosen) == 1 else list(chosen.values())


def _frame(arrays: Mapping[str, Any], view: str) -> Frame:
    """How an example lies in the patient, which 0.6.1 did not keep."""
    if "affine" in arrays:
        return Frame.of(arrays["affine"], view)
    return Frame(tuple(float(size) for size in arrays["spacing"]), view=view)


def _case_of(row: Mapping[str, Any], task: str) -> tuple[str, ...]:
    return tuple(row[key] for key in CASE_KEYS[task])
