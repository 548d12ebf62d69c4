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
"""Everything that has to be measured on a GPU, in six minutes: `make bench-gpu`.

    PYTHONPATH=bundle python -m benchmarks.costs.gpu --out output/bench-gpu [--against FOLDER] [--steps tests,batch_1]

Each step is a process with a limit; one that fails or takes too long does not stop the others. Where git does not know
the commit to compare with, give its tree as a folder: `git archive 207dbef bundle | tar -x -C FOLDER`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import fire
import torch

from benchmarks import ROOT
from benchmarks.costs.builds import tree_of
from benchmarks.costs.speed import write_json

logger = logging.getLogger("gpu")

AGAINST = "207dbef"  # 0.9.0
SIZE = "128,128,96"
VARIANTS = "cuda_graphs=true;compile=true;compile=true,cuda_graphs=true"


def plan(
    out: Path, device: str = "cuda", size: str = SIZE, against: str | None = AGAINST, variants: str = VARIANTS
) -> dict[str, tuple[int, list[str]]]:
    """The steps by name: seconds that each may take, 360 together, and its command.

    Args:
        out: folder of what they write.
        device: "cuda", or "cpu" to try the steps themselves.
        size: voxels.
        against: the other build, a commit or a folder; None: without.
        variants: entries of the config that make training faster; those that this build has not are left out.
    """
    common = ["--device", device, "--size", size]
    faster = ["--methods", "deeprs", "--warm_up", "12", "--variants", variants]
    table = ["iteration", *common, "--amp", "true", "--methods", "deeprs,best,unet"]
    table += ["--against", against] if against else []
    tests = [str(file) for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text()]
    steps = {
        "tests": (40, ["pytest", "-q", "-m", "gpu", *tests]),
        "batch_1": (50, [*table, "--batch_size", "1"]),
        "batch_4": (60, [*table, "--batch_size", "4"]),
        "variants": (75, ["iteration", *common, "--amp", "true", *faster]),
        "equality": (55, ["equality", *common, "--variants", variants]),
        "accuracy": (80, ["accuracy", "--max_epochs", "3", "--variants", variants]),
    }
    return {name: (limit, _command(words, out / f"{name}.json")) for name, (limit, words) in steps.items()}


def _command(words: Sequence[str], output: Path) -> list[str]:
    if words[0] == "pytest":
        return [sys.executable, "-m", *words]
    return [sys.executable, "-m", f"benchmarks.costs.{words[0]}", *words[1:], "--output", str(output)]


def main(
    out: str | None = None,
    steps: str | Sequence[str] = "",
    against: str = AGAINST,
    variants: str = VARIANTS,
    device: str = "cuda",
    size: str | Sequence[int] = SIZE,
) -> None:
    """Run the steps, each into files of its name, with `log.txt` and `summary.json`.

    Args:
        out: the folder; None: that of the variable OUT, or output/bench-gpu.
        steps: names of those to run; all when empty.
        against, variants, device, size: as of :func:`plan`.

    Raises:
        ValueError: there is no such step.
        SystemExit: there is no CUDA device; or, with status 1, a step has failed.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "make bench-gpu measures on a CUDA device, and torch finds none here. Run it where there is one."
        )
    folder = Path(out or os.environ.get("OUT") or ROOT / "output" / "bench-gpu").resolve()
    as_text = size if isinstance(size, str) else ",".join(map(str, size))
    planned = plan(folder, device, as_text, None, variants)
    asked = steps.split(",") if isinstance(steps, str) else list(steps)
    chosen = [name for name in asked if name] or list(planned)
    if unknown := [name for name in chosen if name not in planned]:
        raise ValueError(f"--steps '{unknown[0]}': expected some of {', '.join(planned)}.")
    folder.mkdir(parents=True, exist_ok=True)
    summary = {}
    with ExitStack() as stack:
        try:
            planned = plan(folder, device, as_text, str(stack.enter_context(tree_of(str(against)))), variants)
        except ValueError as error:
            logger.error("Only this build is measured: %s", error)
        for name in chosen:
            summary[name] = run_step(name, *planned[name], folder / "log.txt")
            logger.info("%s: %s", name, summary[name])
            write_json(folder / "summary.json", summary)  # after each: the whole may be cut off
    if any(step["result"] != "done" for step in summary.values()):
        raise SystemExit(1)


def run_step(name: str, limit: int, command: Sequence[str], log: Path) -> Mapping[str, Any]:
    """Run a command, with what it says at the end of a file, and end it and its children after some seconds.

    Args:
        name: for the file.
        limit: seconds.
        command: words.
        log: the file.

    Returns:
        ``result``: ``done``, ``failed`` or ``too long``; ``seconds``; ``limit``.
    """
    begun = time.time()
    with log.open("a") as file:
        file.write(f"==== {name}: {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            result = "failed" if process.wait(timeout=limit) else "done"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            result = "too long"
    return {"result": result, "seconds": round(time.time() - begun, 1), "limit": limit}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fire.Fire(main)
