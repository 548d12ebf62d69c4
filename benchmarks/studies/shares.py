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
"""How much the vote should say beside S: Dice on validation cases for each share, by mean and by product.

    python -m benchmarks.studies.shares run --dataset abdomen_ct --dataset_dir DIR --weights FOLDER
    python -m benchmarks.studies.shares table --dataset abdomen_ct

`FOLDER` is of a training with the recipe `votes`. Rows go to benchmarks/results/DATASET/shares.csv.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser

from benchmarks.runs.records import RESULTS, provenance, read_rows, write_rows
from benchmarks.studies.trained import CONFIGS
from scripts.matching.match import Matching
from scripts.matching.vote import Atlas, take_vote
from scripts.methods.voting import LEAST, vote_of
from scripts.networks.weights import load_weights, read_saved
from scripts.training.leave_one_out import mean_dice

COLUMNS = ["weights", "case", "joined", "share", "dice", "commit"]
SHARES = tuple(step / 10 for step in range(11))


@torch.no_grad()
def run(dataset: str, dataset_dir: str, weights: str) -> None:
    """Let the labelled cases vote on the validation cases, and add a row for each case, share and way to join.

    Args:
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
        weights: the folder of a training.
    """
    path, name = RESULTS / dataset / "shares.csv", Path(weights).name
    if any(row["weights"] == name for row in read_rows(path)):
        return
    files = [CONFIGS / "train.yaml", CONFIGS / "data" / f"{dataset}.yaml"]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    parser["dataset_dir"] = str(Path(dataset_dir).resolve())
    network = load_weights(parser.get_parsed_content("network_def"), weights, "model.pt", "cpu").eval()
    labeled, validation = (parser.get_parsed_content(f"{part}::dataset") for part in ("train", "validate"))
    classes, join = parser.get_parsed_content("num_classes"), vote_of(read_saved(Path(weights) / "votes.pt"))
    subjects = [labeled.subjects[i] for i in labeled.labeled_indices]
    atlases = [Atlas(one["case"], _batch(one["image"]).float(), _batch(one["label"])) for one in subjects]
    rows = []
    for i in range(len(validation.subjects)):
        case, image, label = (validation.subjects[i][key] for key in ("case", "image", "label"))
        own = network(_batch(image).float()).softmax(dim=1)
        vote, _ = take_vote(atlases, _batch(image).float(), own, classes, Matching(), join)
        for share in SHARES:
            product = share * vote.clamp(min=LEAST).log() + (1 - share) * own.clamp(min=LEAST).log()
            for joined, answer in (("mean", share * vote + (1 - share) * own), ("product", product)):
                dice = mean_dice(answer, _batch(label))
                rows.append(dict(zip(COLUMNS[:-1], (name, case, joined, share, round(dice, 4)), strict=True)))
    commit = provenance()["commit"]
    write_rows(path, COLUMNS, [*read_rows(path), *({**row, "commit": commit} for row in rows)])


def table(dataset: str) -> str:
    """The mean over cases, then over trainings, as Markdown."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in read_rows(RESULTS / dataset / "shares.csv"):
        found[row["joined"], row["share"]].append(float(row["dice"]))
    lines = ["| share of the vote | " + " | ".join(f"{share:.1f}" for share in SHARES) + " |", "|---" * 12 + "|"]
    for joined in ("mean", "product"):
        means = (sum(values) / len(values) for share in SHARES for values in [found[joined, str(share)]])
        lines.append(f"| {joined} | " + " | ".join(f"{100 * mean:.1f}" for mean in means) + " |")
    return "\n".join(lines)


def _batch(volume: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(volume.as_tensor() if hasattr(volume, "as_tensor") else volume)[None]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fire.Fire({"run": run, "table": table})
