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
"""The CPU time of `deeprs evaluate` with the shipped weights, by this build and another, one after the other.

    python -m benchmarks.costs.evaluating --dataset_dir DIR [--against 207dbef]

Into benchmarks/results/evaluating.json. Both are processes on one thread; user and system time count.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import fire

from benchmarks import ROOT
from benchmarks.costs.builds import commit_of, tree_of
from benchmarks.costs.speed import RESULTS, write_json

logger = logging.getLogger("evaluating")


def measure(tree: Path, dataset_dir: Path) -> dict[str, float]:
    """CPU seconds of evaluating by the build in a folder, and the mean Dice of both tasks.

    Args:
        tree: with `bundle` and `deeprs`.
        dataset_dir: the hippocampus, with its `test_pairs.json`.

    Raises:
        RuntimeError: evaluating fails; with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "deeprs", "evaluate", str(dataset_dir), "--output_dir", folder]
        command += ["--test_pairs", str(dataset_dir / "test_pairs.json")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{tree}: evaluating ended with {done.returncode}: {done.stderr[-2000:]}")
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
    seconds = sum(getattr(after, part) - getattr(before, part) for part in ("ru_utime", "ru_stime"))
    dice = {f"{task}_dice": metrics[task]["dice"]["mean"] for task in ("segmentation", "registration")}
    return {"cpu_s": round(seconds, 1), **dice}


def main(dataset_dir: str, against: str | None = None, output: str = str(RESULTS / "evaluating.json")) -> None:
    """Measure, and write the figures as JSON.

    Args:
        dataset_dir: the hippocampus, with its `test_pairs.json`.
        against: the other build, a commit or a folder.
        output: the JSON file to write.
    """
    folder = Path(dataset_dir).resolve()
    found = {}
    if against is not None:
        with tree_of(str(against)) as tree:
            found["against"] = {"commit": commit_of(tree), **measure(tree, folder)}
    found["this"] = {"commit": commit_of(ROOT), **measure(ROOT, folder)}
    if against is not None:
        found["ratio"] = round(found["this"]["cpu_s"] / found["against"]["cpu_s"], 3)
    logger.info("%s", json.dumps(found, indent=2))
    write_json(Path(output), {"date": datetime.now(UTC).isoformat(timespec="seconds"), **found})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fire.Fire(main)
