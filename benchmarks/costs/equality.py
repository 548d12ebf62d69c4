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
"""Whether settings that only make training faster teach the same: losses of the first iterations, from the same seed.

    python -m benchmarks.costs.equality --device cuda --variants "cuda_graphs=true;compile=true"

Everything that is drawn at random is switched off, since a captured iteration draws other numbers. What bfloat16 does
to the losses, against float32, is the measure of what a variant may do to them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import fire

from benchmarks import ROOT
from benchmarks.costs.entries import attempt, lay_out, parse_variants, start
from benchmarks.costs.iteration import as_text, provenance, session
from benchmarks.costs.speed import write_json

logger = logging.getLogger("equality")

#: no draw of alpha, no noise before D, and no threshold at which D rests
CERTAIN = {
    "sampling::low": 1.0,
    "discriminator_def::noise_std": 0.0,
    "updates::discriminator::terms::alignment::loss::pause_below": None,
}
FLOAT32 = "amp=false"  # the yardstick


def distance(losses: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]]) -> list[float]:
    """How far losses are from those of a reference at each iteration.

    Args:
        losses: of each iteration, by term.
        reference: of the same.

    Returns:
        The mean over terms of the difference, in parts of the mean of that term over all iterations of the reference.
        0 where they are equal; not a number where one is not.
    """
    scales = {name: sum(abs(row[name]) for row in reference) / len(reference) for name in reference[0]}
    return [
        sum(abs(one[name] - other[name]) / max(scale, 1e-12) for name, scale in scales.items()) / len(scales)
        for one, other in zip(losses, reference, strict=True)
    ]


def main(
    variants: str = "cuda_graphs=true;compile=true;compile=true,cuda_graphs=true",
    dataset: str | None = None,
    size: Sequence[int] | str | None = None,
    device: str = "cuda",
    iterations: int = 20,
    seed: int = 0,
    output: str = str(ROOT / "benchmarks" / "results" / "equality.json"),
    **entries: Any,
) -> None:
    """Train some iterations plainly and as each variant, in bfloat16, and compare the losses.

    Args:
        variants: entries of the config, as of :func:`benchmarks.costs.iteration.main`.
        dataset, size, device, seed, entries: likewise.
        iterations: how many.
        output: the JSON file to write.

    Raises:
        ValueError: an option is wrong.
        SystemExit: with status 1 when a variant is further from the plain training than float32 is, or fails.
    """
    tried = parse_variants(f"{FLOAT32};{as_text(variants)}")
    with session(dataset, size, device, None, "memory", seed) as ready:
        entries = {"amp": True, **CERTAIN, **entries, "seed": seed, "spatial_size": ready.size}
        laid = lay_out(["deeprs"], tried, ready.builds, dataset, entries)
        unknown = [entry for entry in laid if entry.left_out]
        start(laid, ready.builds, ready.common, ready.folder, ready)
        able = [entry for entry in laid if not entry.left_out]
        found = {}
        for entry in able:
            attempt(
                entry, lambda entry: found.update({entry.variant: entry.child.ask(iterations, losses=True)["losses"]})
            )
    rows = compare(found) if {"", FLOAT32} <= found.keys() else {}
    for name, row in rows.items():
        logger.info("%s: %s", name, row)
    left_out = {entry.variant: entry.left_out for entry in laid if entry.left_out}
    write_json(
        Path(output), {**provenance(device), "settings": entries, "left_out": left_out, "rows": rows, "losses": found}
    )
    failed = [entry for entry in laid if entry.left_out and entry not in unknown]
    if failed or not all(row["within_rounding"] for row in rows.values()):
        raise SystemExit(1)


def compare(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Compare the losses of each variant with those of the plain training.

    Args:
        found: losses of each iteration by variant; "" is the plain one.

    Returns:
        For each variant the ``first`` distance and the ``mean`` of all; and ``within_rounding``: whether that is at
        most the mean of float32.
    """
    plain = found[""]
    apart = {name: distance(losses, plain) for name, losses in found.items() if name}
    allowed = fmean(apart[FLOAT32])
    return {
        name: {"first": parts[0], "mean": fmean(parts), "within_rounding": fmean(parts) <= allowed}
        for name, parts in apart.items()
    }


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    fire.Fire(main)
