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
"""Train and evaluate methods on one data set, a JSON file for each run, and the table of all runs.

python benchmarks/compare.py run --dataset hippocampus --dataset_dir DIR --methods deeprs,unet --seeds 0,1 --jobs 2
python benchmarks/compare.py table --dataset hippocampus

A run that has its JSON file is skipped; one that was cut off is resumed. Delete the file to run it again.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fire
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.files import write_json  # noqa: E402

logger = logging.getLogger("compare")

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundle" / "configs"
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("monai", "torch", "numpy", "pytorch-ignite", "nibabel")


def _list(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else str(value).split(",")


def _configs(dataset: str, method: str, augmented: bool, extra: list[str]) -> list[Path]:
    """The config files of a run: what to compute, on which data, how to run it."""
    files = [CONFIGS / "train.yaml", CONFIGS / "data" / f"{dataset}.yaml"]
    if method != "deeprs":
        files.append(CONFIGS / "recipes" / f"{method}.yaml")
    if not augmented:
        files.append(CONFIGS / "run" / "no_augmentation.yaml")
    return files + [CONFIGS / "run" / f"{name}.yaml" for name in extra]


def _bundle(run_id: str, configs: list[Path], log: Path, **overrides: Any) -> float:
    """Run the bundle as a process on one thread, and return its seconds."""
    files = "[" + ",".join(f"'{path}'" for path in configs) + "]"
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", files]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    start = time.time()
    with open(log, "a") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code:
        raise RuntimeError(f"'{run_id}' ended with {code}; see {log}")
    return time.time() - start


def _one(
    dataset: str,
    dataset_dir: Path,
    method: str,
    augmented: bool,
    seed: int,
    extra: list[str],
    arguments: dict[str, Any],
) -> None:
    name = f"{method}_{'aug' if augmented else 'noaug'}_s{seed}"
    result, work = RESULTS / dataset / f"{name}.json", ROOT / "output" / "compare" / dataset / name
    if result.is_file():
        logger.info("%s is done", name)
        return
    work.mkdir(parents=True, exist_ok=True)
    configs = _configs(dataset, method, augmented, extra)
    common = {"dataset_dir": dataset_dir, "output_dir": work, "seed": seed, **arguments}
    pairs = dataset_dir / "test_pairs.json"
    record = {
        "method": method,
        "augmented": augmented,
        "seed": seed,
        "configs": [str(path.relative_to(CONFIGS)) for path in configs],
        "arguments": arguments,
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "versions": {package: version(package) for package in PACKAGES},
        "train_seconds": _bundle("training", configs, work / "log.txt", resume=True, **common),
    }
    with_pairs = {"test_pairs": pairs} if pairs.is_file() else {}
    evaluate = [*configs, CONFIGS / "evaluate.yaml"]
    record["evaluate_seconds"] = _bundle("evaluating", evaluate, work / "log.txt", **common, **with_pairs)
    record["metrics"] = json.loads((work / "metrics.json").read_text())
    record["metrics"].pop("config")  # paths of this machine
    write_json(result, record)
    logger.info("%s: %s", name, _figures(record))


def _figures(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a run that the table shows: Dice and folding in percent, distances in mm."""
    figures = {}
    for task, short in (("segmentation", "S"), ("registration", "R")):
        if task in record["metrics"]:
            metrics = record["metrics"][task]
            figures[f"{short}-Dice"] = 100 * metrics["dice"]["mean"]
            figures[f"{short}-HD95"] = metrics["hd95"]["mean"]
            if short == "R":
                figures["folding"] = metrics["folding_percent"]["mean"]
    return figures


def run(
    dataset: str,
    dataset_dir: str,
    methods: str = "deeprs,unet,voxelmorph",
    seeds: str = "0,1",
    augmentation: str = "off,on",
    extra: str = "bf16",
    jobs: int = 1,
    **arguments: Any,
) -> None:
    """Train and evaluate every combination that has no result yet.

    Args:
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.
        methods: files of ``configs/recipes``, or ``deeprs`` for ``train.yaml`` itself.
        seeds: of the training.
        augmentation: ``on``, ``off`` or both.
        extra: files of ``configs/run``.
        jobs: runs at a time, each on one thread.
        arguments: further entries of the config, such as ``--max_epochs 20``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    runs = [
        (method, augmented == "on", int(seed))
        for seed in _list(seeds)
        for augmented in _list(augmentation)
        for method in _list(methods)
    ]
    folder = Path(dataset_dir).resolve()
    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(_one, dataset, folder, *entry, _list(extra), arguments) for entry in runs]
    for entry in done:
        entry.result()  # raises what the run raised


def table(dataset: str) -> str:
    """The runs of a data set as a Markdown table: mean over seeds, and their range where there are several.

    Args:
        dataset: a folder of ``benchmarks/results``.
    """
    columns = ("S-Dice", "S-HD95", "R-Dice", "R-HD95", "folding")
    groups: dict[tuple, list[dict[str, float]]] = {}
    minutes: dict[tuple, list[float]] = {}
    for path in sorted((RESULTS / dataset).glob("*_s[0-9]*.json")):
        record = json.loads(path.read_text())
        key = (record["augmented"], record["method"])
        groups.setdefault(key, []).append(_figures(record))
        minutes.setdefault(key, []).append(record["train_seconds"] / 60)
    lines = [
        "| method | augmentation | S-Dice % | S-HD95 mm | R-Dice % | R-HD95 mm | folding % | runs | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (augmented, method), records in sorted(groups.items()):
        cells = [_cell([record[c] for record in records if c in record]) for c in columns]
        duration = f"{np.mean(minutes[augmented, method]):.0f}"
        lines.append(
            f"| {method} | {'on' if augmented else 'off'} | {' | '.join(cells)} | {len(records)} | {duration} |"
        )
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}..{max(values):.2f})"


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
