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
"""Which similarity registers images of which contrasts: phantoms, the fixed one of which is shown in another contrast.

python -m benchmarks.studies.contrasts run
python -m benchmarks.studies.contrasts table

No network: the steps of `--refine` from a field of zeros, on one similarity and smoothness. A row for each similarity,
contrast, weight of smoothness and pair is in `benchmarks/results/phantom/contrasts.csv`, and is not measured again. The
first pair chooses the weight, for each similarity and contrast, by its Dice; the others are reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache, partial

import fire
import numpy as np
import torch
from monai.losses import GlobalMutualInformationLoss

from benchmarks.runs.records import RESULTS, provenance, read_rows, write_rows
from scripts.data.anatomy import EXTENT_MM, STRUCTURES
from scripts.fields.metrics import dice_per_structure, folding_percent
from scripts.fields.warping import warp_label
from scripts.joint import PairState, Term
from scripts.losses import MINDSSC, LocalNCC, Smoothness
from scripts.phantom.volumes import phantom_subject
from scripts.registration import Refinement

PATH = RESULTS / "phantom" / "contrasts.csv"
KEYS = ["similarity", "contrast", "smoothness", "pair"]
COLUMNS = [*KEYS, "dice_before", "dice", "folding_percent", "seconds", "commit"]
SIMILARITIES: dict[str, Callable[[], torch.nn.Module]] = {
    "LocalNCC": LocalNCC,
    "GlobalMutualInformationLoss": GlobalMutualInformationLoss,
    "MINDSSC": MINDSSC,
}
CONTRASTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "same": lambda x: x,
    "inverted": lambda x: 1 - x,
    "non-linear": lambda x: (1 + torch.cos(2.5 * math.pi * x)) / 2,  # neither order nor difference of tissues stays
}
SMOOTHNESS = (0.03, 0.1, 0.3, 1.0)  # relative to the similarity, each on a scale of its own
SIZE, STEPS, RATE = 32, 100, 0.1  # voxels a side, steps, voxels a step
WINDOW = (-300, 600)  # HU, as configs/data/phantom.yaml


def run(pairs: int = 5) -> None:
    """Register pairs of phantoms, and add a row for each.

    Args:
        pairs: how many, the first of which chooses the weights.
    """
    known = {tuple(row[name] for name in KEYS) for row in read_rows(PATH)}
    for pair in range(pairs):
        for name in SIMILARITIES:
            for contrast in CONTRASTS:
                for smoothness in SMOOTHNESS if pair == 0 else (_chosen(name, contrast),):
                    keys = dict(zip(KEYS, (name, contrast, str(smoothness), str(pair)), strict=True))
                    if tuple(keys.values()) not in known:
                        row = keys | _measure(name, contrast, float(smoothness), pair)
                        write_rows(PATH, COLUMNS, [*read_rows(PATH), row | {"commit": provenance()["commit"]}])


def table() -> str:
    """The mean over the pairs that did not choose the weight, as Markdown."""
    lines = [
        "| fixed image | similarity | smoothness | Dice before, % | Dice after, % | folding, % | pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    for contrast in CONTRASTS:
        for name in SIMILARITIES:
            chosen = _chosen(name, contrast)
            rows = [row for row in _rows(name, contrast) if row["pair"] != "0" and row["smoothness"] == chosen]
            before, after, folding = (
                np.mean([float(row[key]) for row in rows]) for key in ("dice_before", "dice", "folding_percent")
            )
            cells = [contrast, f"`{name}`", chosen, f"{before:.1f}", f"{after:.1f}"]
            lines.append(f"| {' | '.join([*cells, f'{folding:.3f}', str(len(rows))])} |")
    return "\n".join(lines)


def _rows(name: str, contrast: str) -> list[dict[str, str]]:
    return [row for row in read_rows(PATH) if (row["similarity"], row["contrast"]) == (name, contrast)]


def _chosen(name: str, contrast: str) -> str:
    """The weight of smoothness that is best on the first pair."""
    tried = [row for row in _rows(name, contrast) if row["pair"] == "0"]
    return max(tried, key=lambda row: float(row["dice"]))["smoothness"]


@lru_cache
def _subject(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image in [0, 1] and classes of a phantom, (1, 1, D, H, W)."""
    subject = phantom_subject((5, seed), (SIZE,) * 3, (EXTENT_MM / SIZE,) * 3)
    low, high = WINDOW
    image = (torch.from_numpy(subject.image).float() - low) / (high - low)
    classes = np.searchsorted([0, *sorted(STRUCTURES)], subject.label)
    return image.clamp(0, 1)[None, None], torch.from_numpy(classes)[None, None]


def _measure(name: str, contrast: str, smoothness: float, pair: int) -> dict[str, float]:
    (moving, moving_label), (fixed, fixed_label) = _subject(2 * pair), _subject(2 * pair + 1)
    batch = {"moving_image": moving, "fixed_image": CONTRASTS[contrast](fixed)}
    make_state = partial(PairState, batch, {}, num_classes=len(STRUCTURES) + 1)
    terms = {
        "similarity": Term(SIMILARITIES[name](), ["warped_image", "fixed_image"]),
        "smoothness": Term(Smoothness(), ["ddf"], weight=smoothness),
    }
    start = torch.zeros(1, 3, *moving.shape[2:])
    began = time.process_time()
    ddf = Refinement(terms, STEPS, RATE)(make_state(carried={"ddf": start}), make_state).ddf.detach()
    seconds = time.process_time() - began

    def dice(field: torch.Tensor) -> float:
        warped = warp_label(moving_label, field, len(STRUCTURES) + 1)
        return round(100 * float(dice_per_structure(warped, fixed_label, len(STRUCTURES) + 1).nanmean()), 3)

    folding = round(float(folding_percent(ddf)), 4)
    return {"dice_before": dice(start), "dice": dice(ddf), "folding_percent": folding, "seconds": round(seconds, 1)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    fire.Fire({"run": run, "table": table})
