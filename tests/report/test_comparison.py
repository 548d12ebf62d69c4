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
from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from synthetic_evaluation import write_evaluation
from test_report import read

from scripts.report.comparison import Comparison, Paired, comparison_names
from scripts.report.evaluation_folder import read_evaluation
from scripts.report.write import Report


def raise_dice(folder, task, by):
    """Add to the Dice of every row of a task, and to nothing else."""
    path = folder / f"{task}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"dice": float(row["dice"]) + by} for row in rows)


@pytest.fixture
def folders(tmp_path):
    """Two evaluations; the second one segments better by 0.125 and has one case less and another one more."""
    first = write_evaluation(tmp_path / "plain" / "evaluation", cases=["a", "b", "c"])
    second = write_evaluation(tmp_path / "better" / "evaluation", cases=["b", "c", "d"])
    raise_dice(second, "segmentation", 0.225)  # the helper gives b 0.6 in the first and 0.5 in the second
    return first, second


def compared(first, second, names=("one", "other")):
    return Comparison(read_evaluation(first), read_evaluation(second), names)


def test_only_cases_of_both_runs_are_compared(folders):
    comparison = compared(*folders)
    assert comparison.cases["segmentation"] == [("b",), ("c",)]
    dice = comparison.values("segmentation", "dice")
    np.testing.assert_allclose(dice.first, [0.6, 0.7])
    np.testing.assert_allclose(dice.second, [0.725, 0.825])
    assert dice.difference == pytest.approx(0.125)


def test_the_interval_of_a_constant_difference_is_a_point():
    assert Paired(np.array([0.25, 0.5, 0.75]), np.array([0.5, 0.75, 1.0])).interval() == (0.25, 0.25)


def test_the_interval_is_that_of_the_standard_error_for_many_cases():
    differences = np.random.default_rng(3).normal(0.3, 1.0, 400)
    low, high = Paired(np.zeros(400), differences).interval()
    half = 1.96 * differences.std() / math.sqrt(400)
    np.testing.assert_allclose([low, high], [differences.mean() - half, differences.mean() + half], atol=0.02)


def test_what_is_better_depends_on_the_measure():
    values = Paired(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 3.0]))
    assert values.better(is_high_good=True) == 2
    assert values.better(is_high_good=False) == 0


def test_a_measure_that_no_case_has_is_undefined(folders):
    comparison = compared(*folders)
    nowhere = comparison.values("segmentation", "hd95", "back")
    assert nowhere.first.size == 0 and math.isnan(nowhere.difference) and np.isnan(nowhere.interval()).all()


def test_folders_of_one_name_are_called_by_what_tells_them_apart(folders, tmp_path):
    assert comparison_names(*folders) == ("plain/evaluation", "better/evaluation")
    assert comparison_names(tmp_path / "a", tmp_path / "b" / "c") == ("a", "c")


def test_a_run_is_not_compared_with_itself(folders):
    with pytest.raises(ValueError, match="with itself"):
        Report(folders[0], compare_with=folders[0]).run()


def test_runs_without_a_common_case_or_task_are_refused(tmp_path):
    one = write_evaluation(tmp_path / "one", cases=["a"], tasks=["segmentation"])
    other = write_evaluation(tmp_path / "other", cases=["b"], tasks=["segmentation"])
    with pytest.raises(ValueError, match="(?s)no case in common.*one: a .*other: b .*--seed"):
        compared(one, other)
    pairs = write_evaluation(tmp_path / "pairs", cases=["a"], tasks=["registration"])
    with pytest.raises(ValueError, match="no task or no structure in common"):
        compared(one, pairs)


def test_the_page_states_both_runs_and_their_difference(folders):
    before = (folders[0] / "metrics.json").read_bytes()
    page = read(folders[0], compare_with=folders[1])
    assert page.open == []
    assert ["Segmentation, Dice ↑", "0.650", "0.775", "+0.125", "+0.125 to +0.125", "2 of 2"] in page.rows
    assert [
        "Segmentation, HD95, mm ↓",
        "4.50",
        "4.50",
        "+0.00",
        "+0.00 to +0.00",
        "0 of 2 (2 of 4 structures)",
    ] in page.rows
    assert not any("surface Dice" in row[0] for row in page.rows)  # of evaluations by 0.6.1, as these are
    assert ["Registration, Dice ↑", "0.650", "0.550", "−0.100", "−0.100 to −0.100", "0 of 2"] in page.rows
    assert ["b", "0.600", "0.725", "+0.125", "4.50", "4.50", "+0.00"] in page.rows
    assert ["recipe", "deeprs", "deeprs"] in page.rows
    assert {"plain/evaluation", "better/evaluation"} <= set(
        "".join(row) for row in page.rows for row in [[c] for c in row]
    )
    assert (folders[0] / "comparison.html").is_file() and not (folders[0] / "report.html").exists()
    assert (folders[0] / "metrics.json").read_bytes() == before


def test_a_run_that_misses_a_structure_does_not_look_closer_for_it(folders):
    for folder, hd95 in zip(folders, ({"front": 2.0, "back": 30.0}, {"front": 3.0, "back": ""}), strict=True):
        path = folder / "segmentation.csv"
        with path.open(newline="") as file:
            rows = [row | {"hd95": hd95[row["structure"]]} for row in csv.DictReader(file)]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    comparison = compared(*folders)
    values = comparison.values("segmentation", "hd95")
    assert values.first.tolist() == [2.0, 2.0] and values.second.tolist() == [3.0, 3.0]  # not 16 and 3
    assert (comparison.count("segmentation", "hd95"), comparison.count("segmentation", "dice")) == (2, 4)


def test_settings_that_only_one_run_has_are_left_empty_in_the_other(folders):
    metrics = json.loads((folders[1] / "metrics.json").read_text())
    metrics["config"]["refine"] = 20
    (folders[1] / "metrics.json").write_text(json.dumps(metrics))
    assert ["refine", "", "20"] in read(folders[0], compare_with=folders[1]).rows
