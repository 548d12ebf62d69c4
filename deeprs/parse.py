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

"""From the words of a command line to a call: which command, with what, and the values as what they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from .mistakes import Mistake

__all__ = ["Call", "SWITCHES", "TRUTHS", "is_expression", "parse", "read_value"]

#: entries that are true where they stand without a value: ``--resume``
SWITCHES = frozenset({"resume", "amp", "report", "inverse", "align_region"})
FLAGS = ("help", "show", "traceback")
ALIASES = {"out": "output_dir", "data": "dataset_dir"}
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}


@dataclass
class Call:
    """The words of a command line, sorted.

    Args:
        words: those that belong to no option, in their order.
        options: entry -> texts, one for each time it was given; None stands for no text.
        files: (``config`` or ``recipe``, name), in their order.
        model: the folder of a training, or its ``model.yaml``.
        flags: ``help``, ``show``, ``traceback``, where given.
    """

    words: list[str] = field(default_factory=list)
    options: dict[str, list[str | None]] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)
    model: str | None = None
    flags: set[str] = field(default_factory=set)


def parse(arguments: Sequence[str]) -> Call:
    """Sort the words behind the name of a command.

    Raises:
        Mistake: an option that stands for a file has none.
    """
    call, waiting = Call(), list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            call.words += waiting
            break
        if word in ("-h", "--help"):
            call.flags.add("help")
        elif word.startswith("--"):
            _add_option(call, word[2:], waiting)
        elif re.match("-[A-Za-z]", word):
            raise Mistake(f"{word}: options begin with two hyphens.")
        else:
            call.words.append(word)
    return call


def _add_option(call: Call, word: str, waiting: list[str]) -> None:
    name, has_text, text = word.partition("=")
    name = ALIASES.get(name, name).replace("-", "_")
    if name in FLAGS and not has_text:
        call.flags.add(name)
        return
    value: str | None = text if has_text else None
    follows = waiting and not (waiting[0].startswith("--") or waiting[0] == "-h")
    if not has_text and follows and (name not in SWITCHES or waiting[0].lower() in TRUTHS):
        value = waiting.pop(0)
    if name in ("config", "recipe", "model"):
        if not value:
            raise Mistake(f"--{name} needs a {'folder' if name == 'model' else 'name'} behind it.")
        if name == "model":
            call.model = value
        else:
            call.files.append((name, value))
    else:
        call.options.setdefault(name, []).append(value)


def is_expression(value: Any) -> bool:
    """Whether MONAI computes it: ``$...``, ``@...``, ``%...``."""
    return isinstance(value, str) and value[:1] in ("$", "@", "%")


def read_value(text: str, default: Any = None) -> Any:
    """What a text of the command line stands for: a literal of Python, or of YAML, or itself.

    Args:
        text: ``100``, ``1e-4``, ``[1, 1, 1]``, ``1,1,1``, ``{1: liver}``, ``true``, ``null``, ``window``.
        default: the value of the entry that it replaces: in the place of a text, a text is left as it is.
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if is_expression(text) or (isinstance(default, str) and not is_expression(default)):
        return text
    if isinstance(default, list) and "," in text and text[0] not in "[{":
        text = f"[{text}]"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = _read_yaml(text)
    value = list(value) if isinstance(value, tuple) else value
    return value if isinstance(value, (str, int, float, list, dict)) else text


def _read_yaml(text: str) -> Any:
    if text[:1] not in ("[", "{"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
