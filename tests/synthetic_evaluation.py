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
"""An evaluation folder as the run `evaluating` leaves it, made of balls that move: for the tests of the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.report.evaluation_folder import COLUMNS, RANKS

SHAPE, SPACING = (16, 20, 12), (1.0, 1.5, 2.0)
NAN = float("nan")


def ball(center: Sequence[float], radius: float = 3.0) -> np.ndarray:
    """A ball of class 1 and, where it ends along the first axis, of class 2."""
    grid = np.indices(SHAPE)
    inside = sum((axis - at) ** 2 for axis, at in zip(grid, center, strict=True)) <= radius**2
    return np.where(inside, np.where(grid[0] < center[0], 1, 2), 0).astype(np.uint8)


def write_evaluation(
    folder: Path,
    structures: Sequence[str] = ("front", "back"),
    tasks: Sequence[str] = ("segmentation", "registration"),
    cases: Sequence[str] = ("a", "b", "c"),
    with_confidence: bool = True,
    affine: np.ndarray | None = None,
) -> Path:
    """Write an evaluation; the HD95 of the last structure is nowhere defined, and the last case is the best one.

    It is as 0.6.1 wrote them, without surface Dice and, unless an ``affine`` is given, without orientation.
    """
    placed = {} if affine is None else {"affine": affine}
    metrics: dict[str, object] = {"structures": list(structures), "config": {"recipe": "deeprs", "sizes": [16, 20, 12]}}
    (folder / "examples").mkdir(parents=True)
    dice = {case: 0.5 + 0.1 * number for number, case in enumerate(cases)}
    chosen = dict(zip(RANKS, (cases[0], cases[len(cases) // 2], cases[-1]), strict=True))
    if "segmentation" in tasks:
        rows = [
            {"case": case, "structure": name, "dice": dice[case], **_distances("", name == structures[-1])}
            for case in cases
            for name in structures
        ]
        _write_rows(folder, "segmentation", rows)
        metrics["segmentation"] = _summary(structures, 0.6, len(cases))
        for rank, case in chosen.items():
            np.savez(folder / "examples" / f"segmentation_{rank}.npz", **_segmentation(case, dice[case]), **placed)
    if "registration" in tasks:
        rows = [
            {"moving": case, "fixed": "target", "structure": name, "dice": dice[case], "identity_dice": 0.25}
            | _distances("", name == structures[-1])
            | _distances("identity_", name == structures[-1])
            | {"folding_percent": 0.125, "sdlogj": 0.375, "seconds": 2.5}
            for case in cases
            for name in structures
        ]
        _write_rows(folder, "registration", rows)
        field = {"folding_percent": _spread(0.125), "sdlogj": _spread(0.375), "seconds": _spread(2.5)}
        metrics["registration"] = _summary(structures, 0.7, len(cases)) | field
        metrics["identity"] = _summary(structures, 0.25, len(cases))
        for rank, case in chosen.items():
            arrays = _registration(case, dice[case], with_confidence) | placed
            np.savez(folder / "examples" / f"registration_{rank}.npz", **arrays)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def _distances(prefix: str, is_undefined: bool) -> dict[str, object]:
    return {f"{prefix}hd95": "" if is_undefined else 4.5, f"{prefix}asd": "nan" if is_undefined else 1.25}


def _spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.0625}


def _summary(structures: Sequence[str], dice: float, n: int) -> dict[str, object]:
    summary: dict[str, object] = {"n": n}
    for measure, value in (("dice", dice), ("hd95", 4.5), ("asd", 1.25)):
        per_structure = {name: _spread(value) | {"n": n} for name in structures}
        if measure != "dice":
            per_structure[structures[-1]] = {"mean": NAN, "std": NAN, "n": 0}
        summary[measure] = _spread(value) | {"per_structure": per_structure}
    return summary


def _write_rows(folder: Path, task: str, rows: list[dict[str, object]]) -> None:
    with (folder / f"{task}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS[task])
        writer.writeheader()
        writer.writerows(rows)


def _segmentation(case: str, dice: float) -> dict[str, object]:
    label, pred = ball((8, 10, 6)), ball((8, 11, 6))
    image = (label > 0).astype(np.float32)
    return {"image": image, "label": label, "pred": pred, "spacing": np.array(SPACING), "case": case, "dice": dice}


def _registration(case: str, dice: float, with_confidence: bool) -> dict[str, object]:
    labels = {"moving_label": ball((8, 8, 6)), "fixed_label": ball((8, 11, 6)), "warped_label": ball((8, 10, 6))}
    images = {name.removesuffix("_label"): (label > 0).astype(np.float32) for name, label in labels.items()}
    ddf = np.zeros((3, *SHAPE), np.float32)
    ddf[1] = -2.0
    names = {"moving_case": case, "fixed_case": "target"}
    maps = {"confidence": np.full(SHAPE, 0.75, np.float32)} if with_confidence else {}
    scores = {"dice": dice, "identity_dice": 0.25, "spacing": np.array(SPACING)}
    return images | labels | {"ddf": ddf} | names | maps | scores
