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
"""The finest grid whose training fits a budget, by what iterations on some grids cost."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .grids import Grid

__all__ = ["Budget", "Cost", "Expected", "Work", "choose_grid", "expect"]

logger = logging.getLogger(__name__)

GIB = 2**30
SHARE = 0.8  # of the budget that is planned: a machine is not always as fast, nor its memory as empty
ENOUGH, MOST, FEWEST = 1600, 8000, 100  # iterations: before voxels get finer, at all, and on the coarsest grid
EPOCH, EPOCHS = 160, 10  # iterations in an epoch, 4 x 40 pairs; and fewest epochs of a short training
VALIDATION = 0.5  # iterations that the validation of a case takes: no gradient, but metrics
SAVING = 0.5  # seconds, of curves, pictures and weights, in each epoch
CACHED = 5  # bytes of a voxel that is kept of a case: image and label
READING = 4 * 24  # bytes of a voxel of the largest file, while the data check reads four and preprocesses them
AROUND = 0.25 * GIB  # pictures, curves and metrics, which the measurement does without
PROBE = 50_000  # voxels that can be tried everywhere
TRIES = 5


@dataclass(frozen=True)
class Budget:
    """What a training may take.

    Args:
        memory: GiB.
        minutes: from its start to its end.
    """

    memory: float
    minutes: float


@dataclass(frozen=True)
class Cost:
    """What iterations on a grid have cost.

    Args:
        seconds: of one.
        peak: bytes at most.
        base: bytes before the first one, whatever the grid.
        start: seconds before the first one.
    """

    seconds: float
    peak: float
    base: float
    start: float = 0.0

    def scaled(self, ratio: float) -> Cost:
        """Guess those of a grid with so many times the voxels."""
        peak = self.base + ratio * (self.peak - self.base)
        return Cost(ratio * self.seconds, peak, self.base, self.start)


@dataclass(frozen=True)
class Work:
    """What a training has to do besides its iterations.

    Args:
        cached: cases that are kept in memory.
        validation: cases that are scored in each epoch.
        reading: seconds in which all cases were read once.
        largest: voxels of the largest file.
        on_cpu: whether the networks share the memory of the cases.
        epochs: where somebody has chosen them.
        iterations: likewise, in an epoch.
    """

    cached: int
    validation: int
    reading: float
    largest: int
    on_cpu: bool = True
    epochs: int | None = None
    iterations: int | None = None


@dataclass(frozen=True)
class Expected:
    """What a training will come to: ``epochs`` of ``iterations``, in ``minutes`` and ``memory`` GiB."""

    epochs: int
    iterations: int
    minutes: float
    memory: float

    @property
    def total(self) -> int:
        return self.epochs * self.iterations


def expect(grid: Grid, cost: Cost, work: Work, budget: Budget) -> Expected:
    """As many iterations as fit the time, and what they take.

    Args:
        grid: of the networks.
        cost: of an iteration there.
        work: what comes beside them.
        budget: whose time is to be used.
    """
    memory = cost.peak
    if work.on_cpu:
        kept = work.cached * grid.voxels * CACHED
        memory = max(cost.peak + kept + AROUND, cost.base + READING * work.largest)
    started = cost.start + 3 * work.reading  # read, preprocessed for the check, and once more for the training
    each = SAVING + VALIDATION * work.validation * cost.seconds  # of an epoch
    seconds = SHARE * 60 * budget.minutes - started
    iterations = work.iterations or EPOCH
    epochs = work.epochs or int(seconds / (iterations * cost.seconds + each))
    if work.iterations is None and epochs < EPOCHS:
        epochs = work.epochs or EPOCHS
        iterations = max(1, min(EPOCH, int((seconds / epochs - each) / cost.seconds)))
    elif work.epochs is None:
        epochs = max(1, min(epochs, MOST // iterations))
    total = started + epochs * (iterations * cost.seconds + each)
    return Expected(epochs, iterations, total / 60, memory / GIB)


def choose_grid(
    grids: Sequence[Grid], measure: Callable[[Grid], Cost], work: Work, budget: Budget
) -> tuple[Grid, Cost, Expected]:
    """The finest grid on which ``ENOUGH`` iterations fit the budget, by measuring, never by a guess alone.

    Args:
        grids: the finest first.
        measure: runs two iterations on a grid.
        work: what comes beside them.
        budget: what must not be exceeded.

    Returns:
        A grid that was measured, its cost, and what a training on it comes to.

    Raises:
        ValueError: not even the coarsest grid fits; says what it needs.
    """
    first = next((n for n, grid in enumerate(grids) if grid.voxels <= PROBE), len(grids) - 1)
    costs = {first: measure(grids[first])}
    last = len(grids) - 1

    def fits(number: int, cost: Cost) -> bool:
        expected = expect(grids[number], cost, work, budget)
        enough = FEWEST if number == last else ENOUGH
        chosen = bool(work.epochs and work.iterations)  # somebody wants them, few as they may be
        return (
            expected.memory <= SHARE * budget.memory
            and expected.minutes <= SHARE * budget.minutes * 1.001
            and (chosen or expected.total >= enough)
        )

    known = first
    for _ in range(TRIES):
        guesses = (
            number
            for number, grid in enumerate(grids)
            if fits(number, costs.get(number, costs[known].scaled(grid.voxels / grids[known].voxels)))
            and not any(tried >= number and not fits(tried, cost) for tried, cost in costs.items())
        )
        known = next(guesses, last)
        if known in costs:
            break
        costs[known] = measure(grids[known])
    fitting = sorted(number for number, cost in costs.items() if fits(number, cost))
    if not fitting and last not in costs:
        costs[last] = measure(grids[last])
        fitting = [last] if fits(last, costs[last]) else []
    if not fitting:
        raise ValueError(_too_small(grids[last], costs[last], work, budget))
    best = fitting[0]
    return grids[best], costs[best], expect(grids[best], costs[best], work, budget)


def _too_small(grid: Grid, cost: Cost, work: Work, budget: Budget) -> str:
    expected = expect(grid, cost, work, budget)
    seconds = FEWEST * cost.seconds + cost.start + 3 * work.reading
    seconds += EPOCHS * (SAVING + VALIDATION * work.validation * cost.seconds)
    minutes = max(seconds / 60, expected.minutes if work.epochs and work.iterations else 0)
    return (
        f"no training on these cases fits the budget. The coarsest grid that shows them, {grid.size} voxels of "
        f"{grid.voxel} mm:\n"
        f"  memory   needs {_up(expected.memory / SHARE):.2f} GiB, found --memory {budget.memory:.3g}\n"
        f"  minutes  needs {_up(minutes / SHARE):.2f}, found --minutes {budget.minutes:g}\n"
        "  Give more, or choose fewer cases (`--num_unlabeled`), or a voxel size of your own (`--pixdim`)."
    )


def _up(value: float) -> float:
    """Rounded up to two digits behind the point: what is asked for has to be enough."""
    return math.ceil(100 * value) / 100
