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

"""Parts of the labelled cases: each is trained on once, and the rest is its test."""

from __future__ import annotations

import pytest

from scripts.data.cases import Cases
from scripts.data.folds import check_folds, fold_lists


def named(*names):
    return [{"case": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]


def test_each_case_is_trained_on_once_in_the_order_of_the_list():
    others = {"labels": {"1": "heart"}, "unlabeled": ["images/u.nii.gz"], "validation": named("v"), "test": []}
    lists = fold_lists({**others, "labeled": named(*"edcba")}, 2)
    assert list(lists) == ["datalist_fold0.json", "datalist_fold1.json"]
    first, second = lists.values()
    assert (first["labeled"], first["test"]) == (named(*"edc"), named(*"ba"))
    assert (second["labeled"], second["test"]) == (named(*"ba"), named(*"edc"))
    for fold in (first, second):
        assert {key: fold[key] for key in ("labels", "unlabeled", "validation")} == {
            key: others[key] for key in ("labels", "unlabeled", "validation")
        }


@pytest.mark.parametrize(
    ("folds", "test", "message"),
    [
        (1, (), "from 2 to the number of labelled cases, 3, found 1"),
        (4, (), "found 4"),
        (3, named("t"), "have a list 'test' already"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(folds, test, message):
    with pytest.raises(ValueError, match=message):
        check_folds(Cases({1: "heart"}, labeled=tuple(named(*"abc")), test=tuple(test)), folds)
