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
"""Train and evaluate methods on one data set, a JSON file for each run; the table and the figures of all runs.

python -m benchmarks.runs.compare run --dataset hippocampus --dataset_dir DIR --methods deeprs,unet --seeds 0,1 --jobs 2
python -m benchmarks.runs.compare table --dataset hippocampus
python -m benchmarks.runs.compare figures --dataset hippocampus

A run that has its JSON file is skipped; one that was cut off is resumed; one that fails is reported, does not stop the
others, and makes the command end with status 1. Delete the file to run it again.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser

from benchmarks.runs.plans import CONFIGS, SWITCH, Plan, is_on, listed, numbers
from benchmarks.runs.plots import draw_figures
from benchmarks.runs.records import LABELS, RESULTS, dice_of_run, provenance, read_records, run_all, write_record
from benchmarks.runs.tables import REFERENCE, figures_of, grouped, markdown, structure_table
from scripts.files.writing import write_json

logger = logging.getLogger("compare")

#: what a record with ``--vote`` has behind the name of its method
VOTED = "voted"

# two runs at a time may have their first run in common
_locks: dict[Path, threading.Lock] = defaultdict(threading.Lock)


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


def _refuse_wrong_augmentation(plan: Plan) -> None:
    """A run without random augmentation must not count as one with it, nor the other way round."""
    augmented = ConfigParser.load_config_files(map(str, plan.configs)).get("augmentation") is not None
    if augmented != plan.augmented:
        raise ValueError(
            f"{plan.name}: {', '.join(plan.settings['configs'])} train {'with' if augmented else 'without'} random "
            "augmentation. For `--augmentation on` of data without one add `--extra bf16,light_augmentation`; for "
            "`--augmentation off` leave that out."
        )


def _refuse_other_settings(path: Path, plan: Plan) -> None:
    """A file of another run under the same name must be neither taken for this one nor gone on with."""
    found = {"num_labeled": LABELS, **json.loads(path.read_text())}
    differing = {key: found.get(key) for key, value in plan.settings.items() if found.get(key) != value}
    if differing:
        wanted = {key: plan.settings[key] for key in differing}
        raise ValueError(
            f"{path} is of a run with {differing}, not {wanted}: ask for that, or move it and {plan.work} away."
        )


def _overrides(plan: Plan, dataset_dir: Path) -> dict[str, Any]:
    common = {"dataset_dir": dataset_dir, "output_dir": plan.work, "seed": plan.seed, "num_labeled": plan.num_labeled}
    pretrained = {} if plan.first_run is None else {"pretrained": plan.first_run.work}
    return {**common, **pretrained, **dict(plan.arguments)}


def train(plan: Plan, dataset_dir: Path) -> tuple[float, list[str]]:
    """Train, or go on with what was cut off; what is trained ends at once.

    Args:
        plan: of the run.
        dataset_dir: where the data lie.

    Returns:
        Seconds of this training and of the first run it needs, and the commits of what either went on with, whose
        seconds are not among them.

    Raises:
        RuntimeError: when the training fails; names its log.
        ValueError: when the folder holds a training with other settings.
    """
    first_seconds, first_earlier = (0.0, []) if plan.first_run is None else train(plan.first_run, dataset_dir)
    with _locks[plan.work]:
        plan.work.mkdir(parents=True, exist_ok=True)
        earlier: list[str] = []
        if (settings := plan.work / "plan.json").is_file():
            _refuse_other_settings(settings, plan)
            if (plan.work / "train_state.pt").is_file():
                earlier = json.loads(settings.read_text()).get("commits", ["unknown"])
        write_json(settings, {**plan.settings, "commits": [*earlier, provenance()["commit"]]})
        overrides = _overrides(plan, dataset_dir)
        seconds = _bundle("training", plan.configs, plan.work / "log.txt", resume=True, **overrides)
    return first_seconds + seconds, first_earlier + earlier


def evaluate(plan: Plan, dataset_dir: Path, **further: Any) -> float:
    """Score what a plan has trained.

    Args:
        plan: of the run.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.
        further: entries of the config that this evaluation has and the training had not.

    Returns:
        Seconds.

    Raises:
        RuntimeError: when the evaluation fails; names its log.
    """
    pairs = dataset_dir / "test_pairs.json"
    # of every seed the same pairs, where they are drawn
    drawn = {"test_pairs": pairs} if pairs.is_file() else {"seed": 0}
    overrides = _overrides(plan, dataset_dir) | drawn | further
    return _bundle("evaluating", [*plan.configs, CONFIGS / "evaluate.yaml"], plan.work / "log.txt", **overrides)


def measure(plan: Plan, dataset_dir: Path) -> None:
    """Train, evaluate and write the record, unless it is there.

    Args:
        plan: of the run.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.

    Raises:
        RuntimeError: when training or evaluation fails; names the log.
        ValueError: when the record is that of a run with other settings.
    """
    if plan.result.is_file():
        _refuse_other_settings(plan.result, plan)
        logger.info("%s is done", plan.name)
        return
    record = {**plan.settings, **provenance()}
    record["train_seconds"], earlier = train(plan, dataset_dir)
    record |= {"resumed": bool(earlier), "earlier_commits": earlier}
    record["evaluate_seconds"] = evaluate(plan, dataset_dir)
    record["metrics"] = json.loads((plan.work / "metrics.json").read_text())
    record["metrics"].pop("config")  # paths of this machine
    record["cases"] = dice_of_run(plan.work)
    if (plan.work / "votes.pt").is_file():  # first, as a run whose own record is there is done
        _measure_with_votes(plan, dataset_dir, record)
    write_record(plan.result, record)
    logger.info("%s: %s", plan.name, {name: round(mean, 2) for name, (mean, _) in figures_of(record).items()})


def _measure_with_votes(plan: Plan, dataset_dir: Path, record: Mapping[str, Any]) -> None:
    """The same weights with ``--vote``, as a record of its own."""
    folder = plan.work / VOTED
    further = {"vote": dataset_dir, "output_dir": folder, "ckpt_dir": plan.work}
    method = f"{plan.method}_{VOTED}"
    seconds = evaluate(plan, dataset_dir, **further)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("config")
    further = {"method": method, "evaluate_seconds": seconds, "metrics": metrics, "cases": dice_of_run(folder)}
    write_record(plan.result.with_name(plan.result.name.replace(plan.method, method, 1)), {**record, **further})


def run(
    dataset: str,
    dataset_dir: str,
    methods: str = "deeprs,unet,voxelmorph",
    seeds: str = "0,1",
    augmentation: str = "off,on",
    num_labeled: str = "4",
    extra: str = "bf16",
    jobs: int = 1,
    **arguments: Any,
) -> None:
    """Train and evaluate every combination that has no result yet.

    Args:
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.
        methods: files of ``configs/recipes`` and ``configs/ablations``, or ``deeprs`` for ``train.yaml`` itself.
        seeds: of the training.
        augmentation: ``on``, ``off`` or both.
        num_labeled: numbers of labelled cases to learn from, such as 1,4,7,10.
        extra: files of ``configs/run``.
        jobs: runs at a time, each on one thread.
        arguments: further entries of the config, such as ``--max_epochs 20``.

    Raises:
        FileNotFoundError: there is no such folder of data.
        ValueError: there is no such method, data set or file of ``configs/run``, no augmentation to switch on, or an
            option is no number.
        SystemExit: with status 1 when a run has failed.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    common = {"extra": tuple(listed(extra)) if extra else (), "arguments": tuple(sorted(arguments.items()))}
    plans = [
        Plan(dataset, method, is_on(augmented), labels, seed, **common)
        for seed in numbers(seeds, "seeds")
        for labels in numbers(num_labeled, "num_labeled")
        for augmented in listed(augmentation)
        for method in listed(methods)
    ]
    for plan in plans:  # before hours of work
        _refuse_wrong_augmentation(plan)
    folder = Path(dataset_dir).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"--dataset_dir '{dataset_dir}': there is no such folder.")
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: expected 1 or more.")
    run_all({plan.name: partial(measure, plan, folder) for plan in plans}, jobs)


def _selected(
    dataset: str, methods: str, augmentation: str, num_labeled: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All records of a data set, and those asked for, methods in the order asked for."""
    records = read_records(dataset)
    settings = {is_on(name, {"-": None, **SWITCH}) for name in listed(augmentation)}
    labels = set(numbers(num_labeled, "num_labeled")) if num_labeled else None
    chosen = [
        record
        for record in records
        if record["augmented"] in settings and (labels is None or record["num_labeled"] in labels)
    ]
    if not chosen:
        found = sorted({(group.augmentation, group.num_labeled) for group in grouped(records)})
        raise ValueError(f"no such runs in {RESULTS / dataset}. Augmentation and labels of those there: {found}.")
    if not methods:
        return records, chosen
    if missing := [method for method in listed(methods) if method not in {record["method"] for record in records}]:
        raise ValueError(f"no runs of {missing} in {RESULTS / dataset}")
    return records, [record for method in listed(methods) for record in chosen if record["method"] == method]


def table(
    dataset: str,
    methods: str = "",
    augmentation: str = "-,off,on",
    num_labeled: str = "",
    reference: str = REFERENCE,
) -> str:
    """The runs of a data set as Markdown: figures of every method, and differences to one of them with intervals.

    Args:
        dataset: a folder of ``benchmarks/results``.
        methods: those to show, in this order; all when empty.
        augmentation: which runs to show: ``on``, ``off``, and ``-`` for methods that do not learn.
        num_labeled: which runs to show, such as 0,4; all when empty.
        reference: the method that the others are compared with; ``none`` for no second table.

    Raises:
        ValueError: when a method, or the reference, has no runs.
    """
    records, chosen = _selected(dataset, methods, augmentation, num_labeled)
    references = [record for record in records if record["method"] == reference]
    if reference != "none" and not references and reference != REFERENCE:
        raise ValueError(f"--reference '{reference}': it has no runs in {RESULTS / dataset}. `none` is no reference.")
    return markdown(chosen, reference, references)


def structures(dataset: str, methods: str = "", augmentation: str = "-,off,on", num_labeled: str = "") -> str:
    """Dice of each structure as Markdown.

    Args:
        dataset: a folder of ``benchmarks/results``.
        methods: those to show, in this order; all when empty.
        augmentation: which runs to show: ``on``, ``off``, and ``-`` for methods that do not learn.
        num_labeled: which runs to show, such as 0,4; all when empty.

    Raises:
        ValueError: when a method has no runs.
    """
    return structure_table(_selected(dataset, methods, augmentation, num_labeled)[1])


def figures(dataset: str, augmentation: str = "on", num_labeled: int = LABELS) -> list[str]:
    """Draw the figures of a data set into its folder of results: Dice by structure, and by number of labels.

    Args:
        dataset: a folder of ``benchmarks/results``.
        augmentation: which runs the box plots show, ``on`` or ``off``.
        num_labeled: which runs the box plots show.

    Returns:
        The files.
    """
    records = read_records(dataset)
    return [str(path) for path in draw_figures(records, RESULTS / dataset, is_on(augmentation), num_labeled)]


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table, "structures": structures, "figures": figures})
