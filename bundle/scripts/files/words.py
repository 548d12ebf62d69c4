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
"""Words of a command line and of YAML, and what they mean: numbers as YAML 1.2 has them, truths, names and values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

#: numbers that may be text to PyYAML, which goes by YAML 1.1: 1e-4, 1.0e4 and -.5, but not 1.0e-4
LATER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+|[-+]\.[0-9]+"
NUMBER = re.compile(rf"{LATER}|[-+]?[0-9]+\.[0-9]*|\.[0-9]+")
WHOLE = re.compile("[-+]?[0-9]+")
#: what is typed for null; Python Fire knows `None` alone, and MONAI leaves an option out that is None
NULLS = ("null", "None", "~", "")
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class _Loader(yaml.SafeLoader):
    """YAML to which 1e-4 is a number."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{LATER})$"), list("-+.0123456789"))


def number_of(value: Any) -> int | float | None:
    """The number that a value is, or that YAML 1.2 reads in a text; None if there is none. True is no number."""
    if isinstance(value, str):
        text = value.strip()
        if WHOLE.fullmatch(text):
            return int(text)
        return float(text) if NUMBER.fullmatch(text) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def missed_number(value: Any) -> float | None:
    """The number that YAML 1.2 reads in a text which YAML 1.1 has left as text, such as 1e-4; else None."""
    if not isinstance(value, str) or not re.fullmatch(LATER, value) or not isinstance(yaml.safe_load(value), str):
        return None
    return float(value)


def truth_of(value: Any) -> bool | None:
    """True or false as a value, or as a word in any case; None for anything else."""
    return TRUTHS.get(str(value).strip().lower())


def plain(text: str) -> Any:
    """What a YAML file would give for a text, where 1e-4 is a number; the text itself if it is no YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def unquoted(text: str) -> str:
    """A text without the quotes that are its first and its last letter."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def typed(arguments: Sequence[str]) -> dict[str, str]:
    """The options of a command line by name, as they were typed: Python Fire, which MONAI reads them by, takes a folder
    ``2024_01_15`` for a number, ``a,b`` for two values, and what follows a ``#`` for a comment.

    Args:
        arguments: such as ``sys.argv[1:]``; ``--name value``, ``--name=value``.

    Returns:
        Name -> text; the last one of several, as for Fire. Names of levels are separated by ``::``.
    """
    found, rest = {}, list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":  # what follows is for Fire itself
            break
        if not _is_flag(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            if not rest or _is_flag(rest[0]):
                continue  # a flag without a value, which Fire reads well
            value = rest.pop(0)
        found[name.replace("-", "_").replace("#", "::")] = value
    return found


def _is_flag(word: str) -> bool:
    return word.startswith("--") or re.match("-[a-zA-Z]", word) is not None
