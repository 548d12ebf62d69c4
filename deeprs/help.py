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

"""What ``--help`` and ``recipes`` print. Defaults and sentences are read from the config files, not written here."""

from __future__ import annotations

import textwrap
from typing import Any

from .commands import COMMANDS
from .configs import CONFIGS, first_sentence, get, merge, names
from .options import option_help
from .parse import is_expression
from .plans import base

__all__ = ["command_help", "overview", "recipes"]

WIDTH, LINES, INDENT = 100, 40, 26
TITLE = "Registration and few-shot segmentation of 3D medical images that teach each other."
EXAMPLE = """\
Your own data, in a folder with images/ and labels/:
  deeprs check mydata --config mydata.yaml
  deeprs train mydata --config mydata.yaml --recipe best --max_epochs 100 --out output/train
  deeprs evaluate --model output/train --out output/evaluation
  deeprs segment scans/ --model output/train --out segmentations
  deeprs register a.nii.gz b.nii.gz --model output/train --out pair
`deeprs COMMAND --help` names the options of one. Without --model: weights for the hippocampus."""
CONFIG = "a file, or a config of the bundle by name: hippocampus, light_augmentation, ...; may be repeated"
RECIPE = "another method than DeepRS: `deeprs recipes` lists them. Of all files the later ones win"
MODEL = "the folder of a training, or its model.yaml; without it: weights for the hippocampus"


def overview() -> str:
    """The help of ``deeprs`` itself."""
    lines = [
        "deeprs COMMAND ...",
        "",
        TITLE,
        "",
    ]
    about = {name: command.about for name, command in COMMANDS.items()}
    about |= {
        "recipes": "List the methods that train takes by --recipe.",
        "demo": "All of it on made-up data, in minutes.",
    }
    lines += [f"  {name:9}{text}" for name, text in about.items()]
    return "\n".join([*lines, "", EXAMPLE])


def command_help(name: str) -> str:
    """The help of one command, on a screen of 40 lines and 100 columns."""
    command = COMMANDS[name]
    files = base(*command.base)[::-1]  # the last one that has an entry states it
    config = merge(files[::-1]) | command.sets
    rows = [("--config FILE", CONFIG)] if "[--config" in command.usage else []
    rows += [("--recipe NAME", RECIPE)] if "[--recipe" in command.usage else []
    rows += [("--model DIR", MODEL)] if command.takes_model else []
    rows += [("--out DIR", f"[{command.out}] where the results go")] if command.out else []
    for entry in command.common:
        rows.append((f"--{entry}", f"{_shown(get(config, entry))} {option_help(entry, files)}".rstrip()))
    head = [f"deeprs {name} {command.usage}", "", command.about, ""]
    foot = ["", "Any entry of the config files is an option, nested ones as --train::trainer::max_epochs 3."]
    foot += ["--show prints the command of MONAI that does the same; --traceback shows where something failed."]
    room = LINES - len(head) - len(foot)
    blocks = [_block(*row) for row in rows]
    while sum(map(len, blocks)) > room:  # the longest of them ends after its first line
        longest = max(blocks, key=len)
        longest[:] = [_cut(longest[0])]
    return "\n".join([*head, *(line for block in blocks for line in block), *foot])


def _block(option: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, WIDTH - INDENT, break_long_words=False) or [""]
    first = f"  {option:{INDENT - 3}} {wrapped[0]}".rstrip()
    return [first, *(" " * INDENT + line for line in wrapped[1:])]


def _cut(line: str) -> str:
    return (line if len(line) <= WIDTH - 4 else line[: WIDTH - 4].rsplit(" ", 1)[0]) + " ..."


def _shown(default: Any) -> str:
    """A default as one would type it, in brackets."""
    if is_expression(default) or isinstance(default, dict):
        return "[{}]" if default == {} else "[...]"
    if default is None or isinstance(default, bool):
        return f"[{ {None: 'null', True: 'true', False: 'false'}[default] }]"
    return str(default).replace("'", "") if isinstance(default, list) else f"[{default}]"


def recipes() -> str:
    """Every recipe with the first sentence of its file, and the names of the other overlays."""
    rows = [("(none)", first_sentence(CONFIGS / "train.yaml"))]
    rows += [(name, first_sentence(CONFIGS / "recipes" / f"{name}.yaml")) for name in names(["recipes"])]
    lines = ["Methods, for `deeprs train DATA --recipe NAME`:", ""]
    for name, text in rows:
        lines += _block(name, text)
    for folder, what in (("data", "data sets"), ("run", "ways to run"), ("ablations", "parts taken away")):
        lines += ["", *textwrap.wrap(f"For --config, {what}: {', '.join(names([folder]))}", WIDTH)]
    return "\n".join(lines)
