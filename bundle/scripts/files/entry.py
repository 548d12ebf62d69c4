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
"""One entry of a config: what it takes, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass

_COUNTS = {1: "a", 2: "two", 3: "three"}


@dataclass(frozen=True)
class Entry:
    """What one entry of a config takes.

    Args:
        name: of the entry.
        kind: as ``entries.yaml`` lists them.
        help: a sentence on what it does.
        unit: such as mm; empty where it has none.
        least, most: limits, which are allowed themselves.
        above: a limit that is not.
        choices: the words that it may be, or the names that may occur in it.
        length: how many values are listed.
        or_one: a single value stands for all of the list.
        fewest: how many paths there are at least.
        may_be_null: null is a value of it.
    """

    name: str
    kind: str
    help: str
    unit: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    or_one: bool = False
    fewest: int = 1
    may_be_null: bool = False

    @property
    def is_word(self) -> bool:
        """Whether it takes a word as it was typed: what looks like a number is none here."""
        return self.kind in ("text", "rule", "path", "paths", "transforms", "word", "device", "axes")

    @property
    def expected(self) -> str:
        """What it takes in words, with its limits and unit."""
        return self.form + (f" ({self.unit})" if self.unit else "") + (", or null" if self.may_be_null else "")

    @property
    def form(self) -> str:
        """The same without unit and null."""
        if self.kind in ("number", "whole"):
            return self._numbers()
        return {
            "truth": "true or false (or yes, no, 1, 0)",
            "word": f"one of {list(self.choices)}",
            "words": f"one of {list(self.choices)} or both",
            "text": "a text",
            "rule": "a file name with one star",
            "path": "a path",
            "paths": "a path or a list of them" if self.fewest == 1 else f"a list of {self.fewest} paths or more",
            "transforms": "a path, or a list of paths and of {inverse: path}",
            "interval": "two numbers, the lower one first",
            "axes": "three letters, of R or L, A or P, S or I, such as RAS",
            "labels": "{id: name}, ids from 0, each with a name of its own",
            "ids": "{id: id}",
            "device": "cpu, cuda, mps or xpu, or with a number such as cuda:1",
            "augmentation": f"transforms whose `keys` are among {list(self.choices)}",
        }[self.kind]

    def _numbers(self) -> str:
        count, whole = self.length or 1, "whole " if self.kind == "whole" else ""
        limits = [f"above {self.above}"] if self.above is not None else []
        if self.least is not None:
            limits.append(f"from {self.least}" if self.most is not None else f"of at least {self.least}")
        limits += [f"to {self.most}"] if self.most is not None else []
        one = "one or " if self.or_one else ""
        return " ".join([f"{one}{_COUNTS[count]} {whole}number{'s' if count > 1 else ''}", *limits])
