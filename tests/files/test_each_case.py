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

"""The one loop over cases: results in order, and faults that stop it or do not."""

from __future__ import annotations

import pytest

from scripts.files.each_case import Failure, for_each, keep_going


def inverse(number):
    return 1 / number


def test_results_come_in_the_order_of_the_jobs():
    assert for_each([1, 2, 4], inverse, "inverting") == [1, 0.5, 0.25]
    assert for_each([], inverse, "inverting") == []


def test_a_fault_stops_the_loop_unless_it_is_to_keep_going():
    with pytest.raises(ZeroDivisionError):
        for_each([1, 0, 4], inverse, "inverting")
    results = for_each([1, 0, 4], keep_going(inverse, str), "inverting")
    assert results == [1, Failure("0", "ZeroDivisionError: division by zero"), 0.25]


def test_a_fault_is_told_at_once(caplog):
    keep_going(inverse, str)(0)
    assert "failed: '0': ZeroDivisionError" in caplog.text


def test_whoever_interrupts_is_obeyed():
    def interrupt(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for_each([1], keep_going(interrupt, str), "waiting")
