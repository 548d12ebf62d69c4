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
"""Terms of a loss, and updates: whose parameters move, by which optimiser, taught by which terms."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..files import processes

logger = logging.getLogger(__name__)


class Term:
    """One term of a loss: ``weight * loss(*quantities)``.

    Args:
        loss: maps the quantities, in this order, to a scalar.
        quantities: names of what it reads, from the state (see :class:`scripts.joint.state.PairState`).
        weight: the lambda of the paper.
        requires: entries a pair must have for the term to be live, such as ``moving_label``; other pairs skip it.
        start: iterations before the term is live at all; it costs nothing until then.
        ramp: iterations over which the weight then grows linearly from 0 to its value.
    """

    def __init__(
        self,
        loss: Callable[..., torch.Tensor],
        quantities: Sequence[str],
        weight: float = 1.0,
        requires: Sequence[str] = (),
        start: int = 0,
        ramp: int = 0,
    ) -> None:
        self.loss, self.quantities, self.weight = loss, tuple(quantities), weight
        self.requires, self.start, self.ramp = tuple(requires), start, ramp

    def weight_at(self, iteration: int) -> float:
        """The weight in force at an iteration, counted from 1."""
        since = iteration - self.start
        if since <= 0:
            return 0.0
        return self.weight * min(1.0, since / self.ramp) if self.ramp else self.weight

    def is_live(self, batch: Mapping[str, Any], iteration: int) -> bool:
        """Whether this pair has what the term requires, and the term has started."""
        return iteration > self.start and all(name in batch for name in self.requires)


class Update:
    """Whose parameters move, with which optimiser, taught by which terms.

    Args:
        network: the network that is taught.
        optimizer: over the parameters of that network, or over those of them that are to move.
        terms: name -> :class:`Term`.
        scheduler: learning-rate schedule, advanced once per iteration, however often the schedule of updates names this
            one and whether or not the pair taught it; none in the paper.
        clip_norm: largest Euclidean norm of the gradient; none in the paper.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        terms: Mapping[str, Term],
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.network, self.optimizer, self.terms = network, optimizer, dict(terms)
        self.scheduler, self.clip_norm = scheduler, clip_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]

    def step(self, taught: bool = True) -> None:
        """Average the gradients over processes where there are several, clip them, and move the parameters.

        Args:
            taught: whether this process had a live term. Nothing moves when none had; where another one had, this one
                takes part with a gradient of zero, since all processes must make the same exchanges.
        """
        if processes.average_gradients(self.parameters, taught):
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
            self.optimizer.step()

    def advance(self) -> None:
        """Move the learning-rate schedule on by one iteration."""
        if self.scheduler is not None:
            with warnings.catch_warnings():  # when the very first pair teaches nothing, the schedule goes first
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: the optimiser and the schedule; the network is saved by its own name."""
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scheduler": scheduler}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; a learning rate that has been changed since is kept as it is now."""
        configured = [_first_rate(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        saved = [_first_rate(group) for group in self.optimizer.param_groups]
        if configured != saved:
            self._set_rates(configured, saved)

    def _set_rates(self, configured: Sequence[float], saved: Sequence[float]) -> None:
        """Go on at the point of the schedule where it was, as if the rate had always been the configured one."""
        logger.warning("the learning rate was changed: it began with %s, and now with %s", saved, configured)
        for group, now, then in zip(self.optimizer.param_groups, configured, saved, strict=True):
            group["lr"] = now * (group["lr"] / then if then else 1.0)
            if "initial_lr" in group:
                group["initial_lr"] = now
        if self.scheduler is not None:
            self.scheduler.base_lrs = list(configured)


def _first_rate(group: Mapping[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))  # a schedule writes down what it began with
