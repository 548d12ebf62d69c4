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
"""What training costs on this machine: each kind of pair is trained on twice, in a process of its own, and measured.

A process of its own shows its own peak of memory, and leaves none behind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .budget import Cost

__all__ = ["machine_memory", "measure", "peak_memory"]

#: the bundle goes first, so that no other package called `scripts` is taken for its own
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from scripts.planning.measure import main; main(*sys.argv[2:])"
CONTEXT = 2**29  # bytes that CUDA itself takes of a card
DRAWN = 64  # pairs whose kinds tell how often each comes
FEW = 2  # cases of each list that are read for it


def measure(config: Mapping[str, Any], labels: Mapping[int, str], lists: Mapping[str, Sequence[Mapping]]) -> Cost:
    """Train a little with a config.

    Args:
        config: a merged one, with the settings to be measured.
        labels: ids -> names of the structures.
        lists: ``labeled`` and ``unlabeled`` cases, of which ``FEW`` are read.

    Returns:
        What an iteration costs: each kind of pair counts as often as the sampler draws it, with all its terms live.

    Raises:
        ValueError: the training failed; says how.
    """
    few = {name: list(lists[name][:FEW]) for name in ("labeled", "unlabeled")}
    with tempfile.TemporaryDirectory(prefix="deeprs_plan_") as folder:
        place = Path(folder)
        datalist = {"labels": {str(number): name for number, name in labels.items()}, **few}
        (place / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")
        entries = {"datalist": f"{place}/datalist.json", "labels": None, "output_dir": folder, "resume": False}
        entries |= {"num_labeled": None, "num_unlabeled": None, "fold": 0, "image_name": None, "label_name": None}
        entries |= {"max_epochs": 2, "iterations_per_epoch": DRAWN, "total_iterations": 1}
        (place / "config.json").write_text(json.dumps({**config, **entries}, default=str), encoding="utf-8")
        command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2]), folder, str(time.time())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = place / "cost.json"
        if done.returncode or not answer.is_file():
            said = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it was killed"]
            memory = " It was killed, as for lack of memory." if done.returncode < 0 else ""
            raise ValueError(f"two iterations could not be measured.{memory}\n  {said[-1][:300]}")
        return Cost(**json.loads(answer.read_text(encoding="utf-8")))


def peak_memory() -> int:
    """Bytes of this process at its peak.

    Linux counts those of the parent in ``ru_maxrss``, from before the program was put in its place; not in ``VmHWM``.
    """
    with suppress(OSError, AttributeError):
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine_memory(device: Any) -> float:
    """Bytes of a card; else of the machine, or what its container may have of it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=8 * 2**30)


def _one_of_each_kind(sampler: Any, labeled: int) -> tuple[list[list[list[int]]], list[float]]:
    """A batch of each kind of pair that a sampler draws, and how often it draws that."""
    kinds = {}
    counts: Counter[tuple[bool, ...]] = Counter()
    for batch in sampler:
        kind = tuple(index < labeled for index in batch[0][:2])
        kinds.setdefault(kind, [list(pair) for pair in batch])
        counts[kind] += 1
    return list(kinds.values()), [counts[kind] / counts.total() for kind in kinds]


def _train(config: dict[str, Any], began: float) -> Cost:
    import torch
    from ignite.engine import Events
    from monai.bundle import ConfigParser
    from monai.utils import set_determinism

    set_determinism(seed=0)
    parser = ConfigParser(config)
    dataset = parser.get_parsed_content("train::dataset")
    batches, shares = _one_of_each_kind(parser.get_parsed_content("train::sampler"), len(dataset.labeled_indices))
    parser = ConfigParser(config)
    parser["train::handlers"] = []
    parser["train::dataloader::batch_sampler"] = batches
    trainer = parser.get_parsed_content("train::trainer")
    on_gpu = torch.device(parser.get_parsed_content("device")).type == "cuda"
    stamps: list[float] = []

    def stamp() -> None:
        if on_gpu:
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())

    trainer.add_event_handler(Events.STARTED | Events.ITERATION_COMPLETED, stamp)
    base, start = peak_memory(), time.time() - began
    trainer.run()
    seconds = [after - before for before, after in zip(stamps[:-1], stamps[1:], strict=True)][len(batches) :]
    each = sum(share * taken for share, taken in zip(shares, seconds, strict=True))
    if on_gpu:
        return Cost(each, torch.cuda.max_memory_reserved() + CONTEXT, CONTEXT, start)
    return Cost(each, peak_memory(), base, start)


def main(folder: str, began: str) -> None:
    """Read ``config.json`` of a folder, and write ``cost.json`` into it."""
    place = Path(folder)
    cost = _train(json.loads((place / "config.json").read_text(encoding="utf-8")), float(began))
    (place / "cost.json").write_text(json.dumps(vars(cost)), encoding="utf-8")
