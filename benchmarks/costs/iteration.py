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

    python -m benchmarks.costs.iteration --size 64,64,64 --methods deeprs,unet
    python -m benchmarks.costs.iteration --dataset hippocampus --against 207dbef
    python -m benchmarks.costs.iteration --device cuda --amp true --variants "batch_size=4;compile=true"

Each alternative is a process, and each runs an iteration in its turn, so that a busy machine slows all alike. Every
term counts from the first iteration, on pairs in which the moving image has a label. With the medians of time come what
was counted of one iteration, and two floors: its arithmetic at the speed of the best convolution that this machine was
seen to do, and the bytes that have to move at the speed of a copy.
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser

from benchmarks import ROOT
from benchmarks.costs.builds import commit_of, tree_of, write_pairs
from benchmarks.costs.entries import WARM_UP, Entry, count, lay_out, parse_methods, parse_variants, start, take_turns
from benchmarks.costs.report import processor, row_of, table
from benchmarks.costs.speed import write_json
from scripts.phantom.volumes import make_phantoms
from scripts.training.options import is_true

logger = logging.getLogger("iteration")

FEWEST = 15
PHANTOM_CLASSES = 8


def main(
    methods: str = "deeprs,best,unet,voxelmorph,monai_voxelmorph,naive",
    dataset: str | None = None,
    size: Sequence[int] | str | None = None,
    amp: bool | str = False,
    device: str = "cpu",
    repeats: int = FEWEST,
    warm_up: int = WARM_UP,
    variants: str = "",
    against: str | None = None,
    loader: str = "memory",
    seed: int = 0,
    output: str = str(ROOT / "benchmarks" / "results" / "iteration.json"),
    **entries: Any,
) -> None:
    """Measure, print a table, and write everything as JSON.

    Args:
        methods: deeprs, best, unet, voxelmorph: trained by their configs; monai_voxelmorph: MONAI's, trained alone;
            naive: DeepRS of MONAI's parts, without anything shared; pair, pair_refined: a pair registered and segmented
            by the networks of `best`, from tensors on the device, the latter with 20 steps of refinement.
        dataset: a file of ``configs/data``, for its networks, size and augmentation.
        size: voxels, 128,128,96; None: of the config.
        amp: bfloat16 in the networks.
        device: "cpu" or "cuda".
        repeats: iterations of each that count, at least 15.
        warm_up: iterations before, which do not count; more where an iteration is captured.
        variants: entries of the config to try as well, ``"compile=true;amp=true,batch_size=4"``.
        against: another build to measure as well: a commit, or a folder that holds ``bundle``.
        loader: "memory": pairs that are in memory; "files": the loader of the config, on phantoms.
        seed: of networks and pairs.
        output: the JSON file to write.
        entries: further ones of the config, such as ``--batch_size 4``; variants and builds that do not know one are
            left out.

    Raises:
        ValueError: fewer than 15 repeats; unknown methods, loaders or commits; nothing is left to measure.
        SystemExit: with status 1 when an alternative has failed; all others are in the file.
    """
    if repeats < FEWEST:
        raise ValueError(f"repeats must be {FEWEST} or more for a 90th percentile worth reporting, found {repeats}.")
    asked, further = parse_methods(methods), parse_variants(as_text(variants))
    with session(dataset, size, device, against, loader, seed) as ready:
        entries = {**entries, "amp": is_true(amp, "amp"), "seed": seed, "spatial_size": ready.size}
        laid = lay_out(asked, further, ready.builds, dataset, entries)
        unknown = [entry for entry in laid if entry.left_out]
        peaks = start(laid, ready.builds, ready.common, ready.folder, ready)
        able = [entry for entry in laid if not entry.left_out]
        settings = {"dataset": dataset, "device": device, "loader": loader, "repeats": repeats, **entries}
        commits = {build: commit_of(tree) for build, tree in ready.builds.items()}
        about = {**provenance(device), "commits": commits, "settings": settings, "peaks": peaks}
        take_turns(able, repeats, warm_up)
        write_record(Path(output), about, laid)  # a limit of time may end it while it counts
        count(able, device)
    rows = write_record(Path(output), about, laid)
    logger.info("%s", table(rows) if rows else "nothing was measured")
    if any(entry.left_out for entry in laid if entry not in unknown):
        raise SystemExit(1)


def write_record(path: Path, about: Mapping[str, Any], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Write what was measured, and return the rows."""
    measured = [entry for entry in entries if entry.turns and not entry.left_out]
    rows = [row_of(entry, measured, about["peaks"]) for entry in measured]
    left_out = {entry.name: entry.left_out for entry in entries if entry.left_out}
    write_json(path, {**about, "left_out": left_out, "rows": rows})
    return rows


def as_text(value: Any) -> str:
    """What Fire has read as Python, as it was typed."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class Session(ExitStack):
    """What the alternatives of a measurement share, removed at the end.

    Attributes:
        size: voxels of the networks' grid.
        builds: folders by name, ``this`` first.
        folder: a temporary one.
        common: what the setups of all children share.
    """

    size: list[int]
    builds: dict[str, Path]
    folder: Path
    common: dict[str, Any]


def session(
    dataset: str | None, size: Sequence[int] | str | None, device: str, against: str | None, loader: str, seed: int
) -> Session:
    """Check out the other build, where there is one, and write the pairs; arguments as of :func:`main`."""
    if loader not in ("memory", "files"):
        raise ValueError(f"--loader '{loader}': expected memory or files.")
    ready = Session()
    config, ready.size = settle_size(size, dataset)
    ready.builds = {"this": ROOT}
    try:
        ready.folder = Path(ready.enter_context(tempfile.TemporaryDirectory()))
        if against is not None:
            ready.builds["against"] = ready.enter_context(tree_of(str(against)))
        data = write_data(ready.folder, loader, ready.size, config, seed)
    except BaseException:
        ready.close()
        raise
    ready.common = {"device": device, "dataset": dataset, **data}
    return ready


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
    config = ConfigParser.load_config_files([str(folder / file) for file in files])
    sides = as_text(size or config["spatial_size"]).split(",")
    if len(sides) != 3 or not all(side.strip().isdigit() for side in sides):
        raise ValueError(f"--size '{size}': expected three whole numbers, such as 128,128,96.")
    return config, [int(side) for side in sides]


def write_data(folder: Path, loader: str, size: Sequence[int], config: Mapping[str, Any], seed: int) -> dict[str, str]:
    """Write what all children read, and return the part of their setup that says where it is."""
    if loader == "files":
        make_phantoms(folder / "data", num_labeled=4, num_unlabeled=4, num_validation=0, num_test=0, seed=seed)
        return {"folder": str(folder / "data")}
    labels = config.get("labels")
    write_pairs(folder / "pairs.pt", tuple(size), len(labels) + 1 if labels else PHANTOM_CLASSES, seed)
    return {"data": str(folder / "pairs.pt")}


def provenance(device: str) -> dict[str, Any]:
    """When and on what: the card or the processor, and the versions."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": processor() if device == "cpu" else torch.cuda.get_device_name(),
        "versions": {package: version(package) for package in ("torch", "monai")},
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worktree is removed also then
    fire.Fire(main)
