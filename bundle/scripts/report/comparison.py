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
"""Two evaluations on the cases that both have: paired values of every measure, and how sure their difference is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..training.options import TASKS
from .evaluation_folder import Evaluation, is_measured

RESAMPLES = 2000


@dataclass(frozen=True)
class Paired:
    """The values of a measure in two runs, one of each for every case where both are defined.

    Args:
        first: values of the first run, (n,).
        second: values of the second run on the same cases, (n,).
    """

    first: np.ndarray
    second: np.ndarray

    @property
    def difference(self) -> float:
        """Mean of second minus first; NaN without cases."""
        return float(np.mean(self.second - self.first)) if self.first.size else math.nan

    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval (percentiles) of the mean difference over the cases; always the same draw."""
        differences, n = self.second - self.first, self.first.size
        if n == 0:
            return math.nan, math.nan
        means = differences[np.random.default_rng(0).integers(n, size=(RESAMPLES, n))].mean(axis=1)
        low, high = np.percentile(means, (2.5, 97.5))
        return float(low), float(high)

    def better(self, is_high_good: bool) -> int:
        """In how many cases the second run is better."""
        return int(np.sum(self.second > self.first if is_high_good else self.second < self.first))


class Comparison:
    """Two evaluations, restricted to the tasks, structures and cases that they share.

    Args:
        first: what is compared with.
        second: what is compared.
        names: what the page calls the two.

    Raises:
        ValueError: when they share no task, no structure, or, in a task, no case.
    """

    def __init__(self, first: Evaluation, second: Evaluation, names: tuple[str, str]) -> None:
        self.runs = dict(zip(names, (first, second), strict=True))
        self.tasks = [task for task in TASKS if task in first.rows and task in second.rows]
        self.structures = [name for name in first.structures if name in second.structures]
        if not self.tasks or not self.structures:
            found = "".join(f"\n  {n}: {', '.join(e.rows)} of {', '.join(e.structures)}" for n, e in self.runs.items())
            raise ValueError(f"these evaluations have no task or no structure in common:{found}")
        self.rows = {task: [run.by_case(task) for run in self.runs.values()] for task in self.tasks}
        self.cases = {task: self._common_cases(task) for task in self.tasks}

    def _common_cases(self, task: str) -> list[tuple[str, ...]]:
        first, second = self.rows[task]
        if common := [case for case in first if case in second]:
            return common
        examples = "".join(
            f"\n  {name}: {' → '.join(next(iter(rows)))} ..."
            for name, rows in zip(self.runs, (first, second), strict=True)
        )
        raise ValueError(
            f"these evaluations of {task} have no case in common:{examples}\n  Evaluate both on one list of test cases,"
            " with the same `--max_pairs` and `--seed`, or the same `--test_pairs`."
        )

    def values(self, task: str, column: str, structure: str | None = None) -> Paired:
        """The values of a column: of one structure, or the mean over the structures that both runs have."""
        wanted = self.structures if structure is None else [structure]
        both = np.array([self.of_case(task, case, column, wanted) for case in self.cases[task]])
        both = both[np.isfinite(both).all(axis=1)]
        return Paired(both[:, 0], both[:, 1])

    def of_case(self, task: str, case: tuple[str, ...], column: str, structures: Sequence[str]) -> tuple[float, float]:
        """The mean of a column over the structures that have it in both runs, of one case; NaN where there is none.

        A run that missed what is far away would else look closer for it.
        """
        both = self._defined(task, case, column, structures)
        return tuple(both.mean(axis=0)) if len(both) else (math.nan, math.nan)

    def count(self, task: str, column: str) -> int:
        """Over how many structures of all cases the values of a column are."""
        return sum(len(self._defined(task, case, column, self.structures)) for case in self.cases[task])

    def has(self, task: str, column: str) -> bool:
        """Whether both runs have measured a column: 0.6.1 had fewer."""
        return all(is_measured(run.rows[task], column) for run in self.runs.values())

    def _defined(self, task: str, case: tuple[str, ...], column: str, structures: Sequence[str]) -> np.ndarray:
        """The values of a column of one case in both runs, (n, 2), of the structures where both have one."""
        first, second = ({row["structure"]: row[column] for row in run[case]} for run in self.rows[task])
        both = np.array([(first[name], second[name]) for name in structures if name in first and name in second])
        return both[np.isfinite(both).all(axis=1)] if len(both) else both


def comparison_names(first: Path, second: Path) -> tuple[str, str]:
    """What to call two folders: as much of the end of their paths as tells them apart.

    Raises:
        ValueError: when both are one folder.
    """
    if first.resolve() == second.resolve():
        raise ValueError(
            f"{first} is to be compared with itself; give `--compare_with` the folder of another evaluation."
        )
    one, other = distinct_names([first, second])
    return one, other


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """What to call several folders: as much of the ends of their paths as tells them apart.

    Raises:
        ValueError: when one of them stands twice.
    """
    paths = [folder.resolve().parts for folder in folders]
    for path, folder in zip(paths, folders, strict=True):
        if paths.count(path) > 1:
            raise ValueError(f"{folder} stands twice among the evaluations.")
    length = next(n for n in itertools.count(1) if len({path[-n:] for path in paths}) == len(paths))
    return ["/".join(path[-length:]) for path in paths]
