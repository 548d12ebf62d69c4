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

"""A call against the config files: are there such entries, such files, and is each value of the right kind?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .bundle.scripts.files.literal import literal
from .commands import ANY, COMMANDS, FILE, FOLDER, NEW, Command
from .configs import get, knows, load, merge
from .mistakes import Mistake, nearest
from .options import entry_of, value_fault
from .parse import SWITCHES, Call, is_expression, read_value
from .plans import Plan, absolute, base, overlays_of

__all__ = ["TRACKING", "entries_of"]

#: what `--tracking mlflow` of MONAI reads beside the config
TRACKING = ("tracking", "tracking_uri", "experiment_name", "run_name", "save_execute_config")
NEEDS_DATA = ("checking", "planning", "training", "evaluating", "inferring", "preparing")
EXISTS = {FILE: os.path.isfile, FOLDER: os.path.isdir, ANY: os.path.exists, NEW: lambda path: True}


def entries_of(name: str, command: Command, call: Call) -> tuple[Plan, dict[str, Any]]:
    """What MONAI is told.

    Args:
        name: of the command.
        command: its declaration.
        call: what was typed.

    Returns:
        The run and its files; and the entries of the command line, with all paths absolute.

    Raises:
        Mistake: lists all that is wrong with the options, or the first thing that is wrong with something else.
    """
    _place_words(name, command, call)
    if call.model is not None and not command.takes_model:
        raise Mistake(f"--model is for {', '.join(n for n, c in COMMANDS.items() if c.takes_model)}.")
    overlays = overlays_of(call)
    try:
        plan = command.plan(call, overlays)
    except Mistake:
        if faults := list(_misspelt(name, call, merge([*base(*command.base), *overlays]))):
            raise Mistake("\n".join(faults)) from None
        raise
    config = merge(plan.files)
    faults = list(_misspelt(name, call, config))
    typed: dict[str, Any] = {}
    for option, texts in call.options.items():
        if any(fault.startswith(f"--{option}:") for fault in faults):  # misspelt, which is enough
            continue
        try:
            typed[option] = _value(command, option, texts, get(config, option))
        except Mistake as mistake:
            faults.append(str(mistake))
    if faults:
        raise Mistake("\n".join(faults) if len(faults) == 1 else "\n  ".join([f"{len(faults)} mistakes:", *faults]))
    entries = {**_place_of_results(command, overlays), **command.sets, **plan.entries, **typed}
    plan.out = str(entries.get("output_dir", config.get("output_dir", ".")))
    _refuse_missing_data(name, command, plan, config, typed)
    for option in entries.keys() & command.paths.keys():
        if not is_expression(entries[option]):
            entries[option] = literal(entries[option])  # a path may have what means something to MONAI
    for option in entries.keys() & {"image_name", "label_name"}:
        entries[option] = literal(entries[option])  # and so may the name of a file
    return plan, {option: "$None" if value is None else value for option, value in entries.items()}


def _place_words(name: str, command: Command, call: Call) -> None:
    """Give the words without an option to the entries that they stand for."""
    words = list(call.words)
    if name == "register" and len(words) == 1 and words[0].lower().endswith((".csv", ".tsv", ".json")):
        call.options.setdefault("pairs", []).append(words.pop())
    for entry in command.words:
        taken, words = (words, []) if entry.endswith("*") else (words[:1], words[1:])
        if taken:
            call.options.setdefault(entry.rstrip("*"), []).extend(taken)
    if words:
        raise Mistake(f"too many words: `{words[0]}`.\nExpected: deeprs {name} {command.usage}")


def _misspelt(name: str, call: Call, config: Mapping[str, Any]) -> Iterator[str]:
    """Options that no entry of the config has the name of; nested ones that have no place in it."""
    extra = TRACKING if "tracking" in call.options else TRACKING[:1]
    for option in call.options:
        if option not in extra and not knows(config, option):
            near = nearest(option, _names(config) if "::" in option else [*config, "out", "config", "recipe", "model"])
            yield f"--{option}: the config files have no such entry.{near} `deeprs {name} --help` has the usual ones."


def _names(content: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{prefix}{key}"
            yield from _names(value, f"{prefix}{key}::")


def _value(command: Command, option: str, texts: list[str | None], default: Any) -> Any:
    """The value of an option.

    Raises:
        Mistake: it has none, several, one of another kind, or is a path to nothing.
    """
    if len(texts) > 1 and option not in command.several:
        raise Mistake(f"--{option} is given {len(texts)} times: {', '.join(map(str, texts))}. Keep one.")
    values = []
    for text in texts:
        if text is None:
            if option not in SWITCHES and not isinstance(default, bool):
                raise Mistake(f"--{option} needs a value behind it. Its default is {default}.")
            values.append(True)
        elif option in command.paths:
            values.append(_path(option, text, command.paths[option]))
        else:
            entry = entry_of(option, command.base)
            values.append(text if option in command.texts or (entry and entry.is_word) else read_value(text, default))
            if fault := value_fault(option, values[-1], default, entry):
                raise Mistake(fault)
    return values[0] if len(values) == 1 else values


def _path(option: str, text: str, kind: str) -> Any:
    """A path made absolute, or a list of them, or whatever stands for one."""
    value = read_value(text) if text[:1] in ("[", "{") and not os.path.exists(text) else text
    if is_expression(text) or read_value(text) is None:
        return read_value(text)
    return _absolute(option, value, kind)


def _absolute(option: str, value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return [_absolute(option, item, kind) for item in value]
    if isinstance(value, dict):
        return {key: _absolute(option, item, kind) for key, item in value.items()}
    path = absolute(str(value))
    if not EXISTS[kind](path):
        there = " It is a file." if os.path.isfile(path) else " It is a folder." if os.path.isdir(path) else ""
        what = "file or folder" if kind == ANY else kind
        raise Mistake(f"--{option} {value}: no such {what}{'' if there else ': ' + path}.{there}{_beside(path)}")
    return path


def _beside(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder) or os.path.exists(path):
        return ""
    stem = name.partition(".")[0]  # endings are alike in a folder of images, and say nothing
    stems = {other.partition(".")[0]: other for other in os.listdir(folder)}
    return nearest(stem, stems, stems)


def _place_of_results(command: Command, overlays: list[Path]) -> dict[str, Any]:
    """Beneath the folder one stands in, unless a file says where: the configs would write beside themselves."""
    if command.out is None or any("output_dir" in load(file) for file in overlays):
        return {}
    return {"output_dir": absolute(command.out)}


def _refuse_missing_data(
    name: str, command: Command, plan: Plan, config: Mapping[str, Any], typed: Mapping[str, Any]
) -> None:
    """Data that the config files name have to be there, too."""
    data = config.get("dataset_dir")
    if plan.run_id not in NEEDS_DATA or {"dataset_dir", "datalist", "test_pairs"} & typed.keys() or is_expression(data):
        return
    if not any("dataset_dir" in load(file) for file in plan.files[1:]):
        if not isinstance(config.get("datalist"), str):
            raise Mistake(f"the data are missing.\nExpected: deeprs {name} {command.usage}")
    elif not EXISTS[command.paths["dataset_dir"]](absolute(str(data))):
        raise Mistake(
            f"dataset_dir {data}, which a config file names: no such folder. Say where the data are now: DATA."
        )
