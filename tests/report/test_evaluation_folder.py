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

import math

import numpy as np
import pytest
from synthetic_evaluation import write_evaluation

from scripts.report.evaluation_folder import mean_of, read_evaluation


def test_a_missing_folder_is_named_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere") as error:
        read_evaluation(tmp_path / "nowhere")
    assert "monai.bundle run evaluating" in str(error.value)


@pytest.mark.parametrize(
    "name", ["metrics.json", "segmentation.csv", "registration.csv", "examples/registration_median.npz"]
)
def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path, name):
    folder = write_evaluation(tmp_path / "evaluation")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.rpartition("/")[2]) as error:
        read_evaluation(folder)
    assert "monai.bundle run evaluating" in str(error.value)


@pytest.mark.parametrize("task", ["segmentation", "registration"])
def test_only_the_files_of_the_evaluated_task_are_needed(tmp_path, task):
    evaluation = read_evaluation(write_evaluation(tmp_path / "evaluation", tasks=[task]))
    assert list(evaluation.rows) == list(evaluation.examples) == [task]


def test_a_summary_of_no_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither 'segmentation' nor 'registration'"):
        read_evaluation(write_evaluation(tmp_path / "evaluation", tasks=[]))


def test_a_missing_column_is_named(tmp_path):
    folder = write_evaluation(tmp_path / "evaluation")
    table = folder / "registration.csv"
    table.write_text(table.read_text().replace("sdlogj", "roughness"))
    with pytest.raises(ValueError, match=r"lacks the columns \['sdlogj'\]"):
        read_evaluation(folder)


def test_a_missing_array_is_named(tmp_path):
    folder = write_evaluation(tmp_path / "evaluation")
    np.savez(folder / "examples" / "segmentation_best.npz", image=np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"segmentation_best.npz lacks \['label', 'pred'"):
        read_evaluation(folder)


def test_numbers_are_read_case_by_case_and_empty_cells_are_not_a_number(tmp_path):
    evaluation = read_evaluation(write_evaluation(tmp_path / "evaluation"))
    assert evaluation.samples("segmentation", "dice", "front") == pytest.approx([0.5, 0.6, 0.7])
    assert evaluation.samples("segmentation", "hd95", "front") == [4.5, 4.5, 4.5]
    assert all(math.isnan(value) for value in evaluation.samples("segmentation", "hd95", "back"))
    assert list(evaluation.by_case("registration")) == [("a", "target"), ("b", "target"), ("c", "target")]


def test_an_example_brings_its_own_rows_of_the_table(tmp_path):
    worst, median, best = read_evaluation(write_evaluation(tmp_path / "evaluation")).examples["registration"]
    assert (worst.rank, median.rank, best.rank) == ("worst", "median", "best")
    assert best.case == ("c", "target")
    assert [row["dice"] for row in best.rows] == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize(
    ("cases", "ranks"), [(["a"], ["only"]), (["a", "b"], ["worst", "median and best"]), (["a", "b", "c", "d"], None)]
)
def test_a_case_of_several_ranks_is_one_example(tmp_path, cases, ranks):
    evaluation = read_evaluation(write_evaluation(tmp_path / "evaluation", cases=cases))
    found = [example.rank for example in evaluation.examples["segmentation"]]
    assert found == (ranks or ["worst", "median", "best"])


@pytest.mark.parametrize(("values", "mean"), [([1, 3], 2.0), ([1, math.nan, 3], 2.0), ([5], 5.0)])
def test_a_mean_is_of_the_defined_values(values, mean):
    assert mean_of([{"dice": value} for value in values], "dice") == mean


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_a_mean_of_nothing_is_not_defined(values):
    assert math.isnan(mean_of([{"dice": value} for value in values], "dice"))
