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
"""Length and folding of the fields of a training."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from ..fields.metrics import folding_percent
from ..files import processes


class FieldCurves:
    """Follows the mean length of the field in voxels and the percentage of folded voxels, in ``engine.state.metrics``.

    The two tell whether registration does anything, and whether it does too much. As metrics they go wherever the
    others go: TensorBoard, ``history.csv``, MLflow. Both are means over the pairs of an epoch that were looked at, and
    are there when it ends; of several processes, over the pairs of all.

    Args:
        prefix: goes before the names ``field_length_voxels`` and ``folding_percent``.
        interval: look at the first pair of an epoch and at every ``interval``-th after it.
    """

    def __init__(self, prefix: str = "", interval: int = 1) -> None:
        self.names, self.interval = (f"{prefix}field_length_voxels", f"{prefix}folding_percent"), interval
        self.sums, self.count = torch.zeros(2), 0

    def attach(self, engine: Engine) -> None:
        """Listen to a JointTrainer or JointEvaluator, ahead of the handlers that read metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._average)

    def _clear(self, engine: Engine) -> None:
        for name in self.names:  # an epoch in which no pair is registered has no value
            engine.state.metrics.pop(name, None)
        self.sums, self.count = torch.zeros(2), 0

    def _collect(self, engine: Engine) -> None:
        # by the place in the epoch, so that a resumed training looks at the same pairs
        place = (engine.state.iteration - 1) % engine.state.epoch_length
        if place % self.interval or (ddf := engine.state.ddf) is None:
            return
        measured = torch.stack([ddf.norm(dim=1).mean(dim=(1, 2, 3)), folding_percent(ddf)])
        self.sums = self.sums.to(ddf.device) + measured.sum(dim=1)  # stays on the device until the epoch is over
        self.count += len(ddf)

    def _average(self, engine: Engine) -> None:
        sums = dict(zip((*self.names, "count"), (*self.sums.tolist(), self.count), strict=True))
        count = (sums := processes.add_up(sums)).pop("count")
        if count:
            engine.state.metrics |= {name: total / count for name, total in sums.items()}
