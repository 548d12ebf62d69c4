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
"""The launches of a group of updates, recorded once and sent again as one: CUDA graphs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fields.warping import grids_read
from .groups import Group, GroupRunner, Outcome

logger = logging.getLogger(__name__)

#: times that a group is computed as usual, before it is recorded: what is set up at first use must not be part of it
BEFORE = 3


class CudaGraph:
    """What a function launches on a GPU. Recording does not run it.

    Args:
        compute: reads and writes the same tensors at each call, and never waits for the device.
    """

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = compute()

    def replay(self) -> None:
        """Run it again; ``result`` then holds what came out."""
        self.graph.replay()


class CapturedRunner:
    """Runs groups as :class:`GroupRunner` does, by CUDA graphs: one for each group, set of live terms, and shapes.

    Where recording fails, it says so once, and goes on as usual. What is drawn on the CPU (``PairState.drawn``) and the
    weights of the terms are inputs of a graph; what is drawn on the device is drawn anew at each replay.

    Args:
        runner: computes a group.
        record: makes what ``replay`` runs again, of a function.

    Raises:
        ValueError: the state does not say what it draws.
    """

    def __init__(self, runner: GroupRunner, record: Callable[[Callable], Any] = CudaGraph) -> None:
        self.drawn = getattr(runner.kind, "drawn", None)
        if self.drawn is None:
            raise ValueError(
                f"cuda_graphs: {runner.kind.__name__} decides on the CPU what it computes, which no graph can hold. "
                "Leave `--cuda_graphs` out."
            )
        self.runner, self.record = runner, record
        self.seen: Counter[_Key] = Counter()
        self.recorded: dict[_Key, _Recorded] = {}
        self.has_failed = False

    def __call__(
        self, group: Group, batch: Mapping[str, Any], given: Mapping[str, Tensor], weights: Mapping[str, float]
    ) -> Outcome:
        """As :meth:`GroupRunner.__call__`; quantities of the outcome, but for the field, hold until the next call."""
        group = group._replace(next_taught=frozenset())  # a graph of autograd does not outlive a recording
        given = {**given, **self._draw(group, batch, given)}
        if not self.has_failed and group.live:
            tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
            key = _Key(group.index, _shapes(tensors), tuple(sorted(weights)), _shapes(given))
            self.seen[key] += 1
            if self.seen[key] > BEFORE:
                return self._replayed(key, group, tensors, given, weights, batch)
        return self.runner(group, batch, given, weights)

    def _draw(self, group: Group, batch: Mapping[str, Any], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        state = self.runner.state_of(group, batch, given)
        return {name: getattr(state, name) for name in self.drawn if name in state.wanted and name not in given}

    def _replayed(
        self, key: _Key, group: Group, tensors: dict, given: dict, weights: Mapping, batch: Mapping
    ) -> Outcome:
        if key not in self.recorded:
            for other in list(self.recorded):  # terms of such pairs only start, and a graph has memory of its own
                if other[:2] == key[:2] and other.terms != key.terms:
                    del self.recorded[other]
            try:
                self.recorded[key] = _Recorded(self.runner, self.record, group, tensors, given, weights)
            except RuntimeError as error:
                logger.warning("cuda_graphs: recording failed, and training goes on without: %s", error)
                self.has_failed = True
                self.recorded.clear()  # and the memory of all graphs with them
                for name in group.live:
                    self.runner.updates[name].optimizer.zero_grad(set_to_none=True)
                return self.runner(group, batch, given, weights)
        return self.recorded[key].run(tensors, given, weights)


class _Key(NamedTuple):
    group: int
    batch: tuple
    terms: tuple[str, ...]
    given: tuple


def _shapes(tensors: Mapping[str, Tensor]) -> tuple:
    return tuple(sorted((name, value.shape, value.dtype) for name, value in tensors.items()))


class _Recorded:
    def __init__(
        self, runner: GroupRunner, record: Callable, group: Group, tensors: Mapping, given: Mapping, weights: Mapping
    ) -> None:
        self.batch, self.given = ({name: value.clone() for name, value in part.items()} for part in (tensors, given))
        device = self.batch["fixed_image"].device
        self.weights = {name: torch.tensor(float(value), device=device) for name, value in weights.items()}
        parameters = [parameter for name in group.live for parameter in runner.updates[name].parameters]

        def compute() -> tuple[Outcome, list[Tensor | None]]:
            for parameter in parameters:
                parameter.grad = None
            with grids_read() as self.grids:  # it reads their memory again, whether or not they are still kept by then
                outcome = runner(group, self.batch, self.given, self.weights)
            detached = {name: value.detach() for name, value in outcome.quantities.items()}
            return outcome._replace(quantities=detached), [parameter.grad for parameter in parameters]

        self.parameters, self.recording = parameters, record(compute)

    def run(self, tensors: Mapping[str, Tensor], given: Mapping[str, Tensor], weights: Mapping[str, float]) -> Outcome:
        for mine, new in ((self.batch, tensors), (self.given, given)):
            for name, value in new.items():
                mine[name].copy_(value)
        for name, value in weights.items():
            self.weights[name].fill_(value)
        self.recording.replay()
        outcome, grads = self.recording.result
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        # the next replay writes where these are, which handlers and metrics may keep
        losses, output = (
            {name: value.clone() for name, value in part.items()} for part in (outcome.losses, outcome.output)
        )
        quantities = {name: value.clone() if name == "ddf" else value for name, value in outcome.quantities.items()}
        return Outcome(losses, outcome.total.clone(), quantities, output)
