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
"""Parts of documents that are made from their source: rooms, recipes, quantities, entries of configs, help of commands.

In a document they stand between ``<!-- generated: NAME -->`` and ``<!-- end -->``; ``refresh.py`` puts them there.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from benchmarks import ROOT

CONFIGS = ROOT / "bundle" / "configs"
#: the configs whose entries a user sets, and what each is for
OF_USERS = {
    "train.yaml": "check, train, evaluate",
    "evaluate.yaml": "evaluate, too",
    "inference.yaml": "segment",
    "register.yaml": "register",
    "sequence.yaml": "register many pairs",
    "apply.yaml": "apply",
    "report.yaml": "report",
    "prepare.yaml": "prepare",
    "label.yaml": "label",
}
COMMANDS = ("check", "train", "evaluate", "segment", "register", "apply", "report", "prepare", "label", "recipes")
_ENTRY = re.compile(r"^(?P<name>[a-z_]+): (?P<default>[^ {].*?)(?: {2,}# (?P<text>.+))?$")
_FURTHER = re.compile(r"^ {2,}# (.+)$")
#: where a sentence ends: not after "et al." or an initial
_SENTENCE = re.compile(r"(?<! al)(?<!\b[A-Z])\.(?=\s|$)")


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
    return "\n".join(f"- `{file.stem}`: {first_sentence(head(file))}." for file in files)


def quantities() -> str:
    """A line for each quantity that a term may read: its name, and the first sentence of its docstring."""
    state = import_module("scripts.joint.state").PairState
    found = {name: value for name, value in vars(state).items() if isinstance(value, cached_property)}
    return "\n".join(f"- `{name}`: {first_sentence(value.__doc__ or '')}." for name, value in found.items())


def entries() -> str:
    """The entries at the head of each config: name, default, and what stands beside them."""
    parts = []
    for name, use in OF_USERS.items():
        rows = [
            f"- `{entry}` (`{default}`)" + (f": {text}".replace("<", "&lt;") if text else "")
            for entry, default, text in _entries(CONFIGS / name)
        ]
        parts.append("\n".join([f"### {name}: {use}", "", *rows]))
    return "\n\n".join(parts)


def _entries(config: Path) -> Iterator[list[str]]:
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


def commands() -> str:
    """What ``deeprs COMMAND --help`` prints, command by command."""
    if find_spec("deeprs.cli") is None:
        return "The command is not built in this version."
    main = import_module("deeprs.cli").main
    parts = []
    for name in COMMANDS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([name, "--help"])
        parts.append(f"## deeprs {name}\n\n```text\n{printed.getvalue().strip()}\n```")
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "rooms": rooms,
    "recipes": recipes,
    "quantities": quantities,
    "entries": entries,
    "commands": commands,
}
_GENERATED = re.compile(r"(?P<head><!-- generated: (?P<part>\w+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """A document with its generated parts as their sources have them now.

    Args:
        text: Markdown.
    """
    return _GENERATED.sub(lambda found: f"{found['head']}\n{PARTS[found['part']]()}\n\n{found['tail']}", text)
