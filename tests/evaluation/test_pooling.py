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
"""Evaluations of several folds put together: means that can be told by hand."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from bundle_runs import succeed
from synthetic_evaluation import write_evaluation
from test_report import Page

from scripts.evaluation.pooling import Pool
from scripts.report.evaluation_folder import read_evaluation


def set_means(folder, **means):
    """The fixture's summary is made up: give it the means of its rows."""
    metrics = json.loads((folder / "metrics.json").read_text())
    for task, mean in means.items():
        metrics[task]["dice"]["mean"] = mean
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Two folds: cases a, b, c with Dice 0.5, 0.6, 0.7, and c, d, e, f with 0.5 to 0.8; c is in the test of both."""
    place = tmp_path_factory.mktemp("folds")
    folders = []
    for name, cases, mean, error in (("fold0", "abc", 0.6, 1.0), ("fold1", "cdef", 0.65, 3.0)):
        folders.append(write_evaluation(place / name / "eval", cases=list(cases)))
        set_means(folders[-1], segmentation=mean, registration=mean)
        rows = [("moving", "fixed", "landmark", "tre", "identity_tre"), (cases[0], "target", "apex", error, 4.0)]
        with (folders[-1] / "landmarks.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folders


@pytest.fixture(scope="module")
def pooled(folds, tmp_path_factory):
    """What the two come to, and the folder."""
    folder = tmp_path_factory.mktemp("pooled") / "all"
    return Pool(folds, folder, title="Two folds").run(), folder


def test_every_score_of_every_fold_counts_once(pooled):
    metrics, folder = pooled
    dice = [0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.8]
    for task in ("segmentation", "registration"):
        assert metrics[task]["n"] == metrics[task]["dice"]["n"] == 7
        assert metrics[task]["dice"]["mean"] == pytest.approx(np.mean(dice))
        assert metrics[task]["dice"]["std"] == pytest.approx(np.std(dice))
        assert metrics[task]["dice"]["per_structure"]["front"]["n"] == 7
    assert metrics["registration"]["folding_percent"] == {"mean": 0.125, "std": 0.0, "n": 7}
    assert metrics["identity"]["dice"]["mean"] == 0.25
    cases = [f"fold0/eval/{case}" for case in "abc"] + [f"fold1/eval/{case}" for case in "cdef"]
    assert list(read_evaluation(folder).by_case("segmentation")) == [(case,) for case in cases]


def test_the_spread_between_the_folds_is_told_apart_from_that_between_cases(pooled):
    between = pooled[0]["between_evaluations"]["segmentation"]["dice"]
    assert between["values"] == {"fold0/eval": 0.6, "fold1/eval": 0.65}
    assert (between["mean"], between["std"], between["n"]) == (pytest.approx(0.625), pytest.approx(0.025), 2)


def test_the_pictured_cases_are_the_worst_and_the_best_of_all_and_one_at_the_median(pooled):
    examples = read_evaluation(pooled[1]).examples
    names = [("fold0/eval/a",), ("fold0/eval/b",), ("fold1/eval/f",)]
    assert [example.case for example in examples["segmentation"]] == names
    for task in ("segmentation", "registration"):
        assert [float(example.arrays["dice"]) for example in examples[task]] == [0.5, 0.6, 0.8]


def test_the_report_names_each_fold_and_what_they_come_to(pooled):
    page = Page((pooled[1] / "report.html").read_text(encoding="utf-8"))
    assert "Two folds" in page.prose and "By evaluation" in page.prose
    assert ["fold0/eval", "0.600", "0.600"] in page.rows and ["fold1/eval", "0.650", "0.650"] in page.rows
    assert ["mean of these", "0.625 \u00b1 0.025", "0.625 \u00b1 0.025"] in page.rows


def test_landmarks_are_pooled_too(pooled):
    metrics, folder = pooled
    assert metrics["registration"]["tre"] == {"mean": 2.0, "std": 1.0, "n": 2, "landmarks": 2, "max": 3.0}
    assert metrics["identity"]["tre"]["mean"] == 4.0
    assert "fold1/eval/c,fold1/eval/target,apex,3,4" in (folder / "landmarks.csv").read_text()


def test_evaluations_of_other_structures_are_refused(folds, tmp_path):
    other = write_evaluation(tmp_path / "other", structures=("top",))
    with pytest.raises(ValueError, match="of other structures cannot be put together:\n.*front, back\n.*top"):
        Pool([folds[0], other], tmp_path / "all").run()


def test_evaluations_of_other_tasks_are_refused(folds, tmp_path):
    other = write_evaluation(tmp_path / "other", tasks=["segmentation"])
    with pytest.raises(ValueError, match="of other tasks cannot be put together"):
        Pool([folds[0], other], tmp_path / "all").run()


@pytest.mark.parametrize(
    ("evaluations", "message"),
    [
        (None, "found None"),
        ("one", "found 'one'"),
        (["one"], "two folders or more"),
        (["one", "./one"], "stands twice"),
    ],
)
def test_what_is_not_several_folders_is_refused(tmp_path, evaluations, message):
    with pytest.raises(ValueError, match=message):
        Pool(evaluations, tmp_path)


def test_an_evaluation_is_not_overwritten_by_the_pool(folds):
    with pytest.raises(ValueError, match="one of the evaluations"):
        Pool(folds, folds[0])


@pytest.mark.slow
def test_the_command_pools_and_reports(folds, tmp_path):
    options = {"evaluations": str([str(folder) for folder in folds]), "output_dir": tmp_path / "all"}
    said = succeed("pooling", ["configs/report.yaml"], **options)
    assert "fold0/eval 0.600, fold1/eval 0.650; 0.625 +- 0.025 between them" in said
    assert (tmp_path / "all" / "report.html").is_file()
