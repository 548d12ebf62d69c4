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
"""Weights into files while a training runs, and from files when an engine starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from ..files import processes
from ..networks.weights import load_weights, save_atomically

logger = logging.getLogger(__name__)


class SaveWeights:
    """Keeps the weights of networks: the best by a validation metric, or the latest where there is no validation.

    One bare state dict per file, which is what the model zoo and MONAI Label load. The best values so far are kept in
    ``engine.state.best`` of the trainer, where :class:`TrainState` saves them. Of several processes the first
    one saves.

    Args:
        folder: where the files go.
        networks: file name -> network.
        evaluator: whose metrics are compared; to be listed after the handler that runs it.
        metric: name of the metric, larger is better. None: save every epoch.

    Raises:
        ValueError: while training, when weights are no longer finite; what was saved before stays.
    """

    def __init__(
        self,
        folder: str,
        networks: Mapping[str, torch.nn.Module],
        evaluator: Engine | None = None,
        metric: str | None = None,
    ) -> None:
        self.folder, self.networks, self.evaluator, self.metric = Path(folder), dict(networks), evaluator, metric

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer."""
        if processes.rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
            engine.add_event_handler(Events.COMPLETED, self._save_unvalidated)

    def _save_unvalidated(self, engine: Engine) -> None:
        if self.metric is not None and self.metric not in engine.state.best:  # fewer epochs than val_interval
            self._write(engine)

    def _save(self, engine: Engine) -> None:
        if self.metric is not None:
            if self.evaluator.state.epoch != engine.state.epoch:  # no validation in this epoch
                return
            value = float(self.evaluator.state.metrics[self.metric])
            if not value > engine.state.best.get(self.metric, -math.inf):
                return
            engine.state.best[self.metric] = value
            logger.info("epoch %d: best %s so far, %.4f", engine.state.epoch, self.metric, value)
        self._write(engine)

    def _write(self, engine: Engine) -> None:
        check_finite(self.networks, engine)
        for filename, network in self.networks.items():
            save_atomically(network.state_dict(), self.folder / filename)


class LoadWeights:
    """Gives networks the weights of files when an engine starts, with a message that says what to do where it cannot.

    Args:
        folder: where the files lie.
        networks: file name -> network; loaded in place.
        device: where the networks go.

    Raises:
        FileNotFoundError: when it starts, there is no such file.
        ValueError: the weights are of a network of another structure.
    """

    def __init__(
        self, folder: str, networks: Mapping[str, torch.nn.Module], device: torch.device | str = "cpu"
    ) -> None:
        self.folder, self.networks, self.device = folder, dict(networks), device

    def attach(self, engine: Engine) -> None:
        """Listen to any engine."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, _: Engine) -> None:
        for filename, network in self.networks.items():
            load_weights(network, self.folder, filename, self.device)


def check_finite(networks: Mapping[str, torch.nn.Module], engine: Engine) -> None:
    # the last step before a save may be the one that breaks a network, and no loss has been taken since
    for name, network in networks.items():
        if not all(value.isfinite().all() for value in network.state_dict().values()):
            raise ValueError(
                f"weights of '{name}' are no longer finite after epoch {engine.state.epoch}, and were not saved. "
                "Lower the learning rate of its update, or set its `clip_norm`; the last checkpoint is intact."
            )
