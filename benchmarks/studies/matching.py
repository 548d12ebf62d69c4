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
"""What the settings of `scripts.matching` give and cost, never on test cases: a row for each setting.

python -m benchmarks.studies.matching run --dataset abdomen_ct --dataset_dir DIR --weights RUN --overlap 1
python -m benchmarks.studies.matching run --dataset brain_mr --dataset_dir DIR --pairs labeled --smoothness 0.3

With the folder of a training the affine, and with `--overlap` the field, know what its S sees; without, images decide.
Rows are in `benchmarks/results/<dataset>/matching.csv`; one that is there is not measured again.
"""

from __future__ import annotations

import itertools
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser

from benchmarks.runs.records import RESULTS, provenance, read_rows, write_rows
from benchmarks.studies.trained import CONFIGS
from scripts.fields.metrics import dice_per_structure, folding_percent
from scripts.fields.world import sample_label_at
from scripts.matching.match import Matching
from scripts.networks.weights import load_weights
from scripts.registration.pair import Subject, load_subject, points_on_fixed_file
from scripts.registration.whole_images import WholeImages

COLUMNS = ["weights", "pairs", "settings", "count", "dice", "folding_percent", "seconds", "commit"]


def run(dataset: str, dataset_dir: str, pairs: str = "validation", weights: str | None = None, **settings: Any) -> None:
    """Register pairs of validation or labelled cases, and add the mean figures as a row.

    Args:
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
        pairs: ``labeled``: all ordered pairs of the labelled cases; ``validation``: of up to four validation cases, and
            the labelled ones onto the first two of these; with more, each onto the next.
        weights: the folder of a training, whose S is asked; without, images are registered whole.
        settings: of :class:`scripts.matching.Matching`.

    Raises:
        ValueError: ``pairs`` is neither.
    """
    path = RESULTS / dataset / "matching.csv"
    row: dict[str, Any] = {"weights": Path(weights).name if weights else "", "pairs": pairs}
    row["settings"] = json.dumps(settings, sort_keys=True)
    if any(all(found[key] == value for key, value in row.items()) for found in read_rows(path)):
        return
    figures = np.mean(_measure(dataset, Path(dataset_dir).resolve(), pairs, weights, Matching(**settings)), axis=0)
    row |= dict(zip(COLUMNS[3:-1], [round(float(figure), 5) for figure in figures], strict=True))
    write_rows(path, COLUMNS, [*read_rows(path), row | {"commit": provenance()["commit"]}])


def _measure(dataset: str, folder: Path, pairs: str, weights: str | None, matching: Matching) -> list[list[float]]:
    files = [CONFIGS / "train.yaml", CONFIGS / "data" / f"{dataset}.yaml"]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    parser["dataset_dir"] = str(folder)
    cases, preprocessing = parser.get_parsed_content("cases"), parser.get_parsed_content("preprocessing")
    network = None
    if weights is not None:
        network = load_weights(parser.get_parsed_content("network_def"), weights, "model.pt", "cpu").eval()
    load = lru_cache(maxsize=None)(lambda case: load_subject(dict(case), preprocessing, cases.label_ids))
    rows = []
    listed = _pairs(cases, pairs)
    for moving, fixed in listed:
        if network is None:
            steps = WholeImages().for_pair(moving["image"], fixed["image"])
            subjects = [load_subject(case, steps, cases.label_ids) for case in (moving, fixed)]
        else:
            subjects = [load(tuple(sorted(case.items()))) for case in (moving, fixed)]
        images = [subject.network.as_tensor()[None].float() for subject in subjects]
        start = time.process_time()
        with torch.no_grad():
            seen = [] if network is None else [network(image).softmax(dim=1) for image in images]
        ddf = matching(*images, *seen)
        seconds = time.process_time() - start
        rows.append([len(listed), _dice(ddf, *subjects, cases.num_classes), float(folding_percent(ddf)), seconds])
    return rows


def _pairs(cases: Any, pairs: str) -> list[tuple[dict, dict]]:
    if pairs == "labeled":
        return list(itertools.permutations(cases.labeled, 2))
    if pairs != "validation":
        raise ValueError(f"--pairs '{pairs}': expected labeled or validation.")
    validation = cases.validation
    if len(validation) > 4:
        return list(zip(validation, (*validation[1:], validation[0]), strict=True))
    return [*itertools.permutations(validation, 2), *itertools.product(cases.labeled, validation[:2])]


def _dice(ddf: torch.Tensor, moving: Subject, fixed: Subject, num_classes: int) -> float:
    """Mean over the structures that either label has, on the grid of the fixed file."""
    points = points_on_fixed_file(ddf, moving, fixed)
    warped = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)
    return float(dice_per_structure(warped[None], fixed.label.as_tensor()[None], num_classes).nanmean())


def table(dataset: str) -> str:
    """The rows of a data set as Markdown, best first."""
    lines = ["| S of | pairs | settings | R-Dice | folding, % | CPU s a pair |", "|---|---|---|---|---|---|"]
    for row in sorted(
        read_rows(RESULTS / dataset / "matching.csv"), key=lambda row: (row["pairs"], -float(row["dice"]))
    ):
        cells = [row["weights"] or "-", f"{row['pairs']} ({float(row['count']):.0f})", f"`{row['settings']}`"]
        cells += [
            f"{100 * float(row['dice']):.2f}",
            f"{float(row['folding_percent']):.4f}",
            f"{float(row['seconds']):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    fire.Fire({"run": run, "table": table})
