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

OVERLAPS = ("dice", "hd95", "asd", "surface_dice_1", "surface_dice_2")
DISTANCES = ("hd95", "asd")  # what a structure that was missed, or invented, does not have
FIELD_MEASURES = ("folding_percent", "sdlogj", "seconds")
TITLES = ("Dice", "HD95 mm", "ASD mm", "surface Dice 1", "surface Dice 2")  # of the columns at a terminal


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
        ``n`` and, for each measure, ``mean``, ``std``, ``n``, ``per_structure``, and ``values``: over how many
        structures of all cases. A structure that was missed, or invented, has Dice and surface Dice 0 and no distance.
    """
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in case), []).append(row)
    summary: dict[str, Any] = {"n": len(groups)}
    for measure in OVERLAPS:
        key = prefix + measure
        summary[measure] = {
            **mean_std([mean([row.get(key, math.nan) for row in group]) for group in groups.values()]),
            "values": sum(math.isfinite(row.get(key, math.nan)) for row in rows),
            "per_structure": {
                name: mean_std([row.get(key, math.nan) for row in rows if row["structure"] == name])
                for name in structures
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
        ``registration`` and ``identity``, as :func:`summarise` gives them, with ``tre`` where there are landmarks, and
        with ``local_ncc``; ``similarity_worse`` counts the pairs that registration made less alike.
    """
    summary, identity = (summarise(rows, ("moving", "fixed"), structures, prefix) for prefix in ("", "identity_"))
    pairs = {(row["moving"], row["fixed"]): row for row in rows}.values()
    for key in FIELD_MEASURES:
        summary[key] = mean_std([row[key] for row in pairs])
    if any(math.isfinite(row.get("local_ncc_after", math.nan)) for row in pairs):  # 0.6.1 did not measure it
        summary["local_ncc"] = mean_std([row["local_ncc_after"] for row in pairs])
        identity["local_ncc"] = mean_std([row["local_ncc_before"] for row in pairs])
        summary["similarity_worse"] = sum(row["similarity_worse"] == 1 for row in pairs)
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


def share_defined(table: Mapping[str, Any], measure: str, structure: str | None = None) -> str:
    """Over how many values a figure is, where those of Dice are more: ``3 of 4``; nothing where they are as many.

    Args:
        table: of a task, as :func:`summarise` makes it.
        measure: of ``OVERLAPS`` only the distances can be over fewer.
        structure: its name; None is the mean over the structures: how many of all cases there are.
    """
    found, expected = (_values(table.get(each, {}), structure) for each in (measure, "dice"))
    return f"{found} of {expected}" if measure in DISTANCES and found != expected else ""


def _values(figures: Mapping[str, Any], structure: str | None) -> int:
    per_structure = figures.get("per_structure", {})
    counted = [per_structure.get(structure, {})] if structure is not None else per_structure.values()
    return sum(each.get("n", 0) for each in counted)


def format_table(metrics: Mapping[str, Any]) -> str:
    """The figures as a table for the terminal: a row for each task and structure."""
    titles = {"segmentation": "segmentation", "registration": "registration", "identity": "no registration"}
    lines: list[tuple[str, ...] | str] = [("", *TITLES, "n")]
    for key, title in titles.items():
        if key not in metrics:
            continue
        table = metrics[key]
        lines.append((title, *(_cell(table, measure) for measure in OVERLAPS), str(table["dice"]["n"])))
        for name in metrics["structures"]:
            n = table["dice"]["per_structure"][name]["n"]
            lines.append((f"  {name}", *(_cell(table, measure, name) for measure in OVERLAPS), str(n)))
        lines += _notes(table)
    rows = [line for line in lines if not isinstance(line, str)]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))

    def aligned(line: tuple[str, ...] | str) -> str:
        if isinstance(line, str):
            return line
        return line[0].ljust(first) + "".join(
            cell.rjust(width + 3) for cell, width in zip(line[1:], others, strict=True)
        )

    text = [aligned(line) for line in lines]
    if any(" of " in cell for row in rows for cell in row[1:]):
        text.append(
            "(k of n): a structure that was missed, or found where there is none, has no distance; its Dice and "
            "surface Dice are 0."
        )
    return "\n".join(text)


def _cell(table: Mapping[str, Any], measure: str, structure: str | None = None) -> str:
    figures = table.get(measure, {"n": 0, "per_structure": {}})
    figures = figures if structure is None else figures["per_structure"].get(structure, {"n": 0})
    shown = f"{figures['mean']:.3f} +- {figures['std']:.3f}" if figures["n"] else "-"
    share = share_defined(table, measure, structure) if measure in table else ""
    return f"{shown} ({share})" if share else shown


def _notes(table: Mapping[str, Any]) -> list[str]:
    """What stands below the rows of a task: of its fields, and of its landmarks."""
    notes = []
    if "folding_percent" in table:
        notes.append(
            f"  folding {table['folding_percent']['mean']:.4f} %, SD log J {table['sdlogj']['mean']:.3f}, "
            f"{table['seconds']['mean']:.2f} s a pair"
        )
    if "similarity_worse" in table:
        ncc, worse = table["local_ncc"], table["similarity_worse"]
        notes.append(f"  local NCC {ncc['mean']:.3f}, lower than without registration in {worse} of {ncc['n']} pairs")
    if "tre" in table:
        tre = table["tre"]
        found = f"{tre['landmarks']} landmarks in {tre['n']} pairs"
        notes.append(f"  TRE {tre['mean']:.3f} +- {tre['std']:.3f} mm, at most {tre['max']:.3f} mm: {found}")
    return notes


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
