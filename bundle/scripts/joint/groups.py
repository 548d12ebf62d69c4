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
"""What one group of updates computes: the quantities that its live terms read, their losses, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .exchange import keeping
from .state import PairState
from .updates import Term, Update


class Group(NamedTuple):
    """A group of the schedule in one iteration.

    Args:
        index: its place in the schedule.
        live: update -> term -> :class:`Term`, those that this pair and iteration have.
        taught: names of the networks that its updates move.
        next_taught: the same of the next group.
    """

    index: int
    live: Mapping[str, Mapping[str, Term]]
    taught: frozenset[str]
    next_taught: frozenset[str] = frozenset()


class Outcome(NamedTuple):
    """What a group has computed.

    Args:
        losses: ``update/term`` -> raw value.
        total: sum of the weighted losses.
        quantities: those that other groups or handlers may take, with their graph.
        output: what the engine puts out.
    """

    losses: dict[str, Tensor]
    total: Tensor
    quantities: dict[str, Tensor]
    output: dict[str, Tensor]


class GroupRunner:
    """Computes groups, one call after the other.

    Args:
        networks, updates, state, output: as of :class:`scripts.joint.trainer.JointTrainer`.
        carry: names of the quantities that are carried over.
        amp_dtype: type of the networks under autocast, or None.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module],
        updates: Mapping[str, Update],
        state: Callable[..., PairState],
        output: Mapping[str, str],
        carry: Collection[str] = (),
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.networks, self.updates, self.make_state = networks, updates, state
        self.output, self.amp_dtype = output, amp_dtype
        self.kind = state.func if isinstance(state, partial) else state
        self.keeping = frozenset() if carry else keeping(self.kind)  # beside what is carried nothing is shared
        self.offered = {*getattr(self.kind, "shared", ()), *carry, "ddf"}

    def state_of(self, group: Group, batch: Mapping[str, Any], given: Mapping[str, Tensor]) -> PairState:
        """The quantities of a pair, for the terms of a group."""
        return self.make_state(
            batch,
            self.networks,
            learning=group.taught | (self.keeping & group.next_taught),
            wanted={q for terms in group.live.values() for term in terms.values() for q in term.quantities},
            carried=given,
            amp_dtype=self.amp_dtype,
        )

    def __call__(
        self, group: Group, batch: Mapping[str, Any], given: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]
    ) -> Outcome:
        """Compute a group, and leave the gradients of its live updates in their parameters.

        Args:
            group: of this iteration.
            batch: as of :class:`PairState`.
            given: quantities that are there already.
            weights: ``update/term`` -> weight in force.

        Raises:
            ValueError: a live update would learn nothing.
        """
        state = self.state_of(group, batch, given)
        losses, sums = {}, {}
        for name, terms in group.live.items():
            sums[name] = torch.zeros((), device=batch["fixed_image"].device)
            for key, term in terms.items():
                value = term.loss(*state.compared(term.quantities))
                losses[f"{name}/{key}"] = value.detach()
                sums[name] = sums[name] + weights[f"{name}/{key}"] * value
        for i, (name, loss) in enumerate(sums.items()):
            self._teach(self.updates[name], name, loss, retain_graph=i + 1 < len(sums))
        quantities = {q: value for q in self.offered if (value := state.computed(q)) is not None}
        shown = {key: q for key, q in self.output.items() if state.computed(q) is not None}
        output = zip(shown, (v.detach() for v in state.compared(list(shown.values()))), strict=True)
        total = sum((loss.detach() for loss in sums.values()), torch.zeros((), device=batch["fixed_image"].device))
        return Outcome(losses, total, quantities, dict(output))

    @staticmethod
    def _teach(update: Update, name: str, loss: Tensor, retain_graph: bool) -> None:
        if loss.requires_grad:
            # terms of one group share graphs, which must live until the last of them has been walked
            loss.backward(inputs=update.parameters, retain_graph=retain_graph)
        if all(parameter.grad is None for parameter in update.parameters):
            raise ValueError(
                f"updates::{name}: no term depends on the parameters of its network. Its terms read "
                f"{sorted({q for term in update.terms.values() for q in term.quantities})}; "
                "is one of them in `carry`?"
            )


def weights_of(group: Group, iteration: int) -> dict[str, float]:
    """``update/term`` -> the weight in force at an iteration, counted from 1."""
    return {
        f"{name}/{key}": term.weight_at(iteration) for name, terms in group.live.items() for key, term in terms.items()
    }


def live_terms(names: Sequence[str], updates: Mapping[str, Update], batch: Mapping[str, Any], iteration: int) -> dict:
    """update -> term -> :class:`Term`, of updates by name; an update without a live term sits out."""
    live = {
        name: {key: term for key, term in updates[name].terms.items() if term.is_live(batch, iteration)}
        for name in names
    }
    return {name: terms for name, terms in live.items() if terms}
