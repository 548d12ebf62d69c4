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
"""Does a confidence map tell right from wrong voxels of a warped label? A row for each run, and the table of them.

python -m benchmarks.studies.confidence run RUN_FOLDER ... --dataset hippocampus --dataset_dir DIR
python -m benchmarks.studies.confidence table --dataset hippocampus

A run that has its row in ``confidence.csv`` is skipped.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.metrics import compute_roc_auc

from benchmarks.runs.plans import parse_name
from benchmarks.runs.records import LABELS, RESULTS, provenance, read_rows, write_rows
from benchmarks.studies.trained import open_run
from scripts.joint.state import PairState

logger = logging.getLogger("confidence")

MAPS = {"confidence": "D", "agreement": "S on both sides"}
COLUMNS = ["run", *(f"auc_{name}" for name in MAPS), "pairs", "commit"]


def run(*run_folders: str, dataset: str, dataset_dir: str) -> None:
    """Measure the area under the ROC curve of two maps on the validation pairs, each case with the next.

    ``confidence`` is the discriminator's, where the run has one; ``agreement`` is what segmentation says. Asked are the
    voxels that are a structure in the warped or in the fixed label; right is where both say the same. 0.5 is a map that
    knows nothing.

    Args:
        run_folders: what trainings wrote: weights of all networks, and model.json.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = RESULTS / dataset / "confidence.csv"
    for folder in run_folders:
        name = Path(folder).resolve().name
        if any(row["run"] == name for row in read_rows(path)):
            continue
        parser, networks = open_run(str(folder), dataset, str(dataset_dir))
        make_state, pairs = (parser.get_parsed_content(key) for key in ("state", "validate::dataloader"))
        maps = [map_ for map_ in MAPS if map_ != "confidence" or "discriminator" in networks]
        found = {f"auc_{map_}": area for map_, area in areas(make_state, networks, pairs, maps).items()}
        row = {"run": name, **found, "pairs": len(pairs), "commit": provenance()["commit"]}
        logger.info(row)
        write_rows(path, COLUMNS, [*read_rows(path), row])


def table(dataset: str) -> str:
    """The areas of a data set as Markdown, seeds averaged, with their range and number, and the number of pairs."""
    groups, pairs = defaultdict(list), {}
    for row in read_rows(RESULTS / dataset / "confidence.csv"):
        method, augmented, labels = parse_name(row["run"])
        title = f"{method}{'' if labels == LABELS else f', {labels} labels'} | {'on' if augmented else 'off'}"
        groups[title].append([float(row[f"auc_{name}"] or "nan") for name in MAPS])
        pairs[title] = row["pairs"]
    lines = [
        f"| method | augmentation | {' | '.join(f'AUC of {title}' for title in MAPS.values())} | pairs |",
        "|---|---|---|---|---|",
    ]
    for title, rows in groups.items():
        lines.append(f"| {title} | {' | '.join(map(_cell, zip(*rows, strict=True)))} | {pairs[title]} |")
    return "\n".join(lines)


def _cell(areas_of_seeds: Sequence[float]) -> str:
    if np.isnan(areas_of_seeds).any():
        return "-"
    low, high, count = min(areas_of_seeds), max(areas_of_seeds), len(areas_of_seeds)
    spread = "" if count == 1 else f"{low:.3f}..{high:.3f}, "
    return f"{np.mean(areas_of_seeds):.3f} ({spread}{count})"


@torch.no_grad()
def areas(
    make_state: Callable[..., PairState],
    networks: Mapping[str, torch.nn.Module],
    pairs: Iterable[Mapping[str, Any]],
    maps: Sequence[str],
) -> dict[str, float]:
    """Area under the ROC curve of maps, averaged over labelled pairs.

    Args:
        make_state: of a pair, called as :class:`scripts.state.PairState` is.
        networks: name -> network, in evaluation.
        pairs: batches of one pair.
        maps: quantities of the state, (B, 1, D, H, W).
    """
    found: dict[str, list[float]] = {name: [] for name in maps}
    for batch in pairs:
        pair = make_state(batch, networks)
        warped, fixed = pair.warped_label.argmax(1), pair.fixed_label.argmax(1)
        asked, right = (warped > 0) | (fixed > 0), warped == fixed
        for name in maps:
            map_ = getattr(pair, name)[:, 0]
            found[name].append(float(compute_roc_auc(map_[asked], right[asked].float())))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
