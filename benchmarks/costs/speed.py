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
"""Compare the time of the local correlation (with its gradient) and of the warp with that of MONAI's.

    PYTHONPATH=bundle python -m benchmarks.costs.speed                 # one CPU thread, time of that thread
    PYTHONPATH=bundle python -m benchmarks.costs.speed --device cuda   # wall time between synchronisations

The alternatives take turns within one process, so that a busy machine slows all of them; the medians and their ratios
go to benchmarks/results/speed.json. The time of a CPU thread includes the kernel's, mostly for handing out memory.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import fire
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks import Warp

from benchmarks import ROOT
from scripts.fields.warping import warp_together
from scripts.losses.local_ncc import LocalNCC

logger = logging.getLogger("speed")

SIZES = ((48, 64, 48), (128, 128, 96))
CLASSES = 8
RESULTS = ROOT / "benchmarks" / "results"


def local_ncc(size: tuple[int, ...], device: str) -> dict[str, Callable[[], object]]:
    """Return ways to compute the local correlation and its gradient with respect to the warped image."""
    warped = torch.rand(1, 1, *size, device=device, requires_grad=True)
    fixed = torch.rand(1, 1, *size, device=device)
    losses = {"ours": LocalNCC(9), "monai": LocalNormalizedCrossCorrelationLoss(3, kernel_size=9).to(device)}
    return {name: lambda loss=loss: torch.autograd.grad(loss(warped, fixed), warped) for name, loss in losses.items()}


def warp_image_and_label(size: tuple[int, ...], device: str) -> dict[str, Callable[[], object]]:
    """Return ways to warp an image with its one-hot label, without gradients, as the segmentation's update needs it."""
    image, label = torch.rand(1, 1, *size, device=device), torch.rand(1, CLASSES, *size, device=device)
    ddf = 2 * torch.randn(1, 3, *size, device=device)
    monai_warp = Warp(mode="bilinear", padding_mode="zeros")
    return {
        "ours": lambda: warp_together([image, label], ddf),
        "monai": lambda: (monai_warp(image, ddf), monai_warp(label, ddf)),
    }


def medians(alternatives: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Return the median seconds of each alternative over `repeats` rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(repeats + 1):
        for name, run in alternatives.items():
            start = _now(device)
            run()
            seconds[name].append(_now(device) - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def _now(device: str) -> float:
    """Return the seconds this thread has computed, or, on an accelerator, wall seconds once it is idle."""
    if device == "cpu":
        return time.thread_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def main(device: str = "cpu", repeats: int = 15, output: str = str(RESULTS / "speed.json")) -> None:
    """Time every comparison at both sizes and write the medians and ratios as JSON.

    Args:
        device: "cpu" or an accelerator such as "cuda".
        repeats: rounds that count, at least 7.
        output: the JSON file to write; its folder is made.

    Raises:
        ValueError: fewer than 7 repeats.
    """
    if repeats < 7:
        raise ValueError(f"repeats must be 7 or more for a median worth reporting, found {repeats}.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    comparisons = {}
    for name, build in {"local_ncc": local_ncc, "warp_image_and_label": warp_image_and_label}.items():
        for size in SIZES:
            seconds = medians(build(size, device), repeats, device)
            row = {f"{key}_ms": round(1e3 * value, 3) for key, value in seconds.items()}
            row["ratio"] = round(seconds["ours"] / seconds["monai"], 4)
            comparisons[f"{name}_{'x'.join(map(str, size))}"] = row
            logger.info("%s %s: %s", name, size, row)
    machine = torch.cuda.get_device_name() if device.startswith("cuda") else f"{platform.machine()}, 1 thread"
    write_json(
        Path(output),
        {"device": device, "machine": machine, "torch": torch.__version__, "repeats": repeats, **comparisons},
    )


def write_json(path: Path, content: dict) -> None:
    """Write `content` in one step, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
    logger.info("wrote %s", path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fire.Fire(main)
