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
"""From rows of scores to means, tables and files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.writing import replacing

OVERLAPS = ("dice", "hd95", "asd")


def summarise(
    rows: Sequence[Mapping[str, Any]], case: Sequence[str], structures: Sequence[str], prefix: str = ""
) -> dict[str, Any]:
    """Mean and SD over cases of the mean over structures, and the same for each structure.

    Args:
        rows: a row for each case and structure.
        case: the columns that name a case.
        structures: names, in the order they are to have.
        prefix: of the columns that are summarised.

    Returns:
        ``n`` and, for each measure, ``mean``, ``std``, ``n`` and ``per_structure``.
    """
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in case), []).append(row)
    summary: dict[str, Any] = {"n": len(groups)}
    for measure in OVERLAPS:
        key = prefix + measure
        summary[measure] = {
            **mean_std([mean([row[key] for row in group]) for group in groups.values()]),
            "per_structure": {
                name: mean_std([row[key] for row in rows if row["structure"] == name]) for name in structures
            },
        }
    return summary


def summarise_registration(
    rows: Sequence[Mapping[str, Any]], landmarks: Sequence[Mapping[str, Any]], structures: Sequence[str]
) -> dict[str, Any]:
    """What a registration reached, and what doing nothing would have.

    Args:
        rows: a row for each pair and structure; folding and time are those of the pair, in each of its rows.
        landmarks: a row for each landmark of the pairs that have any.
        structures: names, in the order they are to have.

    Returns:
        ``registration`` and ``identity``, as :func:`summarise` gives them, with ``tre`` where there are landmarks.
    """
    summary, identity = (summarise(rows, ("moving", "fixed"), structures, prefix) for prefix in ("", "identity_"))
    pairs = {(row["moving"], row["fixed"]): row for row in rows}.values()
    for key in ("folding_percent", "sdlogj", "seconds"):
        summary[key] = mean_std([row[key] for row in pairs])
    if landmarks:
        summary["tre"] = summarise_landmarks(landmarks, "tre")
        identity["tre"] = summarise_landmarks(landmarks, "identity_tre")
    return {"registration": summary, "identity": identity}


def summarise_landmarks(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, Any]:
    """Mean and SD over pairs of the mean over their landmarks; ``n`` counts pairs, ``landmarks`` their landmarks.

    Args:
        rows: as ``Landmarks.score`` gives them, of all pairs.
        column: ``tre`` or ``identity_tre``.
    """
    pairs: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        pairs.setdefault((row["moving"], row["fixed"]), []).append(row[column])
    worst = max((row[column] for row in rows), default=math.nan)
    return {
        **mean_std([mean(values) for values in pairs.values()]),
        "landmarks": len(rows),
        "max": worst if math.isfinite(worst) else None,
    }


def write_examples(folder: Path, task: str, examples: Sequence[Mapping[str, Any]]) -> None:
    """Write the worst, the median and the best case of a task as ``examples/<task>_<rank>.npz``; none: remove those."""
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    for rank, example in itertools.zip_longest(("worst", "median", "best"), examples):
        path = folder / "examples" / f"{task}_{rank}.npz"
        if example is None:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **example)


def format_table(metrics: Mapping[str, Any]) -> str:
    """The figures as a table for the terminal: a row for each task and structure."""
    titles = {"segmentation": "segmentation", "registration": "registration", "identity": "no registration"}
    width = max(len(name) for name in (*titles.values(), *metrics["structures"])) + 2
    lines = [" " * width + "".join(f"{title:>20s}" for title in ("Dice", "HD95 mm", "ASD mm")) + f"{'n':>6s}"]
    for key, title in titles.items():
        if key not in metrics:
            continue
        table = metrics[key]
        lines.append(_line(title.ljust(width), [table[measure] for measure in OVERLAPS], table["dice"]["n"]))
        for name in metrics["structures"]:
            values = [table[measure]["per_structure"][name] for measure in OVERLAPS]
            lines.append(_line(f"  {name}".ljust(width), values, values[0]["n"]))
        if "folding_percent" in table:
            lines.append(
                f"  folding {table['folding_percent']['mean']:.4f} %, SD log J {table['sdlogj']['mean']:.3f}, "
                f"{table['seconds']['mean']:.2f} s a pair"
            )
        if "tre" in table:
            tre = table["tre"]
            found = f"{tre['landmarks']} landmarks in {tre['n']} pairs"
            lines.append(f"  TRE {tre['mean']:.3f} +- {tre['std']:.3f} mm, at most {tre['max']:.3f} mm: {found}")
    return "\n".join(lines)


def _line(title: str, values: Sequence[Mapping[str, Any]], n: int) -> str:
    cells = [f"{v['mean']:.3f} +- {v['std']:.3f}" if v["n"] else "-" for v in values]
    return title + "".join(f"{cell:>20s}" for cell in cells) + f"{n:>6d}"


def mean(values: Sequence[float]) -> float:
    """Mean of the values that exist, NaN when none does."""
    existing = [v for v in values if math.isfinite(v)]
    return sum(existing) / len(existing) if existing else math.nan


def mean_std(values: Sequence[float]) -> dict[str, Any]:
    """Mean and population SD over the values that exist, and how many those are; None where there is none."""
    existing = np.array([v for v in values if math.isfinite(v)])
    if not existing.size:
        return {"mean": None, "std": None, "n": 0}
    return {"mean": float(existing.mean()), "std": float(existing.std()), "n": int(existing.size)}
