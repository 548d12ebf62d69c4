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
"""Do the labels that registration brings help segmentation at inference?

python -m benchmarks.studies.fusion run RUN_FOLDER ... --dataset hippocampus --dataset_dir DIR
python -m benchmarks.studies.fusion table --dataset hippocampus

A run that has its rows in ``fusion.csv`` is skipped.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

import fire
import numpy as np
import torch
from torch import Tensor

from benchmarks.runs.plans import parse_name
from benchmarks.runs.records import LABELS, RESULTS, provenance, read_rows, write_rows
from benchmarks.studies.trained import open_run
from scripts.fields.metrics import dice_per_structure

logger = logging.getLogger("fusion")

#: share of the warped labels in the fused prediction
SHARES = (0.3, 0.5, 0.7)
COLUMNS = ["run", "prediction", "dice", "cases", "commit"]


def fused(probability: Tensor, warped: Tensor) -> dict[str, Tensor]:
    """Ways to put together what a segmentation network says and what labelled cases say.

    Args:
        probability: class probabilities (1, C, D, H, W) of the image.
        warped: labels of the labelled cases on its grid, (N, C, D, H, W), soft.

    Returns:
        name -> (1, C, D, H, W). A weighted vote weighs each case, voxel by voxel, with the probability that the
        network gives to its label.
    """
    agreement = (probability * warped).sum(dim=1, keepdim=True)
    votes = {
        "vote": warped.mean(dim=0, keepdim=True),
        "weighted vote": (agreement * warped).sum(dim=0, keepdim=True) / agreement.sum(dim=0).clamp_min(1e-6),
    }
    mixed = {
        f"{1 - share:.1f} network + {share} {name}": (1 - share) * probability + share * vote
        for name, vote in votes.items()
        for share in SHARES
    }
    return {"network": probability, **votes, **mixed}


def run(*run_folders: str, dataset: str, dataset_dir: str) -> None:
    """Measure the Dice on the validation cases of S alone, of the labelled cases warped onto each, and of both.

    Args:
        run_folders: what trainings wrote: weights of all networks, and model.json.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = RESULTS / dataset / "fusion.csv"
    for folder in run_folders:
        name = Path(folder).resolve().name
        if any(row["run"] == name for row in read_rows(path)):
            continue
        dice = measure(str(folder), dataset, str(dataset_dir))
        logger.info("%s: %s", name, {prediction: round(float(np.mean(cases)), 4) for prediction, cases in dice.items()})
        commit = provenance()["commit"]
        rows = [
            {"run": name, "prediction": prediction, "dice": round(float(np.mean(cases)), 4), "cases": len(cases)}
            for prediction, cases in dice.items()
        ]
        write_rows(path, COLUMNS, [*read_rows(path), *({**row, "commit": commit} for row in rows)])


def measure(run_folder: str, dataset: str, dataset_dir: str) -> dict[str, list[float]]:
    """Predict the validation cases in every way; S as the recipe applies it to a volume.

    Args:
        run_folder: what training wrote.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.

    Returns:
        Name of the way -> mean Dice over the structures of each case.
    """
    parser, networks = open_run(run_folder, dataset, dataset_dir)
    make_state, preprocess, inferer = (parser.get_parsed_content(key) for key in ("state", "preprocessing", "inferer"))
    cases = parser.get_parsed_content("cases")
    labeled, validation = ([preprocess(dict(case)) for case in group] for group in (cases.labeled, cases.validation))
    dice = defaultdict(list)
    with torch.no_grad():
        for fixed in validation:
            image, label = fixed["image"][None], fixed["label"][None].long()
            probability = inferer(image, networks["segmentation"]).softmax(dim=1)
            pairs = [
                make_state(
                    {"moving_image": m["image"][None], "moving_label": m["label"][None], "fixed_image": image}, networks
                )
                for m in labeled
            ]
            warped = torch.cat([pair.warped_label for pair in pairs])
            for name, prediction in fused(probability, warped).items():
                classes = prediction.argmax(dim=1, keepdim=True)
                dice[name].append(float(dice_per_structure(classes, label, cases.num_classes).mean()))
    return dice


def table(dataset: str) -> str:
    """The predictions of a data set as Markdown, a column for each method, seeds averaged, with their range."""
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    titles: dict[str, None] = {}
    for row in read_rows(RESULTS / dataset / "fusion.csv"):
        method, augmented, labels = parse_name(row["run"])
        few = "" if labels == LABELS else f", {labels} labels"
        titles[title := f"{method} (augmentation {'on' if augmented else 'off'}{few})"] = None
        cells[row["prediction"]][title].append(100 * float(row["dice"]))
    lines = [f"| prediction | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for prediction, columns in cells.items():
        values = [f"{np.mean(v):.2f} ({min(v):.2f}..{max(v):.2f})" for v in (columns[title] for title in titles)]
        lines.append(f"| {prediction} | {' | '.join(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
