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
"""Parts of documents that are made from their source: rooms, recipes, quantities, commands and their entries.

In a document they stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``; ``refresh.py`` puts them there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks import ROOT

CONFIGS = ROOT / "bundle" / "configs"
#: the commands of `deeprs`, and the configs whose entries each has beside those of `train`, or alone
COMMANDS = {
    "check": (),
    "plan": ("plan",),
    "train": ("train",),
    "evaluate": ("evaluate",),
    "segment": ("inference",),
    "register": ("register", "sequence"),
    "apply": ("apply",),
    "report": ("report",),
    "prepare": ("prepare",),
    "label": ("label",),
}
OVER_TRAINING = ("check", "plan", "evaluate", "label")
#: configs in which all but the first entries describe a model, and are replaced by its model.yaml
OF_MODELS = ("inference", "register")
_ENTRY = re.compile(r"^(?P<name>[a-z_]+): (?P<default>[^ {].*?)(?: {2,}# (?P<text>.+))?$")
_FURTHER = re.compile(r"^ {2,}# (.+)$")
#: where a sentence ends: not after "et al." or an initial
_SENTENCE = re.compile(r"(?<! al)(?<!Eq)(?<!\b[A-Z])\.(?=\s|$)")
#: of a publication, which the file itself has
_TITLE = re.compile(r':\s"[^"]+"')


def first_sentence(text: str) -> str:
    """The first sentence of a text, in one line."""
    text = " ".join(text.replace("``", "`").split())
    end = _SENTENCE.search(text)
    return text[: end.start()] if end else text


def rooms() -> str:
    """The rooms of ``bundle/scripts`` from the top floor down, as the contract of import-linter has them."""
    contract = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    layers = re.findall(r'"(\w+)"', contract)
    lines = [f"{name:<13} {_purpose(name)}" for name in layers]
    return "\n".join(["```text", *lines, "```"])


def _purpose(room: str) -> str:
    text = ast.get_docstring(ast.parse((ROOT / "bundle" / "scripts" / room / "__init__.py").read_text()))
    sentence = first_sentence(text or "")
    topic = sentence.split(":")[0]
    return topic if len(topic.split()) > 2 else sentence


def head(config: Path) -> str:
    """The first paragraph of the comment that a config begins with, in one line."""
    lines = []
    for line in config.read_text().splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


def recipes() -> str:
    """A line for each recipe: its name, and the first sentence of its file."""
    files = sorted((CONFIGS / "recipes").glob("*.yaml"))
    said = {
        file.stem: re.sub(r':\s"[^"]+"', "", first_sentence(head(file))) for file in files
    }  # titles are in the file
    return "\n".join(f"- `{name}`: {text}." for name, text in said.items())


def quantities() -> str:
    """A line for each quantity that a term may read: its name, and the first sentence of its docstring."""
    state = import_module("scripts.joint.state").PairState
    found = {name: value for name, value in vars(state).items() if isinstance(value, cached_property)}
    return "\n".join(f"- `{name}`: {first_sentence(value.__doc__ or '')}." for name, value in found.items())


def commands() -> str:
    """A part for each command: what it is called with, what it does, and its entries with their defaults.

    An entry that means what it meant in an earlier part is only named.
    """
    parts = []
    said: dict[str, str] = {}
    for name, configs in COMMANDS.items():
        lines = [f"## deeprs {name}", ""]
        if find_spec("deeprs.commands") is not None:
            command = import_module("deeprs.commands").COMMANDS[name]
            lines += [f"`deeprs {name} {command.usage}`: {command.about}", ""]
        rows = {entry: _row(entry, *rest) for config in configs for entry, *rest in _entries(config)}
        lines += [row for entry, row in rows.items() if said.get(entry) != row]
        known = [f"`{entry}`" for entry, row in rows.items() if said.get(entry) == row]
        known = ["all of `train`", *known] if name in OVER_TRAINING else known
        lines += [f"- as above: {', '.join(known)}"] if known else []
        said = {**rows, **said}
        parts.append("\n".join(lines).strip())
    return "\n\n".join(parts)


def _row(name: str, default: str, unit: str, text: str) -> str:
    shown = bool(default) and default[0] not in "$@%"  # an expression says nothing
    brackets = ", ".join([f"`{default}`"] * shown + [unit] * bool(unit))
    return f"- `{name}`" + (f" ({brackets})" if brackets else "") + (f": {text}".replace("<", "&lt;") if text else "")


def _entries(config: str) -> Iterator[tuple[str, str, str, str]]:
    """Name, default, unit and meaning of the entries of a config: by the table of entries, where there is one."""
    stated = list(_stated(CONFIGS / f"{config}.yaml"))
    if find_spec("scripts.files.entries") is None:
        yield from ((name, default, "", text) for name, default, text in stated)
        return
    defaults = {name: default for name, default, _ in stated}
    for name, entry in import_module("scripts.files.entries").load_entries(config, own=True).items():
        if name in defaults or config not in OF_MODELS:
            yield name, defaults.get(name, ""), entry.unit, entry.help.rstrip(".")


def _stated(config: Path) -> Iterator[list[str]]:
    """Name, default and comment of the entries of a config up to its first section of machinery."""
    found: list[list[str]] = []
    going_on = False
    for line in config.read_text().splitlines():
        if found and (line.startswith("# ---") or line.endswith(":")):
            break
        if entry := _ENTRY.match(line):
            found.append([entry["name"], entry["default"].strip('"'), entry["text"] or ""])
        elif (further := _FURTHER.match(line)) and going_on:
            found[-1][2] += f" {further[1]}"
        going_on = bool(entry) or (going_on and bool(_FURTHER.match(line)))
    return iter(found)


PARTS: dict[str, Callable[[], str]] = {
    "rooms": rooms,
    "recipes": recipes,
    "quantities": quantities,
    "commands": commands,
}
_GENERATED = re.compile(r"(?P<head><!-- generated: (?P<part>\w+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """A document with its generated parts as their sources have them now.

    Args:
        text: Markdown.
    """
    return _GENERATED.sub(lambda found: f"{found['head']}\n{PARTS[found['part']]()}\n\n{found['tail']}", text)
