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
"""The grid that a budget allows, with iterations whose cost is known beforehand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_plan_grids import ABDOMEN, BRAIN, HIPPOCAMPUS

from scripts.planning.budget import AROUND, CACHED, GIB, SHARE, Budget, Cost, Work, choose_grid, expect
from scripts.planning.grids import Grid, grids_of

WORK = Work(cached=48, validation=4, reading=2.0, largest=10**6)
ROOM = Budget(memory=16, minutes=30)


def machine(seconds: float = 3e-6, kept: float = 4000, power: float = 1.0, seen: list | None = None):
    """A machine on which an iteration takes so many seconds and bytes of memory for each voxel."""

    def measure(grid: Grid) -> Cost:
        if seen is not None:
            seen.append(grid)
        return Cost(seconds * grid.voxels**power, GIB / 2 + kept * grid.voxels, GIB / 2, start=10)

    return measure


def test_iterations_fill_the_time_that_starting_reading_and_validating_leave():
    grid = Grid((10, 10, 10), (1, 1, 1))
    found = expect(grid, Cost(0.5, GIB, GIB, start=20), replace(WORK, validation=0), ROOM)
    each = 160 * 0.5 + 0.5
    assert (found.epochs, found.iterations) == (int((SHARE * 1800 - 26) / each), 160)
    assert found.minutes == pytest.approx((26 + found.epochs * each) / 60)
    scored = expect(grid, Cost(0.5, GIB, GIB, start=20), replace(WORK, validation=160), ROOM)
    assert scored.epochs == int((SHARE * 1800 - 26) / (each + 80 * 0.5))


def test_a_short_training_has_ten_epochs_all_the_same():
    found = expect(Grid((10, 10, 10), (1, 1, 1)), Cost(0.5, GIB, GIB), replace(WORK, validation=0, reading=0), ROOM)
    short = Budget(16, minutes=1)
    less = expect(Grid((10, 10, 10), (1, 1, 1)), Cost(0.5, GIB, GIB), replace(WORK, validation=0, reading=0), short)
    assert found.iterations == 160 and (less.epochs, less.iterations) == (10, int((4.8 - 0.5) / 0.5))


def test_memory_is_that_of_an_iteration_and_of_the_cases_that_are_kept():
    grid, cost = Grid((64, 64, 64), (1, 1, 1)), Cost(0.1, 3 * GIB, GIB)
    assert expect(grid, cost, WORK, ROOM).memory * GIB == 3 * GIB + 48 * 64**3 * CACHED + AROUND
    assert expect(grid, cost, replace(WORK, on_cpu=False), ROOM).memory == 3  # the card holds a pair, not the cases
    large = expect(grid, cost, replace(WORK, largest=10**9), ROOM)
    assert large.memory > 90  # the data check reads four files at a time


WRITTEN = {"hippocampus": (HIPPOCAMPUS, 30, 40 * 56 * 40), "abdomen_ct": (ABDOMEN, 30, 64 * 48 * 64)}
WRITTEN["brain_mr"] = (BRAIN, 70, 80 * 96 * 80)  # whose 1600 iterations need an hour on two cores


@pytest.mark.parametrize("name", WRITTEN)
def test_two_idle_cores_give_about_as_many_voxels_as_the_hand_written_config_has(name):
    facts, minutes, voxels = WRITTEN[name]
    grid, _, found = choose_grid(grids_of(facts, 8), machine(), WORK, Budget(16, minutes))
    assert 0.75 * voxels <= grid.voxels <= 1.75 * voxels and found.total >= 1600


@pytest.mark.parametrize("facts", [HIPPOCAMPUS, ABDOMEN, BRAIN])
@pytest.mark.parametrize("power", [1.0, 1.1])  # dearer than a proportion: what was guessed does not hold
@pytest.mark.parametrize("budget", [Budget(16, 30), Budget(4, 30), Budget(2, 30), Budget(16, 8), Budget(64, 600)])
def test_a_plan_was_measured_and_never_needs_more_than_the_budget(facts, power, budget):
    seen: list[Grid] = []
    grid, cost, found = choose_grid(grids_of(facts, 8), machine(power=power, seen=seen), WORK, budget)
    assert grid in seen and cost == machine(power=power)(grid) and len(seen) <= 7
    assert found.memory <= budget.memory and found.minutes <= budget.minutes
    finer = [other for other in grids_of(facts, 8) if other.voxels > 1.35 * grid.voxels]
    if finer and power == 1.0:  # and the next finer ones would have needed more
        more = expect(finer[-1], machine()(finer[-1]), WORK, budget)
        assert more.memory > SHARE * budget.memory or more.total < 1600


def test_more_never_makes_it_coarser():
    grids = grids_of(ABDOMEN, 8)
    by_minutes = [choose_grid(grids, machine(), WORK, Budget(16, m))[0].voxels for m in (5, 15, 30, 60, 240)]
    by_memory = [choose_grid(grids, machine(), WORK, Budget(m, 600))[0].voxels for m in (1.7, 2, 4, 8, 32)]
    assert by_minutes == sorted(by_minutes) and by_memory == sorted(by_memory)
    assert by_minutes[0] < by_minutes[-1] and by_memory[0] < by_memory[-1]


def test_a_budget_that_is_too_small_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match=r"(?s)no training .* needs 1\.\d+ GiB.*--minutes 0.1\n") as refused:
        choose_grid(grids_of(ABDOMEN, 8), machine(), replace(WORK, reading=0), Budget(16, 0.1))
    needed = float(str(refused.value).split("minutes  needs ")[1].split(",")[0])
    choose_grid(grids_of(ABDOMEN, 8), machine(), replace(WORK, reading=0), Budget(16, needed + 0.2))
    with pytest.raises(ValueError, match="found --memory 0.5"):
        choose_grid(grids_of(ABDOMEN, 8), machine(), WORK, Budget(0.5, 30))


def test_epochs_that_somebody_has_chosen_stay_and_the_grid_suits_them():
    work = replace(WORK, epochs=18, iterations=160)
    grid, _, found = choose_grid(grids_of(ABDOMEN, 8), machine(), work, ROOM)
    assert found.total == 2880 and found.minutes <= 30
    assert grid.voxels < choose_grid(grids_of(ABDOMEN, 8), machine(), WORK, ROOM)[0].voxels
