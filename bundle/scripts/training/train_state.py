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

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from ..data.cases import Cases, refuse_other_cases
from ..files import processes
from ..joint.updates import Update
from ..networks.weights import FILES, read_saved, save_atomically
from .save_weights import check_finite

logger = logging.getLogger(__name__)


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
            engine.add_event_handler(Events.COMPLETED, lambda: logger.info("written to %s", self.path.parent.resolve()))

    def _start(self, engine: Engine) -> None:
        check_resuming(self.path, self.resume, engine.state.max_epochs)
        if not self.path.is_file():
            if self.resume:
                logger.info("nothing to resume in '%s': training starts from the beginning", self.path)
                self._remove_weights()
            return
        self._go_on(engine, read_saved(self.path))

    def _remove_weights(self) -> None:
        """What an earlier training left would soon lie beside a `model.yaml` that is not its own."""
        for path in (self.path.parent / name for name in FILES.values()):
            if processes.rank() == 0 and path.is_file():
                path.unlink()
                logger.info("removed '%s', of an earlier training", path)

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
        if state["epoch"] >= engine.state.max_epochs:
            logger.info("all %d epochs are done: to train longer, raise `max_epochs`", state["epoch"])

    def _save(self, engine: Engine) -> None:
        check_finite(self.networks, engine)
        state = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "updates": {name: update.state_dict() for name, update in self.updates.items()},
            "best": engine.state.best,
            "random": _random_state(),
        } | ({} if self.cases is None else {"cases": self.cases.names()})
        save_atomically(state, self.path)


def check_resuming(path: str | Path, resume: bool, max_epochs: int | None) -> None:
    """Refuse a training into the folder of another one, and one that is to end before it goes on.

    Args:
        path: ``train_state.pt`` of the folder, which need not be there.
        resume: whether to go on from it.
        max_epochs: epochs to train.

    Raises:
        FileExistsError: the folder holds a training, or weights, that would be replaced.
        ValueError: what is to be resumed has had more epochs.
    """
    path = Path(path)
    if not resume and path.is_file():
        raise FileExistsError(
            f"'{path}' is there: this folder holds a training already. Add `--resume true` to go on with it, "
            "or choose another `--output_dir`."
        )
    if not resume and (weights := [name for name in FILES.values() if (path.parent / name).is_file()]):
        raise FileExistsError(
            f"'{path.parent}' holds weights ({', '.join(weights)}) that this training would replace. "
            "Choose another `--output_dir`, or add `--resume true` if they may go."
        )
    if path.is_file() and max_epochs is not None and max_epochs < (epoch := int(read_saved(path, mmap=True)["epoch"])):
        raise ValueError(
            f"max_epochs: expected at least {epoch}, which the training in '{path.parent}' has had, found "
            f"{max_epochs}. It counts the epochs from the beginning."
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
