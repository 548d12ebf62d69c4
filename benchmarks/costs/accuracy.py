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
"""Whether settings that only make training faster end as well: a short training on phantoms, evaluated.

    python -m benchmarks.costs.accuracy --variants "cuda_graphs=true;compile=true"

The plain training runs with two seeds: what lies between them is the measure of what a variant may do.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fire

from benchmarks import ROOT
from benchmarks.costs.entries import lay_out, parse_variants
from benchmarks.costs.iteration import as_text
from benchmarks.costs.speed import write_json
from scripts.phantom.volumes import make_phantoms

logger = logging.getLogger("accuracy")

CONFIGS = ROOT / "bundle" / "configs"
OTHER_SEED = "seed=1"
FILES = ("train.yaml", "data/phantom.yaml", "run/bf16.yaml")


def main(
    variants: str = "cuda_graphs=true",
    jobs: int = 4,
    output: str = str(ROOT / "benchmarks" / "results" / "accuracy.json"),
    **entries: Any,
) -> None:
    """Train and evaluate plainly, with another seed, and as each variant.

    Args:
        variants: entries of the config, as of :func:`benchmarks.costs.iteration.main`.
        jobs: trainings at a time.
        output: the JSON file to write.
        entries: of the config, for all, such as ``--max_epochs 3``.

    Raises:
        SystemExit: with status 1 when one has failed; all others are in the file.
    """
    laid = lay_out(["deeprs"], parse_variants(f"{OTHER_SEED};{as_text(variants)}"), {"this": ROOT}, "phantom", entries)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_phantoms(folder / "data")
        able = {entry.variant or "plain": entry.entries for entry in laid if not entry.left_out}
        with ThreadPoolExecutor(jobs) as pool:
            started = {
                variant: pool.submit(train_and_evaluate, folder / "data", folder / str(number), chosen)
                for number, (variant, chosen) in enumerate(able.items())
            }
            failed = {variant: str(error) for variant, future in started.items() if (error := future.exception())}
            rows = {variant: future.result() for variant, future in started.items() if variant not in failed}
    for variant, row in rows.items():
        logger.info("%s: %s", variant, row)
    for variant, reason in failed.items():
        logger.error("%s: %s", variant, reason)
    write_json(Path(output), {"settings": entries, "rows": rows, "failed": failed})
    if failed:
        raise SystemExit(1)


def train_and_evaluate(dataset_dir: Path, output_dir: Path, entries: Mapping[str, Any]) -> dict[str, float]:
    """Train DeepRS on a data set, and evaluate it.

    Args:
        dataset_dir: with phantoms.
        output_dir: is made.
        entries: of the config.

    Returns:
        Mean Dice of the test cases and pairs, and the seconds of the training.

    Raises:
        RuntimeError: one of the two has failed.
    """
    folders = {"dataset_dir": dataset_dir, "output_dir": output_dir}
    begun = time.time()
    _bundle("training", FILES, {**entries, **folders})
    seconds = time.time() - begun
    _bundle("evaluating", (*FILES, "evaluate.yaml"), {**entries, **folders})
    metrics = json.loads((output_dir / "metrics.json").read_text())
    dice = {f"{task}_dice": metrics[task]["dice"]["mean"] for task in ("segmentation", "registration")}
    return {**dice, "train_seconds": round(seconds, 1)}


def _bundle(run_id: str, files: tuple[str, ...], entries: Mapping[str, Any]) -> None:
    configs = "[" + ",".join(f"'{CONFIGS / file}'" for file in files) + "]"
    options = [word for key, value in entries.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", configs, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"'{run_id}' ended with {done.returncode}:\n" + "\n".join(done.stderr.splitlines()[-8:]))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    fire.Fire(main)
