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
"""What an iteration of training costs: DeepRS, other methods, and other builds and settings of them, taking turns.

    python -m benchmarks.costs.iteration --size 64,64,64 --methods deeprs,unet --repeats 15
    python -m benchmarks.costs.iteration --dataset hippocampus --against 207dbef
    python -m benchmarks.costs.iteration --device cuda --amp true --variants "batch_size=4;channels_last=true"

Each alternative is a process, and each runs an iteration in its turn, so that a busy machine slows all alike. Every
term counts from the first iteration, on pairs in which the moving image has a label. With the medians of time come what
was counted of one iteration, and two floors: its arithmetic at the speed of the best convolution that this machine was
seen to do, and the bytes that have to move at the speed of a copy.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fire
import torch
import yaml
from monai.bundle import ConfigParser

from benchmarks import ROOT
from benchmarks.costs.alternatives import METHODS
from benchmarks.costs.builds import Child, commit_of, tree_of, write_pairs
from benchmarks.costs.report import processor, row_of, table
from benchmarks.costs.speed import write_json
from scripts.phantom.volumes import make_phantoms

logger = logging.getLogger("iteration")

FEWEST = 15
WARM_UP = 3  # iterations that do not count
CAPTURED = ("compile", "cuda_graphs")  # entries of the config under which operations cannot be seen one by one
PHANTOM_CLASSES = 8


@dataclass
class Entry:
    """An alternative: a method of a build, with the entries of a variant."""

    method: str
    build: str
    variant: str
    entries: dict[str, Any]
    child: Child | None = None
    turns: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """All three, those that say nothing left out."""
        return " ".join(part for part in (self.method, self.variant, f"({self.build})") if part)


def parse_variants(variants: str) -> dict[str, dict[str, Any]]:
    """Read ``"batch_size=4;amp=true,channels_last=true"``: entries by the text of each; the first is without any.

    Raises:
        ValueError: an entry has no value.
    """
    parsed: dict[str, dict[str, Any]] = {"": {}}
    for text in filter(None, (part.strip() for part in str(variants or "").split(";"))):
        pairs = [pair.partition("=") for pair in text.split(",")]
        if bad := ["".join(pair) for pair in pairs if not (pair[0] and pair[1])]:
            raise ValueError(
                f"--variants: '{bad[0]}' is no NAME=VALUE. Entries of one have commas between, variants ';'."
            )
        parsed[text] = {name.strip(): yaml.safe_load(value) for name, _, value in pairs}
    return parsed


def take_turns(entries: Sequence[Entry], repeats: int, warm_up: int = WARM_UP) -> None:
    """Run iterations in turn, in this order and then in reverse, and keep what each took.

    Args:
        entries: with their children.
        repeats: iterations of each that count.
        warm_up: iterations before, which do not.
    """
    for entry in entries:
        entry.child.ask(warm_up)
    for turn in range(repeats):
        for entry in entries if turn % 2 == 0 else reversed(entries):
            answer = entry.child.ask(1)
            entry.turns += answer.pop("iterations")
            peak = max(answer.get("peak_memory_mib", 0), entry.facts.get("peak_memory_mib", 0))
            entry.facts |= {"process_peak_mib": answer["process_peak_mib"]} | (
                {"peak_memory_mib": peak} if peak else {}
            )


def count(entry: Entry, device: str) -> None:
    """Count one iteration: arithmetic and operations, unless they are captured; and launches, on a GPU."""
    if not any(entry.entries.get(name) for name in CAPTURED):
        entry.facts |= entry.child.ask(1, "counts")["iterations"][0]
    if device != "cpu":
        found = entry.child.ask(3, "launches")["iterations"]
        entry.facts |= {key: statistics.median(row[key] for row in found) for key in found[0]}


def start(
    entries: Sequence[Entry], builds: Mapping[str, Path], common: Mapping[str, Any], folder: Path, stack: ExitStack
) -> tuple[list[Entry], dict[str, float]]:
    """Start all children together.

    Args:
        entries: to be given their child.
        builds: folder of each.
        common: what all setups share.
        folder: for their logs.
        stack: closes them.

    Returns:
        The entries that their build can run, and what the first of them measured of the machine.

    Raises:
        ValueError: there is none.
    """
    for number, entry in enumerate(entries):
        setup = {
            **common,
            "bundle": str(builds[entry.build] / "bundle"),
            "method": entry.method,
            "entries": entry.entries,
        }
        entry.child = Child({**setup, "peaks": number == 0}, folder / f"{number} {entry.method} {entry.build}.log")
        stack.callback(entry.child.close)
        if number % 2:  # two at a time
            _ = entries[number - 1].child.ready
    for entry in entries:
        if "skipped" in entry.child.ready:
            logger.warning("%s is left out: %s", entry.name, entry.child.ready["skipped"])
    able = [entry for entry in entries if "ready" in entry.child.ready]
    if not able:
        raise ValueError(f"nothing to measure: {entries[0].child.ready['skipped']}.")
    return able, {key: value for key, value in entries[0].child.ready.items() if key.endswith("_per_s")}


def main(
    methods: str = "deeprs,best,unet,voxelmorph,monai_voxelmorph,naive",
    dataset: str | None = None,
    size: Sequence[int] | str | None = None,
    amp: bool | str = False,
    batch_size: int = 1,
    device: str = "cpu",
    repeats: int = FEWEST,
    variants: str = "",
    against: str | None = None,
    loader: str = "memory",
    seed: int = 0,
    output: str = str(ROOT / "benchmarks" / "results" / "iteration.json"),
    **entries: Any,
) -> None:
    """Measure, print a table, and write everything as JSON.

    Args:
        methods: those of METHODS, with commas between; `pair` and `pair_refined` are a pair registered and segmented,
            from tensors on the device, the latter with 20 steps of refinement.
        dataset: a file of ``configs/data``, for its networks, size and augmentation.
        size: voxels, 128,128,96; None: of the config.
        amp: bfloat16 in the networks.
        batch_size: pairs of an iteration.
        device: "cpu" or "cuda".
        repeats: iterations of each that count, at least 15.
        variants: entries of the config to try as well, ``"channels_last=true;amp=true,batch_size=4"``.
        against: another build to measure as well: a commit, or a folder that holds ``bundle``.
        loader: "memory": pairs that are in memory; "files": the loader of the config, on phantoms.
        seed: of networks and pairs.
        output: the JSON file to write.
        entries: further entries of the config, such as ``--channels_last true``.

    Raises:
        ValueError: fewer than 15 repeats; unknown methods, loaders or commits; a build has none of what is asked.
        RuntimeError: a child has failed.
    """
    asked = methods.split(",") if isinstance(methods, str) else [*methods]
    if unknown := [method for method in asked if method not in METHODS]:
        raise ValueError(f"no method {', '.join(map(repr, unknown))}: expected some of {', '.join(METHODS)}.")
    if repeats < FEWEST:
        raise ValueError(f"repeats must be {FEWEST} or more for a 90th percentile worth reporting, found {repeats}.")
    if loader not in ("memory", "files"):
        raise ValueError(f"--loader '{loader}': expected memory or files.")
    entries |= {"amp": str(amp).lower() == "true", "batch_size": batch_size, "seed": seed}
    configs, size = settle_size(size, dataset)
    entries["spatial_size"] = size
    common = {"device": device, "dataset": dataset}
    builds = {"this": ROOT}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if against is not None:
            builds["against"] = stack.enter_context(tree_of(str(against)))
        common |= write_data(folder, loader, size, configs, seed)
        chosen = [
            Entry(method, build, text, {**entries, **variant})
            for method in asked
            for text, variant in parse_variants(variants).items()
            for build in builds
        ]
        able, peaks = start(chosen, builds, common, folder, stack)
        take_turns(able, repeats)
        for entry in able:
            count(entry, device)
        commits = {build: commit_of(tree) for build, tree in builds.items()}
    rows = [row_of(entry, able, peaks) for entry in able]
    logger.info("%s", table(rows))
    write_json(
        Path(output),
        {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": torch.cuda.get_device_name() if device != "cpu" else processor(),
            "versions": {package: version(package) for package in ("torch", "monai")},
            "commits": commits,
            "settings": {"dataset": dataset, "device": device, "loader": loader, "repeats": repeats, **entries},
            "left_out": {entry.name: entry.child.ready["skipped"] for entry in chosen if entry not in able},
            "peaks": peaks,
            "rows": rows,
        },
    )


def settle_size(size: Sequence[int] | str | None, dataset: str | None) -> tuple[dict[str, Any], list[int]]:
    """The config of a data set as it stands, and the size that counts.

    Raises:
        ValueError: there is no such data set, or the size is not three whole numbers.
    """
    folder = ROOT / "bundle" / "configs"
    if dataset and not (folder / "data" / f"{dataset}.yaml").is_file():
        known = sorted(path.stem for path in (folder / "data").glob("*.yaml"))
        raise ValueError(f"--dataset '{dataset}': expected one of {', '.join(known)}.")
    files = ["train.yaml", *([f"data/{dataset}.yaml"] if dataset else [])]
    configs = ConfigParser.load_config_files([str(folder / file) for file in files])
    found = size.split(",") if isinstance(size, str) else size or configs["spatial_size"]
    try:
        sides = [int(side) for side in found]
    except ValueError:
        sides = []
    if len(sides) != 3:
        raise ValueError(f"--size '{size}': expected three whole numbers, such as 128,128,96.")
    return configs, sides


def write_data(folder: Path, loader: str, size: Sequence[int], configs: Mapping[str, Any], seed: int) -> dict[str, str]:
    """Write what all children read, and return the part of their setup that says where it is."""
    if loader == "files":
        make_phantoms(folder / "data", num_labeled=4, num_unlabeled=4, num_validation=0, num_test=0, seed=seed)
        return {"folder": str(folder / "data")}
    labels = configs.get("labels")
    write_pairs(folder / "pairs.pt", tuple(size), len(labels) + 1 if labels else PHANTOM_CLASSES, seed)
    return {"data": str(folder / "pairs.pt")}


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    fire.Fire(main)
