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
"""What training found out about the structures of a model, and the table that says which segmentations to look at."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..files.datalist import read_json
from ..files.manifest import describe
from ..files.writing import write_result

__all__ = ["Line", "ModelReview", "fit_line", "write_model_review"]

logger = logging.getLogger(__name__)

KNOWLEDGE, TABLE = "review.json", "review.csv"
FEWEST = 5  # cases that a slope is learned from; of fewer, how far the estimate is off on average
COVERED = 0.9  # of new cases lie within the interval
LEAST = 0.7  # Dice, estimated or between two sources, below which a segmentation should be looked at
FARTHEST = 3.0  # standard deviations of the volume
STEADIEST = 0.05  # of the mean volume: a few labelled cases may agree by chance


@dataclass(frozen=True)
class Line:
    """The Dice of a structure as a line of its estimate that never falls.

    Args:
        slope, intercept: of the line; it is cut off at 0 and 1.
        sd: standard deviation of the cases from it; None: of one case.
        n: cases that it was learned from.
        mean, spread: of their estimates, and the sum of squares about it; 0 where the slope was not learned but is 1.
    """

    slope: float
    intercept: float
    sd: float | None
    n: int
    mean: float
    spread: float

    def at(self, estimate: float) -> tuple[float, float | None, float | None]:
        """The Dice of a new case, and the interval in which it lies with 90 %, if cases are spread normally."""
        dice = self.intercept + self.slope * estimate
        ends = (math.nan, math.nan)
        if self.sd is not None:
            away = (estimate - self.mean) ** 2 / self.spread if self.spread else 0.0
            freedom = self.n - 1 - (self.spread > 0)
            half = stats.t.ppf((1 + COVERED) / 2, freedom) * self.sd * math.sqrt(1 + 1 / self.n + away)
            ends = (dice - half, dice + half)
        cut, low, high = (None if math.isnan(end) else float(np.clip(end, 0, 1)) for end in (dice, *ends))
        return cut, low, high  # type: ignore[return-value]


def fit_line(estimates: Sequence[float], dice: Sequence[float]) -> Line:
    """Learn it from cases whose Dice is known, by least squares; from fewer than 5 cases the intercept alone."""
    x, y = np.asarray(estimates, dtype=float), np.asarray(dice, dtype=float)
    slope, spread = 1.0, float(((x - x.mean()) ** 2).sum()) if len(x) >= FEWEST else 0.0
    if spread:
        slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum()) / spread)
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(x) - 1 - (spread > 0)
    sd = math.sqrt(((y - intercept - slope * x) ** 2).sum() / freedom) if freedom > 0 else None
    return Line(slope, intercept, sd, len(x), float(x.mean()), spread)


def write_model_review(weights: Path, structures: Mapping[int, Mapping[str, Any]]) -> None:
    """Write ``review.json`` beside weights.

    Args:
        weights: their file; another one of this name is not what was reviewed.
        structures: id -> ``calibration``, a :class:`Line` or None; ``volume_ml``, mean and standard deviation of
            labelled cases, or None; ``pieces``, the most that one has; ``touches_border``, whether one does.
    """
    content = {str(label_id): {**facts, "calibration": _plain(facts)} for label_id, facts in structures.items()}
    write_result(weights.parent / KNOWLEDGE, {"weights": describe(weights), "structures": content})


def _plain(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if facts["calibration"] is None else asdict(facts["calibration"])


class ModelReview:
    """Says of segmentations how good they probably are, by what training left in ``review.json``.

    Args:
        folder: of the weights, ``model.pt``. Without a ``review.json`` of them estimates are raw, and have no interval.
        labels: ids of the structures -> names.
        voted: whether labelled cases vote: what was learned of the network alone does not hold for its estimate.
    """

    def __init__(self, folder: str | Path, labels: Mapping[str, str], voted: bool = False) -> None:
        self.folder, self.voted = Path(folder).expanduser(), voted
        self.names = {int(i): str(name) for i, name in sorted(labels.items(), key=lambda item: int(item[0])) if int(i)}
        self.known: dict[int, Known] = {}

    def read(self) -> None:
        """Read what training left, and tell where estimates will be raw.

        Raises:
            ValueError: the file is damaged.
        """
        path, weights = self.folder / KNOWLEDGE, self.folder / "model.pt"
        self.known = _read(path, weights) if path.is_file() else {}
        if self.voted:
            logger.info("%s: estimates are of the network and the vote together, which nothing calibrates", TABLE)
        elif not any(known.line for known in self.known.values()):
            logger.info("%s: estimates are not calibrated: no %s of validation cases is there", TABLE, path)

    def rows(self, cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """The table, the worst first: flagged ones, then by estimated Dice. To be called after :meth:`read`.

        Args:
            cases: case -> for each structure ``estimate``, ``agreement``, ``volume_ml``, ``pieces``,
                ``touches_border``, ``elongation``; None for what is not known.
        """
        rows = [
            self._row(case, label_id, found)
            for case, structures in cases.items()
            for label_id, found in zip(self.names, structures, strict=False)
        ]
        return sorted(rows, key=_best_last)

    def _row(self, case: str, label_id: int, found: Mapping[str, Any]) -> dict[str, Any]:
        known = self.known.get(label_id, Known())
        dice, low, high = found["estimate"], None, None
        if known.line and dice and not self.voted:  # where nothing was found, there is nothing to calibrate
            dice, low, high = known.line.at(dice)
        row = {
            "case": case,
            "structure": self.names[label_id],
            "estimated_dice": dice,
            "low": low,
            "high": high,
            "volume_ml": found["volume_ml"],
            "volume_z": None if known.volume is None else (found["volume_ml"] - known.volume) / known.steady,
            "pieces": found["pieces"],
            "touches_border": "yes" if found["touches_border"] else "no",
            "agreement": found["agreement"],
        }
        reasons = _reasons(row, known)
        row |= {"flag": "yes" if reasons else "no", "reason": "; ".join(reasons)}
        return row | {"elongation": found["elongation"], "label": label_id}


@dataclass(frozen=True)
class Known:
    """What training found out about a structure; None for what it could not.

    Args:
        line: from its estimated to its true Dice.
        volume, sd: of labelled cases, in ml.
        pieces: the most that a labelled case has.
        touches: whether labelled cases touch the border, too.
    """

    line: Line | None = None
    volume: float | None = None
    sd: float = 0.0
    pieces: float = math.inf
    touches: bool = False

    @property
    def steady(self) -> float:
        """The standard deviation, not below what a few cases could have by chance."""
        return max(self.sd, STEADIEST * (self.volume or 0), 1e-9)


def _read(path: Path, weights: Path) -> dict[int, Known]:
    content = read_json(path)
    try:
        known = {int(label_id): _known(facts) for label_id, facts in content["structures"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{path}' is damaged. Train anew, or remove it: then estimates are not calibrated."
        ) from error
    if not (weights.is_file() and describe(weights) == content.get("weights")):
        logger.warning("%s is of other weights than %s, and is not used", path, weights)
        return {}
    return known


def _known(facts: Mapping[str, Any]) -> Known:
    line, volume = facts["calibration"], facts["volume_ml"]
    numbers = {name: None if value is None else float(value) for name, value in (line or {}).items()}
    size = () if volume is None else (float(volume["mean"]), float(volume["sd"]))
    made = Known(None if line is None else Line(**numbers), *size)  # type: ignore[arg-type]
    return replace(made, pieces=int(facts["pieces"]), touches=bool(facts["touches_border"]))


def _best_last(row: Mapping[str, Any]) -> tuple[bool, float]:
    dice = row["estimated_dice"]
    return row["flag"] == "no", math.inf if dice is None else dice


def _reasons(row: Mapping[str, Any], known: Known) -> list[str]:
    """What is odd about a segmentation."""
    if not row["pieces"]:
        return ["nothing was found"]
    reasons = []
    if row["estimated_dice"] is not None and row["estimated_dice"] < LEAST:
        reasons.append(f"estimated Dice below {LEAST}")
    if row["agreement"] is not None and row["agreement"] < LEAST:
        reasons.append(f"network and vote agree by less than {LEAST}")
    if row["volume_z"] is not None and abs(row["volume_z"]) > FARTHEST:
        reasons.append(f"much {'larger' if row['volume_z'] > 0 else 'smaller'} than in labelled cases")
    if row["pieces"] > known.pieces:
        reasons.append(f"in {row['pieces']} pieces, in labelled cases at most {known.pieces}")
    if row["touches_border"] == "yes" and not known.touches:
        reasons.append("touches the border")
    return reasons
