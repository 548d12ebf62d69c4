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
"""Alternatives that are measured together: which there are, their processes, their turns."""

from __future__ import annotations

import logging
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from benchmarks.costs.alternatives import METHODS, config_files
from benchmarks.costs.builds import Child

logger = logging.getLogger("iteration")

WARM_UP = 3  # iterations that do not count
CAPTURED = ("compile", "cuda_graphs")  # entries of the config under which operations cannot be seen one by one


@dataclass
class Entry:
    """An alternative: a method of a build, with the entries of a variant.

    Args:
        method: one of METHODS.
        build: its name.
        variant: the text of its entries.
        entries: of the config, those that all have and those of the variant.
        left_out: why it is not measured.
        child: its process.
        turns: what was measured of each iteration.
        facts: what was counted.
    """

    method: str
    build: str
    variant: str
    entries: dict[str, Any]
    left_out: str = ""
    child: Child | None = None
    turns: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """All three, those that say nothing left out."""
        return " ".join(part for part in (self.method, self.variant, f"({self.build})") if part)


def parse_methods(methods: str | Sequence[str]) -> list[str]:
    """The methods of an option, with commas between.

    Raises:
        ValueError: one is unknown.
    """
    asked = methods.split(",") if isinstance(methods, str) else [*methods]
    if unknown := [method for method in asked if method not in METHODS]:
        raise ValueError(f"no method {', '.join(map(repr, unknown))}: expected some of {', '.join(METHODS)}.")
    return asked


def parse_variants(variants: str) -> dict[str, dict[str, Any]]:
    """Read ``"batch_size=4;amp=true,compile=true"``: entries by the text of each; the first is without any.

    Raises:
        ValueError: an entry has no value.
    """
    parsed: dict[str, dict[str, Any]] = {"": {}}
    for text in filter(None, (part.strip() for part in variants.split(";"))):
        pairs = [pair.partition("=") for pair in re.split(r",(?=[\w:]+=|$)", text)]  # values may hold some
        if bad := ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]:
            raise ValueError(
                f"--variants: '{bad[0]}' is no NAME=VALUE. Between entries of one ',', between variants ';'."
            )
        parsed[text] = {name.strip(): yaml.safe_load(value) for name, _, value in pairs}
    return parsed


def as_values(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a command line, on which ``false`` is a word that is true to Python."""
    words = {"true": True, "false": False, "null": None}
    return {key: words.get(value.lower(), value) if isinstance(value, str) else value for key, value in entries.items()}


def lay_out(
    methods: Sequence[str],
    variants: Mapping[str, Mapping[str, Any]],
    builds: Mapping[str, Path],
    dataset: str | None,
    entries: Mapping[str, Any],
) -> list[Entry]:
    """All alternatives. One that has an entry its build does not know is left out, with a message.

    Args:
        methods: of METHODS.
        variants: entries by name.
        builds: folders by name.
        dataset: a file of ``configs/data``, or None.
        entries: of the config, for all.

    Raises:
        ValueError: there is none to measure.
    """
    laid = []
    for method in methods:
        for text, variant in variants.items():
            for build, tree in builds.items():
                entry = Entry(method, build, text, {**as_values(entries), **variant})
                config = ConfigParser.load_config_files(config_files(tree / "bundle" / "configs", method, dataset))
                known = {key.split("::")[0] for key in config}
                if unknown := sorted(key for key in entry.entries if key.split("::")[0] not in known):
                    leave_out(entry, f"its config has no entry {', '.join(unknown)}")
                laid.append(entry)
    if all(entry.left_out for entry in laid):
        raise ValueError(f"nothing to measure: {laid[0].name}: {laid[0].left_out}.")
    return laid


def leave_out(entry: Entry, reason: str) -> None:
    """Do not measure it, and say so."""
    entry.left_out = reason
    logger.warning("%s is left out: %s", entry.name, reason)


def start(
    entries: Sequence[Entry], builds: Mapping[str, Path], common: Mapping[str, Any], folder: Path, stack: ExitStack
) -> dict[str, float]:
    """Start the children, as many at a time as there are processors.

    Args:
        entries: to be given their child, those that are not left out.
        builds: folder of each.
        common: what all setups share.
        folder: for their logs.
        stack: closes them.

    Returns:
        What the first of them measured of the machine (:func:`benchmarks.costs.counting.peaks`).
    """
    peaks: dict[str, float] = {}
    waiting: list[Entry] = []
    for number, entry in enumerate(entry for entry in entries if not entry.left_out):
        setup = {"bundle": str(builds[entry.build] / "bundle"), "method": entry.method, "entries": entry.entries}
        entry.child = Child({**common, **setup, "peaks": number == 0}, folder / f"{number}_{entry.method}.log")
        stack.callback(entry.child.close)
        waiting.append(entry)
        if len(waiting) >= (os.cpu_count() or 1):
            attempt(waiting.pop(0), lambda entry: peaks.update(entry.child.ready.get("peaks", {})))
    for entry in waiting:
        attempt(entry, lambda entry: peaks.update(entry.child.ready.get("peaks", {})))
    return peaks


def take_turns(entries: Sequence[Entry], repeats: int, warm_up: int = WARM_UP) -> None:
    """Run iterations in turn, in this order and then in reverse, and keep what each took.

    Args:
        entries: with their children; one that fails is left out from there on.
        repeats: iterations of each that count.
        warm_up: iterations before, which do not.
    """
    for entry in entries:
        attempt(entry, lambda entry: entry.child.ask(warm_up))
    for turn in range(repeats):
        for entry in entries if turn % 2 == 0 else reversed(entries):
            attempt(entry, _measure)


def _measure(entry: Entry) -> None:
    answer = entry.child.ask(1)
    entry.turns += answer["iterations"]
    for key in ("process_peak_mib", "peak_memory_mib"):
        if key in answer:
            entry.facts[key] = max(answer[key], entry.facts.get(key, 0))


def count(entries: Sequence[Entry], device: str) -> None:
    """Count an iteration of each: arithmetic and operations, and launches, on a GPU.

    One that is captured has the arithmetic and the bytes of the alternative that is so no further than in that.
    """
    captured = [entry for entry in entries if any(entry.entries.get(name) for name in CAPTURED)]
    for entry in entries:
        if entry not in captured:
            attempt(entry, lambda entry: entry.facts.update(entry.child.ask(1, "counts")["iterations"][0]))
        if device != "cpu":
            attempt(entry, _count_launches)
    for entry in captured:
        twin = next((other for other in entries if other not in captured and _seen(other) == _seen(entry)), None)
        entry.facts |= {key: twin.facts[key] for key in ("flops", "bytes_at_least") if twin and key in twin.facts}


def _seen(entry: Entry) -> tuple:
    return entry.method, entry.build, {key: v for key, v in entry.entries.items() if key not in CAPTURED}


def _count_launches(entry: Entry) -> None:
    found = entry.child.ask(3, "launches")["iterations"]
    entry.facts |= {key: statistics.median(row[key] for row in found) for key in found[0]}


def attempt(entry: Entry, step: Callable[[Entry], Any]) -> None:
    """Take a step with it, unless it is left out; one that fails is left out, and does not stop the others."""
    if entry.left_out:
        return
    try:
        step(entry)
    except (RuntimeError, BrokenPipeError) as error:
        leave_out(entry, f"{type(error).__name__}: {error}")
