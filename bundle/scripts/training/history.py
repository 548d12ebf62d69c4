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
"""The curves of a training as a file."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from ..files import processes
from ..files.progress import Progress
from ..files.writing import replacing


class History:
    """Averages every term over the epoch, shows it beside the bar of progress, and writes it to ``history.csv``.

    Losses stay on the device until ``interval`` iterations are over: a transfer at every iteration would stall a GPU.
    ``update/term`` is the raw value of a term, ``update/term weighted`` what the update minimised. They become
    ``engine.state.metrics``, where MONAI's StatsHandler, TensorBoard and MLflow handlers look for them. Several
    processes average over the pairs of all, and the first one writes.

    Args:
        path: the CSV file, with columns epoch, iteration, name, value; rows of epochs that are run again are replaced.
        interval: iterations between two readings.
        evaluator: its metrics are added after each validation.

    Raises:
        ValueError: while training, when a term is no longer finite, naming the term.
    """

    def __init__(self, path: str, interval: int = 10, evaluator: Engine | None = None) -> None:
        self.path, self.interval, self.evaluator = Path(path), interval, evaluator
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self.shown: dict[str, float] = {}

    def attach(self, engine: Engine) -> None:
        """Listen to a :class:`scripts.joint.trainer.JointTrainer`."""
        Progress("epoch", lambda: self.shown, pause=60.0).attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._read)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._read)
        if processes.rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _clear(self, engine: Engine) -> None:
        for name in self.sums:  # a term that no pair of this epoch makes live has no value in it
            engine.state.metrics.pop(name, None)
        self.sums, self.counts = {}, {}

    def _collect(self, engine: Engine) -> None:
        for name, (value, weight) in engine.state.losses.items():
            for key, amount in ((name, value), (f"{name} weighted", weight * value)):
                self.sums[key] = self.sums.get(key, 0) + amount
                self.counts[key] = self.counts.get(key, 0) + 1

    def _read(self, engine: Engine) -> None:
        sums = processes.add_up({name: float(total) for name, total in self.sums.items()})
        counts = processes.add_up(self.counts)
        for name, total in sums.items():
            value = total / counts[name]
            if not math.isfinite(value):
                raise ValueError(
                    f"{name} became {value} in epoch {engine.state.epoch}, by iteration {engine.state.iteration}. "
                    "Lower the learning rate of this update, or set its `clip_norm`; the last checkpoint is intact."
                )
            engine.state.metrics[name] = value
        self.shown = {name: engine.state.metrics[name] for name in sums if not name.endswith(" weighted")}

    def _write(self, engine: Engine) -> None:
        values = dict(engine.state.metrics)
        if self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch:
            values |= {f"validation/{k}": float(v) for k, v in self.evaluator.state.metrics.items()}
        header, earlier = ["epoch", "iteration", "name", "value"], []
        if self.path.is_file():
            with open(self.path, newline="") as file:
                earlier = [row for row in csv.reader(file) if row[0].isdigit() and int(row[0]) < engine.state.epoch]
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            rows = [[engine.state.epoch, engine.state.iteration, name, f"{v:.6g}"] for name, v in values.items()]
            csv.writer(file).writerows([header, *earlier, *rows])
