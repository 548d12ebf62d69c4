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
"""The text of a plan: an overlay as a person would write it, with what led to each entry above it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from ..files.marks import KEY, written_by
from .budget import Budget
from .choose import Setting
from .fingerprint import Fingerprint

__all__ = ["fingerprint_table", "plan_text"]

WIDTH = 118
NAMED = 20  # structures in the table


def plan_text(
    fingerprint: Fingerprint, settings: Mapping[str, Setting], kept: Sequence[str], expected: str, budget: Budget
) -> str:
    """An overlay of ``train.yaml``.

    Args:
        fingerprint: of the cases; its table stands at the top.
        settings: entries.
        kept: entries that another config has, and the plan leaves to it.
        expected: what the training comes to, in a line.
        budget: what it was made for.
    """
    head = [
        "A plan for these data, made by `deeprs plan`: an overlay of train.yaml, to be changed as you like.",
        f"{KEY} {written_by()}",
        "",
        f"budget    {budget.memory:.3g} GiB, {budget.minutes:g} minutes",
        f"expected  {expected}",
        "",
        *fingerprint_table(fingerprint),
    ]
    lines = [f"# {line}".rstrip() for line in head]
    for name, setting in settings.items():
        lines += ["", *_comment(setting.reason), *_entry(name, setting.value)]
    if kept:
        lines += ["", *_comment(f"left as another config has it: {', '.join(kept)}")]
    return "\n".join(lines) + "\n"


def fingerprint_table(fingerprint: Fingerprint) -> list[str]:
    """What was found in the data, line by line."""
    f = fingerprint
    rows = {
        "cases": f"{f.cases}, {f.labeled} of them with a label; test cases are not looked at",
        "shape": f"{_by(f.shape)} voxels in the middle; the largest image {_by(f.extent)} mm",
        "spacing": f"{_by(f.spacing)} mm " + ("of every file" if f.is_uniform else "in the middle"),
        "intensity": f"{f.values[0]:.5g} to {f.values[1]:.5g}; foreground {_list(f.foreground)} (0.5, 50, 99.5 %); "
        f"{f.background:.0%} at the lowest value",
    }
    if f.labeled:
        rows["labels"] = f"reach {_by(f.reach)} mm from the middle, {_by(f.border)} mm at least from the border"
        rows["centres"] = f"{_by(f.spread)} mm from their mean places along the axes, laid centre on centre"
    lines = [f"{name:<10}{text}" for name, text in rows.items()]
    if f.volumes:
        width = max(map(len, f.volumes))
        lines += ["", f"{'structure':<{max(width, 9)}}  volume (ml): median  smallest  apart (mm)"]
    smallest = sorted(f.volumes, key=lambda name: f.volumes[name][1])
    for name in smallest[:NAMED]:
        middle, least = (volume / 1000 for volume in f.volumes[name])
        lines.append(f"{name:<{max(width, 9)}}  {middle:>19.3g}  {least:>8.3g}  {f.apart[name]:>10.3g}")
    return lines + ([f"and {len(smallest) - NAMED} larger ones"] if len(smallest) > NAMED else [])


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ")


def _entry(name: str, value: Any) -> Iterator[str]:
    """A line, or for a mapping as many as it has."""
    if not isinstance(value, Mapping):
        yield f"{name}: {_flow(value)}"
        return
    dumped = yaml.safe_dump({name: value}, sort_keys=False, default_flow_style=None, width=WIDTH)
    yield from dumped.rstrip().splitlines()


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=WIDTH).strip().removesuffix("...").strip()


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
