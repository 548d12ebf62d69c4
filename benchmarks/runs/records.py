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
"""The JSON file of a run: what was computed, how, and what came out of it, case by case.

A record holds the mean figures under ``metrics``, as ``evaluating`` writes them, and under ``cases`` the Dice of every
case (or pair) and structure: tables, intervals and figures need nothing but the files in ``benchmarks/results``.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from scripts.files.writing import write_text

logger = logging.getLogger(__name__)

RESULTS = ROOT / "benchmarks" / "results"
#: the columns of a row of scores that name a case, or a pair
NAMES = {"segmentation": ("case",), "registration": ("moving", "fixed")}
LABELS = 4  # labelled cases to learn from, where a record does not say
PACKAGES = ("monai", "torch", "numpy", "pytorch-ignite", "nibabel")


def provenance() -> dict[str, Any]:
    """The commit of the code that runs, and the versions of the packages it runs with."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {"commit": described.stdout.strip(), "versions": {package: version(package) for package in PACKAGES}}


def dice_by_case(task: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrange rows of scores by case.

    Args:
        task: ``segmentation`` or ``registration``.
        rows: a row for each case and structure, structures in one order; a Dice that does not exist is NaN or empty.

    Returns:
        The names of the cases, or of the two images of the pairs, as lists; and ``dice``: for each structure a list of
        values from 0 to 1 in that order, None where there is none.
    """
    names: dict[tuple[str, ...], None] = {}
    dice: dict[str, list[float | None]] = {}
    for row in rows:
        names[tuple(row[key] for key in NAMES[task])] = None
        value = float("nan" if row["dice"] in ("", None) else row["dice"])
        dice.setdefault(row["structure"], []).append(round(value, 4) if np.isfinite(value) else None)
    columns = zip(*names, strict=True)
    return {**{key: list(column) for key, column in zip(NAMES[task], columns, strict=True)}, "dice": dice}


def dice_of_run(folder: Path) -> dict[str, Any]:
    """The Dice of every case of the tasks that were evaluated into a folder, from its CSV files."""
    cases = {}
    for task in NAMES:
        if (path := folder / f"{task}.csv").is_file():
            with path.open(newline="", encoding="utf-8") as file:
                cases[task] = dice_by_case(task, csv.DictReader(file))
    return cases


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as a whole, a list of numbers or names on one line."""
    text = json.dumps(record, indent=1)
    write_text(path, re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]), text) + "\n")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where there is no such file."""
    return list(csv.DictReader(io.StringIO(path.read_text()))) if path.is_file() else []


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as a whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def read_records(dataset: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """Read the records of a data set; ``num_labeled``, which the oldest lack, is filled in.

    Raises:
        FileNotFoundError: when there is none.
    """
    records = [json.loads(path.read_text()) for path in sorted((results / dataset).glob("*.json"))]
    records = [{"num_labeled": LABELS, **record} for record in records if "method" in record]
    if not records:
        raise FileNotFoundError(f"no results in {results / dataset}: `compare.py run --dataset {dataset}` writes them.")
    return records


def dice_table(record: Mapping[str, Any], task: str, structure: str | None = None) -> dict[tuple[str, ...], float]:
    """The Dice of a run by case.

    Args:
        record: of the run.
        task: ``segmentation`` or ``registration``.
        structure: its name; None takes the mean over the structures that exist in the case.

    Returns:
        Name of the case, or names of the pair -> Dice, 0 to 1; cases without one are left out. Empty for a record that
        holds no cases.
    """
    cases = record.get("cases", {}).get(task)
    if cases is None:
        return {}
    columns = cases["dice"] if structure is None else {structure: cases["dice"].get(structure, [])}
    values = np.array(list(columns.values()), dtype=float)  # (structures, cases), None becomes NaN
    names = zip(*(cases[key] for key in NAMES[task]), strict=True)
    existing = (column[np.isfinite(column)] for column in values.T)
    return {name: float(dice.mean()) for name, dice in zip(names, existing, strict=False) if dice.size}


def run_all(runs: Mapping[str, Callable[[], None]], jobs: int = 1) -> None:
    """Run everything, some at a time; one that fails is reported and does not stop the others.

    Args:
        runs: by name.
        jobs: at a time.

    Raises:
        SystemExit: with status 1 when any has failed, naming them.
    """
    with ThreadPoolExecutor(jobs) as pool:
        started = {name: pool.submit(run) for name, run in runs.items()}
    failed = {name: error for name, future in started.items() if (error := future.exception())}
    for name, error in failed.items():
        logger.error("%s failed: %s: %s", name, type(error).__name__, error)
    if failed:
        raise SystemExit(1)
