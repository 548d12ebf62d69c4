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
"""What happens around the training loop: curves, pictures, the best weights, and resuming."""

from __future__ import annotations

import csv
import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch.utils.tensorboard import SummaryWriter

from scripts import processes
from scripts.cases import Cases, refuse_other_cases
from scripts.engine import Update
from scripts.files import replacing
from scripts.metrics import folding_percent
from scripts.pair_picture import draw_pair, write_picture
from scripts.spatial import spacing_of
from scripts.weights import FILES, load_weights, read_saved, save_atomically

logger = logging.getLogger(__name__)


class History:
    """Averages every term over the epoch, shows it in a progress bar, and writes it to ``history.csv``.

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
        """Listen to a :class:`scripts.engine.JointTrainer`."""
        if processes.rank() == 0:
            ProgressBar(persist=True, desc="epoch").attach(engine, output_transform=lambda _: self.shown)
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
        _check_finite(self.networks, engine)
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


class TrainState:
    """Saves after every epoch all that resuming needs, and resumes: the same bits as an uninterrupted run on a CPU.

    Networks, optimisers, schedules, epoch, iteration, best metrics, and the random states of Python, NumPy and torch.
    The pairs and the augmentation of an epoch follow from the seed and the epoch alone. Of several processes the first
    one saves, and all resume.

    Args:
        path: the file, ``train_state.pt``. It also holds the latest weights of every network.
        networks: name -> network.
        updates: name -> update.
        resume: go on from the file when it is there. Otherwise a file that is there stops the run before it starts.
        cases: those of the training, whose names are saved; ``None``: whatever cases there were.

    Raises:
        FileExistsError: when training starts in a folder that holds another one.
        ValueError: when what is to be resumed is a training with other cases, networks or updates.
        ValueError: while training, when weights are no longer finite; what was saved before stays.
    """

    def __init__(
        self,
        path: str,
        networks: Mapping[str, torch.nn.Module],
        updates: Mapping[str, Update],
        resume: bool = False,
        cases: Cases | None = None,
    ) -> None:
        self.path, self.networks, self.updates = Path(path), dict(networks), dict(updates)
        self.resume, self.cases = resume, cases

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer; to be listed after :class:`SaveWeights`, whose best values are saved."""
        engine.add_event_handler(Events.STARTED, self._start)
        if processes.rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _start(self, engine: Engine) -> None:
        if not self.path.is_file():
            if self.resume:
                logger.info("nothing to resume in '%s': training starts from the beginning", self.path)
            elif weights := [name for name in FILES.values() if (self.path.parent / name).is_file()]:
                raise FileExistsError(
                    f"'{self.path.parent}' holds weights ({', '.join(weights)}) that this training would replace. "
                    "Choose another `--output_dir`, or add `--resume true` if they may go."
                )
            return
        if not self.resume:
            raise FileExistsError(
                f"'{self.path}' is there: this folder holds a training already. Add `--resume true` to go on with it, "
                "or choose another `--output_dir`."
            )
        self._go_on(engine, read_saved(self.path))

    def _go_on(self, engine: Engine, state: Mapping[str, Any]) -> None:
        if self.cases is not None and "cases" in state:
            refuse_other_cases(self.cases, state["cases"], self.path)
        elif self.cases is not None:
            logger.warning("'%s' is of an older version and does not name its cases: nothing compares them", self.path)
        try:
            for name, network in self.networks.items():
                network.load_state_dict(state["networks"][name])
            for name, update in self.updates.items():
                update.load_state_dict(state["updates"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"'{self.path}' is of a training with other networks or updates: of {sorted(state['networks'])} and "
                f"{sorted(state['updates'])}, and this config of {sorted(self.networks)} and {sorted(self.updates)}.\n"
                "  Resume with the config files that it began with, which `config.yaml` beside it holds merged, or "
                f"choose another `--output_dir`.\n{str(error).splitlines()[-1].strip()}"
            ) from error
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        engine.state.best = dict(state["best"])
        _restore_random_state(state["random"])
        logger.info("resumed after epoch %d from '%s'", state["epoch"], self.path)

    def _save(self, engine: Engine) -> None:
        _check_finite(self.networks, engine)
        state = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "updates": {name: update.state_dict() for name, update in self.updates.items()},
            "best": engine.state.best,
            "random": _random_state(),
        } | ({} if self.cases is None else {"cases": self.cases.names()})
        save_atomically(state, self.path)


def _check_finite(networks: Mapping[str, torch.nn.Module], engine: Engine) -> None:
    # the last step before a save may be the one that breaks a network, and no loss has been taken since
    for name, network in networks.items():
        if not all(value.isfinite().all() for value in network.state_dict().values()):
            raise ValueError(
                f"weights of '{name}' are no longer finite after epoch {engine.state.epoch}, and were not saved. "
                "Lower the learning rate of its update, or set its `clip_norm`; the last checkpoint is intact."
            )


def _random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        if len(state["cuda"]) != (here := torch.cuda.device_count()):
            logger.warning("saved on %d GPUs, resumed on %d: random numbers differ", len(state["cuda"]), here)
        torch.cuda.set_rng_state_all(state["cuda"][:here])


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


class PairPicture:
    """After each epoch, a picture of its last pair, in TensorBoard and as PNG: images, grid, confidence, outlines.

    Attached to a validation, it shows a pair of that; attached to a training that has no pairs for one, the last pair
    trained on, without random augmentation.

    Args:
        log_dir: of TensorBoard.
        folder: where ``epoch_0001.png`` and so on go.
        with_segmentation: whether the segmentation network takes part in this recipe.
        tag: name of the picture in TensorBoard.
    """

    def __init__(self, log_dir: str, folder: str, with_segmentation: bool = True, tag: str = "validation/pair") -> None:
        self.log_dir, self.folder, self.with_segmentation, self.tag = log_dir, Path(folder), with_segmentation, tag

    def attach(self, engine: Engine) -> None:
        """Listen to a JointEvaluator or JointTrainer; of several processes the first one draws."""
        if processes.rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    @torch.no_grad()
    def _draw(self, engine: Engine) -> None:
        pair, epoch = engine.last_pair(), engine.state.epoch
        label = pair.batch.get("fixed_label")
        picture = draw_pair(
            pair,
            spacing_of(pair.batch["fixed_affine"][0].cpu()),
            pred=pair.fixed_pred[0].argmax(0) if self.with_segmentation else None,
            label=None if label is None else label[0, 0],
        )
        write_picture(self.folder / f"epoch_{epoch:04d}.png", picture)
        with SummaryWriter(self.log_dir) as writer:
            writer.add_image(self.tag, picture, epoch, dataformats="HWC")
