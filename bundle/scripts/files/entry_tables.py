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
"""The entries of the commands as tables of Markdown, for the reference among the documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from .entries import COMMANDS, default_values, load_entries
from .entry import Entry

__all__ = ["markdown_table"]

_COLUMNS = ("Entry", "Default", "Takes", "Unit", "Meaning")


def markdown_table(commands: Sequence[str] = COMMANDS) -> str:
    """What the configs of commands take: name, default, type and limits, unit, and meaning of each entry.

    Args:
        commands: names of configs such as ``train``. Entries of the config that one lies over are not repeated.

    Returns:
        For each a line that names the config, and a table; the same text for the same files.
    """
    return "\n\n".join(f"**`configs/{command}.yaml`**\n\n{_table(command)}" for command in commands) + "\n"


def _table(command: str) -> str:
    defaults = default_values(command)
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    for name, entry in load_entries(command, own=True).items():
        rows.append((f"`{name}`", _default(name, defaults), _takes(entry), entry.unit, entry.help))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _takes(entry: Entry) -> str:
    return entry.form + (", or null" if entry.may_be_null else "")


def _default(name: str, defaults: dict[str, Any]) -> str:
    value = defaults.get(name)
    if isinstance(value, str) and (folder := re.fullmatch(r"\$@bundle_root \+ '/(.*)'", value)):
        return f"`{folder[1]}` of the bundle"
    if isinstance(value, str) and re.fullmatch(r"@\w+", value):
        return f"`{value[1:]}`"
    if name not in defaults or str(value).startswith("$") or (isinstance(value, dict) and "_target_" in value):
        return ""
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=200).splitlines()[0]}`"
