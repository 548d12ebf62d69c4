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
"""The child process of a measurement: one alternative of one build, whose iterations run when they are asked for.

    python -m benchmarks.costs.turns '{"bundle": ..., "method": ...}'

Reads a request as a line of JSON, ``{"iterations": 1, "meter": "time"}``, and answers with a line. The iterations of a
training run inside of its trainer, whose loader is :class:`Turns`: what is measured is all that an iteration takes
there, whatever the engine of that commit does. Ends when its input does.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import torch


class Turns:
    """A loader that hands out a batch for each iteration asked for, and measures until it is asked for the next.

    Args:
        batches: without end.
        requests: lines of JSON: ``iterations``; ``meter``: ``time``, ``counts`` or ``launches``; ``losses``: whether to
            tell them.
        reply: takes the answer to each.
        meters: make what is entered for an iteration and then has ``results()``, by their names but ``time``.
        losses: gives those of the last iteration.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        batches: Iterator[Mapping[str, Any]],
        requests: Iterable[str],
        reply: Callable[[dict], None],
        meters: Mapping[str, Callable[[], Any]],
        losses: Callable[[], Mapping[str, torch.Tensor]],
        device: str,
    ) -> None:
        self.batches, self.requests, self.reply = batches, requests, reply
        self.meters, self.losses, self.device = meters, losses, device

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for line in self.requests:
            request = json.loads(line)
            answer: dict[str, Any] = {"iterations": [], "losses": []}
            if self.device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            for _ in range(request["iterations"]):
                begun = time.perf_counter()
                batch = next(self.batches)
                waited = time.perf_counter() - begun
                meter = self.meters.get(request.get("meter", "time"), nullcontext)()
                clock = Clock(self.device)
                with meter:
                    yield batch
                    row = {**clock.stop(), "data_wait_ms": 1e3 * waited}
                answer["iterations"].append(row if isinstance(meter, nullcontext) else meter.results())
                if request.get("losses"):
                    answer["losses"].append({name: float(value) for name, value in self.losses().items()})
            self.reply({**answer, **memory(self.device)})


class Clock:
    """Runs from when it is made: ``wall_ms``, ``cpu_ms`` of all threads, on CUDA ``device_ms`` between two events."""

    def __init__(self, device: str) -> None:
        self.cuda = device != "cpu"
        if self.cuda:
            torch.cuda.synchronize()
            self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self.events[0].record()
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """Wait for the device, and read."""
        if self.cuda:
            self.events[1].record()
            torch.cuda.synchronize()
        read = {"wall_ms": 1e3 * (time.perf_counter() - self.wall), "cpu_ms": 1e3 * (time.process_time() - self.cpu)}
        return read | ({"device_ms": self.events[0].elapsed_time(self.events[1])} if self.cuda else {})


def memory(device: str) -> dict[str, float]:
    """The most memory in MiB: of the process, ever, and of tensors on a CUDA device, since it was last reset."""
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    device_peak = {} if device == "cpu" else {"peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20}
    return {"process_peak_mib": process, **device_peak}


def batches_of(pairs: list[Mapping[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Batches of pairs in memory, one after the other, without end."""
    turn = itertools.cycle(pairs)
    while True:
        chosen = [next(turn) for _ in range(batch_size)]
        yield {key: torch.stack([pair[key] for pair in chosen]) for key in chosen[0]}


def main(setup: Mapping[str, Any], requests: Iterable[str], reply: Callable[[dict], None]) -> None:
    """Make the alternative, say that it is ``ready``, and answer.

    Args:
        setup: ``bundle``, the folder of the build; ``method``, ``dataset``, ``entries``, ``device``; ``data``, a file
            of pairs and classes, or ``folder``, a data set for the config's own loader; ``peaks``: whether to measure
            the machine first.
        requests, reply: as of :class:`Turns`.
    """
    sys.path.insert(0, setup["bundle"])  # before anything of `scripts` is imported: it is that of the build
    from benchmarks.costs import alternatives, counting

    device, data = setup["device"], torch.load(setup["data"]) if setup.get("data") else None
    configs = f"{setup['bundle']}/configs"
    parser = alternatives.parse(configs, setup["method"], setup.get("dataset"), setup["entries"])
    alternatives.prepare(parser, device, data and data["num_classes"], setup.get("folder"))
    alternative = alternatives.make(setup["method"], parser)
    if data is None:
        batches = itertools.chain.from_iterable(itertools.repeat(parser.get_parsed_content("train::dataloader")))
    else:
        on_device = setup["method"].startswith("pair")
        pairs = [{key: v.to(device) if on_device else v for key, v in pair.items()} for pair in data["pairs"]]
        batches = batches_of(pairs, parser.get_parsed_content("batch_size"))
    meters = {"counts": lambda: counting.Counts(alternative.optimizers), "launches": counting.Launches}
    peaks = {"peaks": counting.peaks(device)} if setup.get("peaks") else {}
    reply(
        {"ready": True, "scripts": str(Path(alternatives.Refinement.__init__.__code__.co_filename).parents[1]), **peaks}
    )
    alternative.run(Turns(batches, requests, reply, meters, alternative.losses, device))


def _answers() -> TextIO:
    """Standard output, for answers alone: what others print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    out = _answers()
    main(json.loads(sys.argv[1]), sys.stdin, lambda answer: print(json.dumps(answer), file=out, flush=True))
