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
"""How each kind of entry in ``entries.yaml`` is read: a value becomes what it means, or is refused with what to do."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .entry import Entry
from .words import number_of, truth_of

_ID = re.compile("[0-9]+")


class Misread(Exception):
    """A value is not what an entry takes.

    Args:
        hint: what to write instead, as a sentence after a space.
        found: the part of the value that is wrong, where it is not all of it.
    """

    def __init__(self, hint: str = "", found: Any = None) -> None:
        self.hint, self.found = hint, found


def is_left_alone(value: Any, kind: str) -> bool:
    """Whether MONAI makes something else of a value: an expression, a reference, a component, or what holds one."""
    if isinstance(value, str):
        return value.startswith(("$", "@", "%"))
    if isinstance(value, Mapping):
        component = "_target_" in value and kind != "augmentation"
        return component or any(isinstance(v, str) and is_left_alone(v, kind) for v in value.values())
    return isinstance(value, list | tuple) and any(isinstance(v, str) and is_left_alone(v, kind) for v in value)


def _numbers(entry: Entry, value: Any) -> Any:
    values = _listed(value)
    if entry.length is None or (entry.or_one and values is None):
        return _number(entry, value)
    if values is None or len(values) != entry.length:
        raise Misread(f" Write a list such as [{', '.join(['1'] * entry.length)}].")
    return [_number(entry, each) for each in values]


def _number(entry: Entry, value: Any) -> int | float:
    number = number_of(value)
    if number is None or not math.isfinite(number):
        raise Misread()
    if entry.kind == "whole":
        if number != int(number):
            raise Misread()
        number = int(number)
    too_low = (entry.least is not None and number < entry.least) or (entry.above is not None and number <= entry.above)
    if too_low or (entry.most is not None and number > entry.most):
        raise Misread()
    return number


def _listed(value: Any) -> list | None:
    """The values of a list, which may be typed as `1,2,3` or `[1, 2, 3]`; None for a single one."""
    if isinstance(value, str) and "," in value:
        return [part.strip() for part in value.strip().removeprefix("[").removesuffix("]").split(",")]
    return list(value) if isinstance(value, list | tuple) else None


def _interval(entry: Entry, value: Any) -> list:
    values = _listed(value) or []
    ends = [_number(entry, each) for each in values]
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise Misread()
    return ends


def _truth(entry: Entry, value: Any) -> bool:
    if (truth := truth_of(value)) is None:
        raise Misread()
    return truth


def _word(entry: Entry, value: Any) -> str:
    if value not in entry.choices:
        close = difflib.get_close_matches(str(value), entry.choices, n=1)
        raise Misread(f" Did you mean `{close[0]}`?" if close else "")
    return value


def _words(entry: Entry, value: Any) -> list[str]:
    words = _listed(value)
    words = [value] if words is None else words
    if not words:
        raise Misread()
    return [_word(entry, word) for word in words]


def _text(entry: Entry, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, list | tuple | set | Mapping):
        raise Misread(" A comma or bracket that belongs to it needs quotes within quotes: \"'a,b'\".")
    if not isinstance(value, str):
        raise Misread(" It was read as a value: put it in quotes, on a command line in two: \"'...'\".")
    if not value.strip():
        raise Misread()
    return value


def _rule(entry: Entry, value: Any) -> str:
    text = _text(entry, value)
    if text.count("*") != 1:
        raise Misread(" The star stands for the case; put it in quotes, or the shell replaces it.")
    if "/" in text:
        raise Misread(" It is a name alone, without folders.")
    return text


def _path(entry: Entry, value: Any) -> str:
    path = os.path.expanduser(_text(entry, value))
    if path.startswith("~"):
        raise Misread(f" There is no such user; a name that begins so is written ./{path}.")
    return path


def _paths(entry: Entry, value: Any) -> str | list[str]:
    listed = isinstance(value, list | tuple)
    if entry.fewest > 1 and (not listed or len(value) < entry.fewest):
        raise Misread(" Write a list such as \"['a','b']\".")
    if listed and not value:
        raise Misread()
    return [_step(entry, each) for each in value] if listed else _step(entry, value)


def _step(entry: Entry, value: Any) -> Any:
    if entry.kind == "transforms" and isinstance(value, Mapping) and set(value) == {"inverse"}:
        return {"inverse": _path(entry, value["inverse"])}
    return _path(entry, value)


def _axes(entry: Entry, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[RLAPSI]{3}", value):
        raise Misread()
    if len({"RLAPSI".index(letter) // 2 for letter in value}) < 3:
        raise Misread(" Two of its letters are of one axis.")
    return value


def _labels(entry: Entry, value: Any) -> Mapping:
    hint = ' Write {"1": anterior, "2": posterior}.'
    if not isinstance(value, Mapping) or not all(_ID.fullmatch(str(key)) for key in value):
        raise Misread(hint)
    if not any(int(key) > 0 for key in value):
        raise Misread(hint)
    for name in value.values():
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            raise Misread(" It is the name of a structure, a text: write it in quotes.", found=name)
    names = [str(name) for key, name in value.items() if int(key) > 0]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise Misread(f" {repeated[0]!r} is the name of several.")
    return value


def _ids(entry: Entry, value: Any) -> Mapping:
    if not isinstance(value, Mapping):
        raise Misread(' Write {"421": 420}.')
    for id_ in (*value, *value.values()):
        if isinstance(id_, bool) or not _ID.fullmatch(str(id_)):
            raise Misread(" It is an id of a label file, a whole number.", found=id_)
    return value


def _device(entry: Entry, value: Any) -> Any:
    if isinstance(value, int):
        raise Misread(f" Write cuda:{int(value)}.")
    if isinstance(value, str) and not re.fullmatch("(cpu|cuda|mps|xpu)(:[0-9]+)?", value):
        raise Misread(" A GPU is cuda." if value.lower().startswith("gpu") else "")
    return value  # a torch.device, where a program has put one


def _augmentation(entry: Entry, value: Any) -> Any:
    if not isinstance(value, Mapping | list):
        raise Misread(" It is a component of MONAI, such as that of run/light_augmentation.yaml.")
    for key in _keys_in(value):
        if key not in entry.choices:
            close = difflib.get_close_matches(str(key), entry.choices, n=1)
            raise Misread(f" Did you mean `{close[0]}`?" if close else "", found=key)
    return value


def _keys_in(content: Any) -> Iterator[Any]:
    """What the transforms in a config are told to work on."""
    if isinstance(content, Mapping):
        keys = content.get("keys", ()) if "_target_" in content else ()
        if not is_left_alone(keys, ""):
            yield from [keys] if isinstance(keys, str) else keys
    if isinstance(content, Mapping | list):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _keys_in(part)


READERS: dict[str, Callable[[Entry, Any], Any]] = {
    "number": _numbers,
    "whole": _numbers,
    "interval": _interval,
    "truth": _truth,
    "word": _word,
    "words": _words,
    "text": _text,
    "rule": _rule,
    "path": _path,
    "paths": _paths,
    "transforms": _paths,
    "axes": _axes,
    "labels": _labels,
    "ids": _ids,
    "device": _device,
    "augmentation": _augmentation,
}


def read(entry: Entry, value: Any, resolved: bool = False) -> Any:
    """What a value means to an entry: ``1e-4`` is a number, ``~`` the home, ``false`` is false.

    Args:
        entry: what it is a value of.
        value: as a YAML file or Python Fire gives it. An expression or reference of MONAI stays as it is.
        resolved: MONAI has been through: what looks like a reference is none.

    Raises:
        ValueError: it is none that the entry takes; says what it takes, what was found, and what to write.
    """
    if (value is None and entry.may_be_null) or (not resolved and is_left_alone(value, entry.kind)):
        return value
    try:
        return READERS[entry.kind](entry, value)
    except Misread as misread:
        found = repr(value if misread.found is None else misread.found)
        found = found if len(found) <= 80 else f"{found[:77]}..."
        raise ValueError(f"{entry.name}: expected {entry.expected}, found {found}.{misread.hint}") from None
