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
"""What `--refine N` gives and costs on the test pairs, with the trained runs of compare.py: a row for each N and run.

python -m benchmarks.studies.refinement run --dataset hippocampus --dataset_dir DIR --methods best --max_epochs 40
python -m benchmarks.studies.refinement table --dataset hippocampus

A row that is in `benchmarks/results/<dataset>/refinement.csv` is not measured again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import fire
import numpy as np
from matplotlib.figure import Figure

from benchmarks.runs.compare import evaluate
from benchmarks.runs.plans import Plan, is_on, listed, numbers
from benchmarks.runs.records import RESULTS, provenance, read_rows, write_rows

FIGURES = {
    "dice": 100,
    "folding_percent": 1,
    "sdlogj": 1,
    "seconds": 1,
}  # of metrics.json, and what shows them in percent
COLUMNS = ["run", "method", "seed", "steps", *FIGURES, "pairs", "commit"]


def run(
    dataset: str,
    dataset_dir: str,
    methods: str = "best",
    seeds: str = "0,1",
    steps: str = "0,20,100",
    augmentation: str = "on",
    extra: str = "bf16",
    **arguments: Any,
) -> None:
    """Evaluate the registration of trained runs after steps of optimisation on the field of each pair.

    Args:
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.
        methods: as in compare.py.
        seeds: of the trainings.
        steps: numbers of steps.
        augmentation: ``on`` or ``off``, of the trainings.
        extra: files of ``configs/run``.
        arguments: the further entries of the config that the trainings had.

    Raises:
        FileNotFoundError: compare.py has not trained such a run here.
    """
    common = {"extra": tuple(listed(extra)) if extra else (), "arguments": tuple(sorted(arguments.items()))}
    for method in listed(methods):
        for seed in numbers(seeds, "seeds"):
            plan = Plan(dataset, method, is_on(augmentation), 4, seed, **common)
            if not (plan.work / "model_registration.pt").is_file():
                raise FileNotFoundError(f"no weights in {plan.work}: compare.py run makes them.")
            for count in numbers(steps, "steps"):
                _measure(plan, Path(dataset_dir).resolve(), count)


def table(dataset: str) -> str:
    """The rows of a data set as Markdown, seeds averaged."""
    groups = defaultdict(list)
    for row in read_rows(_path(dataset)):
        groups[row["method"], int(row["steps"])].append([float(row[name]) for name in FIGURES])
    lines = [
        "| method | steps | R-Dice, % (range over seeds) | folding, % | SD log J | seconds a pair |",
        "|---|---|---|---|---|---|",
    ]
    for (method, steps), rows in sorted(groups.items()):
        dice, folding, sdlogj, seconds = np.mean(rows, axis=0)
        low, high = (bound([row[0] for row in rows]) for bound in (min, max))
        cells = [
            method,
            steps,
            f"{dice:.2f} ({low:.2f}..{high:.2f})",
            f"{folding:.4f}",
            f"{sdlogj:.2f}",
            f"{seconds:.1f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def figure(dataset: str) -> Figure | None:
    """Dice against seconds a pair, a line for each run; None without rows."""
    runs = defaultdict(list)
    for row in read_rows(_path(dataset)):
        runs[row["method"], row["seed"]].append((int(row["steps"]), float(row["seconds"]), float(row["dice"])))
    if not runs:
        return None
    drawn = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = drawn.subplots()
    for (method, seed), points in sorted(runs.items()):
        steps, seconds, dice = zip(*sorted(points), strict=True)
        axes.plot(seconds, dice, marker="o", label=f"{method}, seed {seed}")
        for place in zip(steps, seconds, dice, strict=True):
            axes.annotate(f"{place[0]} steps", place[1:], textcoords="offset points", xytext=(6, -12), fontsize=8)
    axes.margins(0.12)
    axes.set_xlabel("seconds a pair, on a CPU")
    axes.set_ylabel("R-Dice, %")
    axes.set_title(f"What refinement is worth, {dataset}")
    axes.legend()
    axes.grid(alpha=0.3)
    return drawn


def _measure(plan: Plan, dataset_dir: Path, steps: int) -> None:
    path = _path(plan.dataset)
    if any(row["run"] == plan.name and int(row["steps"]) == steps for row in read_rows(path)):
        return
    folder = plan.work / f"refined_{steps}"
    folder.mkdir(exist_ok=True)
    # S stays among the networks, as R may look through its eyes; only the pairs are scored
    evaluate(plan, dataset_dir, output_dir=folder, ckpt_dir=plan.work, refine=steps, tasks="['registration']")
    metrics = json.loads((folder / "metrics.json").read_text())["registration"]
    row = {"run": plan.name, "method": plan.method, "seed": plan.seed, "steps": steps, "pairs": metrics["n"]}
    row |= {name: round(scale * metrics[name]["mean"], 4) for name, scale in FIGURES.items()}
    write_rows(
        path, COLUMNS, [*read_rows(path), row | {"commit": provenance()["commit"]}]
    )  # read anew: others may have written


def _path(dataset: str) -> Path:
    return RESULTS / dataset / "refinement.csv"


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
