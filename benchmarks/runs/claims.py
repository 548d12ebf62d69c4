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
"""What the paper claims, asked of the records of every data set: as a table, and as a figure.

python -m benchmarks.runs.claims table
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import fire
import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

from benchmarks.runs.paired import Difference, paired_difference
from benchmarks.runs.records import dice_table, read_records

DATASETS = {"hippocampus": "hippocampus", "phantom": "phantoms", "mouse_brain": "mouse brain"}
AUGMENTED = {False: "off", True: "on"}
TASKS = {"S": "segmentation", "R": "registration"}


class Claim(NamedTuple):
    """A method, said to be better than another one."""

    text: str
    method: str
    reference: str
    task: str  # S or R
    num_labeled: int = 4


CLAIMS = (
    Claim("R and S joined over the U-Net, S", "deeprs_rs", "unet", "S"),
    Claim("DSS added to that, S", "deeprs_rs_dss", "deeprs_rs", "S"),
    Claim("ACM added, S", "deeprs_rs_acm", "deeprs_rs", "S"),
    Claim("DRC added, R", "deeprs_rs_drc", "deeprs_rs", "R"),
    Claim("all three, S", "deeprs", "deeprs_rs", "S"),
    Claim("all three, R", "deeprs", "deeprs_rs", "R"),
    Claim("DeepRS over the U-Net, S", "deeprs", "unet", "S"),
    Claim("the same with one label", "deeprs", "unet", "S", 1),
)


def asked() -> Iterator[tuple[Claim, str, bool, Difference]]:
    """Each claim, data set and augmentation, with what the records say: a difference in Dice and its interval."""
    records = {dataset: read_records(dataset) for dataset in DATASETS}
    for claim in CLAIMS:
        for dataset, found in records.items():
            for augmented in AUGMENTED:
                sides = [_scores(found, claim, method, augmented) for method in (claim.method, claim.reference)]
                yield claim, dataset, augmented, paired_difference(*sides)


def _scores(records: list[dict[str, Any]], claim: Claim, method: str, augmented: bool) -> list[Any]:
    wanted = (method, augmented, claim.num_labeled)
    runs = [r for r in records if (r["method"], r["augmented"], r["num_labeled"]) == wanted]
    return [dice_table(run, TASKS[claim.task]) for run in runs]


def table() -> str:
    """A row for each claim: differences in points of Dice with 95 % intervals; bold where the interval leaves out 0."""
    settings = [f"{name}, {word}" for name in DATASETS.values() for word in AUGMENTED.values()]
    lines = [f"| claim | {' | '.join(settings)} |", "|---" * (len(settings) + 1) + "|"]
    cells: dict[Claim, list[str]] = {}
    for claim, _, _, found in asked():
        mean, low, high = (f"{100 * value:.1f}" for value in (found.mean, found.low, found.high))
        mean = f"**{mean}**" if _certain(found) else mean
        cells.setdefault(claim, []).append(f"{mean} ({low} to {high})")
    return "\n".join([*lines, *(f"| {claim.text} | {' | '.join(row)} |" for claim, row in cells.items())])


def figure() -> Figure:
    """A panel for each data set: a line for each claim and augmentation, a dot and its 95 % interval, filled where the
    interval leaves out 0."""
    drawn = Figure(figsize=(10, 4.6), layout="constrained")
    panels = dict(zip(DATASETS, drawn.subplots(1, len(DATASETS), sharey=True), strict=True))
    for claim, dataset, augmented, found in asked():
        mean, low, high = (100 * value for value in (found.mean, found.low, found.high))
        panels[dataset].errorbar(
            mean,
            len(CLAIMS) - CLAIMS.index(claim) + (-0.15 if augmented else 0.15),
            xerr=[[mean - low], [high - mean]],
            color="C1" if augmented else "C0",
            marker="s" if augmented else "o",
            markerfacecolor=None if _certain(found) else "white",
            capsize=2,
        )
    for dataset, panel in panels.items():
        panel.axvline(0, color="black", linewidth=0.8)
        panel.grid(axis="x", alpha=0.4)
        panel.set_title(DATASETS[dataset])
    next(iter(panels.values())).set_yticks(range(len(CLAIMS), 0, -1), [claim.text for claim in CLAIMS])
    drawn.supxlabel("difference in points of Dice (blue dots: without random augmentation; orange squares: with it)")
    return drawn


def _certain(found: Difference) -> bool:
    return found.low > 0 or found.high < 0


if __name__ == "__main__":
    fire.Fire({"table": table})
