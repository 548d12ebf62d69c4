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
"""Text that comes from data, as an entry of a config: MONAI must not take it for a program."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

#: what MONAI acts upon in a config; and lone surrogates, of paths that are no Unicode, which no text file can hold
MEANS_SOMETHING = re.compile(r"[$@%#\ud800-\udfff]|::")
COMPONENT = "scripts.files.from_json"


def literal(value: Any) -> Any:
    """A value as an entry of a config that gives this very value, whatever characters are in it.

    In a config, MONAI runs text that begins with ``$``, replaces what begins with ``@`` or ``%`` by other entries or
    files, and makes ``::`` of every ``#``. Names and paths may have these characters. So a value that has them is
    written as JSON in which they are escaped, and a component reads it.

    Args:
        value: what JSON can hold, such as a path or the names of structures.

    Returns:
        The value itself where MONAI leaves it alone, else the component.

    >>> literal("liver"), literal("$liver")
    ('liver', {'_target_': 'scripts.files.from_json', 'text': '"\\u0024liver"'})
    """
    if not _means_something(value):
        return value
    text = MEANS_SOMETHING.sub(lambda found: "".join(f"\\u{ord(one):04x}" for one in found[0]), json.dumps(value))
    return {"_target_": COMPONENT, "text": text}


def from_json(text: str) -> Any:
    """What a text in JSON says; a config names it for a :func:`literal`."""
    return json.loads(text)


def is_literal(entry: Any) -> bool:
    """Whether an entry of a config is such a component, and no more than that."""
    return (
        isinstance(entry, Mapping)
        and entry.keys() == {"_target_", "text"}
        and entry["_target_"] == COMPONENT
        and isinstance(entry["text"], str)
        and not MEANS_SOMETHING.search(entry["text"])
    )


def _means_something(value: Any) -> bool:
    if isinstance(value, str):
        return MEANS_SOMETHING.search(value) is not None
    if isinstance(value, Mapping):
        return any(str(key).startswith(("_", "+")) or _means_something(str(key)) for key in value) or any(
            map(_means_something, value.values())
        )
    return isinstance(value, list | tuple) and any(map(_means_something, value))
