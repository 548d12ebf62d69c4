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

import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import rows

from scripts.training.history import History


class Losses:
    """An engine that puts out given values of terms, an epoch for each list."""

    def __init__(self, epochs, weight=2.0):
        self.epochs, self.weight = epochs, weight
        self.engine = Engine(self.iterate)

    def iterate(self, engine, index):
        terms = self.epochs[engine.state.epoch - 1][index]
        engine.state.losses = {name: (torch.tensor(value), self.weight) for name, value in terms.items()}

    def run(self, *handlers):
        for handler in handlers:
            handler.attach(self.engine)
        self.engine.run(range(len(self.epochs[0])), max_epochs=len(self.epochs))
        return self.engine


def test_history_is_the_mean_of_each_term_over_the_epoch_raw_and_weighted(tmp_path):
    path = tmp_path / "folder" / "history.csv"
    losses = Losses([[{"R/ncc": 1.0}, {"R/ncc": 3.0}], [{"R/ncc": 5.0}, {"R/ncc": 6.0}]])
    engine = losses.run(History(str(path)))
    expected = [(1, "R/ncc", 2.0), (1, "R/ncc weighted", 4.0), (2, "R/ncc", 5.5), (2, "R/ncc weighted", 11.0)]
    assert rows(path) == expected
    assert engine.state.metrics == {"R/ncc": 5.5, "R/ncc weighted": 11.0}
    assert [file.name for file in path.parent.iterdir()] == ["history.csv"]


def test_a_term_counts_only_the_pairs_and_the_epochs_in_which_it_was_live(tmp_path):
    path = tmp_path / "history.csv"
    epochs = [[{"R/ncc": 1.0}, {"R/ncc": 1.0, "S/ce": 8.0}], [{"R/ncc": 2.0}, {"R/ncc": 2.0}]]
    Losses(epochs, weight=1.0).run(History(str(path)))
    assert [row for row in rows(path) if "weighted" not in row[1]] == [(1, "R/ncc", 1), (1, "S/ce", 8), (2, "R/ncc", 2)]


def test_rows_of_an_epoch_that_is_run_again_are_replaced(tmp_path):
    path = tmp_path / "history.csv"
    Losses([[{"R/ncc": 1.0}], [{"R/ncc": 2.0}], [{"R/ncc": 3.0}]]).run(History(str(path)))
    again = Losses([[{"R/ncc": 0.0}], [{"R/ncc": 7.0}]])
    again.engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", 1))
    again.run(History(str(path)))
    assert [row for row in rows(path) if "weighted" not in row[1]] == [(1, "R/ncc", 1), (2, "R/ncc", 7)]


def test_metrics_of_a_validation_are_written_for_the_epoch_of_that_validation_alone(tmp_path):
    evaluator = Engine(lambda engine, _: None)
    evaluator.state.metrics, evaluator.state.epoch = {"dice": torch.tensor(0.75)}, 2
    path = tmp_path / "history.csv"
    Losses([[{}], [{}], [{}]]).run(History(str(path), evaluator=evaluator))
    assert rows(path) == [(2, "validation/dice", 0.75)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("interval", "iteration"), [(1, 5), (2, 6), (100, 8)])
def test_a_loss_that_is_not_finite_stops_training_at_the_next_reading_by_the_name_of_its_term(
    tmp_path, value, interval, iteration
):
    sound = [{"R/ncc": 1.0, "R/smooth": 1.0}] * 4
    losses = Losses([sound, [{"R/ncc": 1.0, "R/smooth": value}, *sound[1:]]])
    with pytest.raises(ValueError, match=f"R/smooth became {value} in epoch 2, by iteration {iteration}.*clip_norm"):
        losses.run(History(str(tmp_path / "history.csv"), interval=interval))
    assert {epoch for epoch, *_ in rows(tmp_path / "history.csv")} == {1}
