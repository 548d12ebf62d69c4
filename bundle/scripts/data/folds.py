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

"""Folds of the labelled cases: each part is trained on once, and the others are the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .cases import Cases

__all__ = ["check_folds", "fold_lists"]


def fold_lists(content: Mapping[str, Any], folds: int) -> dict[str, dict[str, Any]]:
    """A datalist for each part of the labelled cases, of the one that has them all.

    In few-shot learning (DeepRS, Section 4.1) a fold trains on one part and tests on the rest, the other way round than
    in cross-validation. The parts follow the order of the list, and differ in size by one at most. Unlabelled and
    validation cases are in every fold.

    Args:
        content: the datalist, with the list ``labeled`` and without ``test``.
        folds: how many parts.

    Returns:
        ``datalist_fold0.json`` and so on -> its content.
    """
    cases, lists = content["labeled"], {}
    for number, part in enumerate(np.array_split(np.arange(len(cases)), folds)):
        training = [cases[i] for i in part]
        test = [case for case in cases if case not in training]
        lists[f"datalist_fold{number}.json"] = {**content, "labeled": training, "test": test}
    return lists


def check_folds(cases: Cases, folds: int) -> None:
    """Refuse folds that cannot be made.

    Raises:
        ValueError: there are fewer labelled cases than folds, a fold would have no test, or there is one already.
    """
    if cases.test:
        raise ValueError("`folds` makes the test lists, and the data have a list 'test' already: set `folds` to null.")
    if not 2 <= folds <= len(cases.labeled):
        raise ValueError(
            f"`folds` should be from 2 to the number of labelled cases, {len(cases.labeled)}, found {folds}."
        )
