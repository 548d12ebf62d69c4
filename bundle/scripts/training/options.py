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
"""A misspelt option is refused before anything is computed; MONAI itself takes every name, and reads those it knows."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import Any

import torch
from monai.bundle import (
    DEFAULT_EXP_MGMT_SETTINGS,
    EXPR_KEY,
    ID_REF_KEY,
    ID_SEP_KEY,
    ConfigComponent,
    ConfigParser,
    ReferenceResolver,
)
from monai.bundle.utils import MERGE_KEY

from ..files.entries import load_entries
from ..files.entry import Entry
from ..files.readers import read
from ..networks.weights import bundle_root
from .augmented import refuse_missing_keys
from .config_of_run import config_parser, config_workflow
from .values import settle, walk

__all__ = ["TASKS", "check_values", "checked_tasks", "is_true", "refuse_other_runs", "refuse_unread", "unread_entries"]

logger = logging.getLogger(__name__)

TASKS = load_entries()["tasks"].choices


def checked_tasks(tasks: str | Collection[str]) -> tuple[str, ...]:
    """The tasks as a tuple, where a command line may have given one as a plain word.

    Args:
        tasks: ``segmentation``, ``registration``, or both.

    Raises:
        ValueError: names what is no task.
    """
    return tuple(read(load_entries()["tasks"], tasks if isinstance(tasks, str) else list(tasks), resolved=True))


def is_true(value: bool | int | str, option: str) -> bool:
    """Whether an option is true. On a command line ``false`` is a word, and a word is true to Python.

    Args:
        value: true, false, yes, no, 1 or 0, as a value or as a word in any case.
        option: its name, for the message.

    Raises:
        ValueError: it is something else.
    """
    return read(Entry(option, "truth", help=""), value, resolved=True)


def check_values() -> None:
    """Put into the config of this run what its values mean, and refuse those that are wrong; to be listed in
    ``initialize``, before anything is made of a value.

    Raises:
        ValueError: lists the entries that are not what they can be, as :mod:`scripts.files.entries` has it.
    """
    parser = config_parser()
    if parser is not None:
        settle(parser)
        _refuse_missing_device(parser)
        refuse_missing_keys(parser.get())


def refuse_unread() -> None:
    """Refuse values in the config of this run that are wrong, or that nothing reads; to be listed first in what a
    command runs.

    What the configs of this bundle name is accepted with each of its commands, since a ``model.yaml`` has entries for
    several of them; so is what MONAI adds for experiment tracking. An unread mapping of components is no option, and
    may be there for an anchor of YAML or a ``%``, of which no trace is left. It is told in a warning.

    Raises:
        ValueError: lists the entries that are not what they can be; or names each that is unread, its value, and the
            nearest entry that there is; or one that MONAI has changed.
    """
    check_values()  # once more: a program may have set others since
    parser = config_parser()
    config = {} if parser is None else {key: value for key, value in parser.get().items() if key != "_meta_"}
    _refuse_changed_text(config)
    unread = unread_entries(config)
    known = _known_entries() if unread else set()
    unread = {name: value for name, value in unread.items() if name not in known}
    faults = []
    for name, value in unread.items():
        nearest = _nearest(name, (other for other, _ in _entries(config) if other not in unread))
        if _holds_parts(value):
            logger.warning("nothing in the config refers to `%s`.%s", name, nearest)
        else:
            faults.append(f"  {name}: {str(value)[:60]}.{nearest}")
    if faults:
        raise ValueError(
            "\n".join(["nothing reads these entries of the config, so they would change nothing:", *faults])
            + "\n  Correct or remove them. Entries of your own are read where others refer to them by `@`."
        )


def _refuse_missing_device(parser: ConfigParser) -> None:
    """A GPU that is not there would be noticed once all cases are read."""
    if "device" not in parser:
        return
    device = parser.get_parsed_content("device")
    device = torch.device(device) if isinstance(device, str) else device
    count = torch.cuda.device_count()
    if getattr(device, "type", "") == "cuda" and (device.index or 0) >= count:
        there = f"cuda:0 to cuda:{count - 1}, or cpu" if count else "cpu, as PyTorch finds no GPU here"
        raise ValueError(f"device: expected {there}, found {device}. Without the entry, what is there is taken.")


def _refuse_changed_text(config: Mapping[str, Any]) -> None:
    """MONAI makes ``::`` of every ``#`` in a config: results would go to another folder than was typed."""
    for name, value in _entries(config):
        if not isinstance(value, str) or ID_SEP_KEY not in value or value.startswith((EXPR_KEY, ID_REF_KEY)):
            continue
        typed = value.replace(ID_SEP_KEY, "#")
        if any(typed in argument for argument in sys.argv):
            raise ValueError(
                f"{name}: MONAI makes `{ID_SEP_KEY}` of `#` in its options, and would read '{typed}' as '{value}'. "
                "Rename what has a `#`, or give it by a link without one."
            )


def refuse_other_runs() -> None:
    """Say that the entry that was run is no command; to be listed in ``finalize``, which follows on every run.

    MONAI evaluates whatever entry it is told to run: ``register`` in the place of ``registering`` would build a
    component, do nothing with it, and end well. (``initialize`` comes before MONAI can import ``scripts``.)

    Raises:
        ValueError: it is no list of steps and no expression; names the commands that there are.
    """
    workflow = config_workflow()
    if workflow is None or not (run_id := workflow.run_id):  # without an id, MONAI evaluates all there is
        return
    config = workflow.parser.get()
    steps = workflow.parser.get(run_id)
    if isinstance(steps, list) or str(steps).startswith((EXPR_KEY, ID_REF_KEY)):
        return
    first = {"_target_": "scripts.training.refuse_unread"}
    commands = [
        name for name, lines in config.items() if isinstance(lines, list) and (first in lines or "@run" in lines)
    ]
    raise ValueError(
        f"`{run_id}` is no command of these config files, and nothing was done. "
        f"What `monai.bundle run` takes here: {', '.join(sorted(commands))}."
    )


def unread_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that no other one refers to, as a whole or in part.

    A list of components, expressions or references counts as read, for it may be what a command runs. Of a mapping such
    as ``train``, parts of which are read, each part is looked at. The arguments of a component are not: it refuses on
    its own those that it does not take.

    Args:
        config: the content of a merged config, in which MONAI has resolved ``%``.

    Returns:
        Id -> content, in the order of the config. The levels of an id are separated by ``::``.
    """
    texts = [value for _, value in _entries(config) if isinstance(value, str)]
    references = {reference for text in texts for reference in ReferenceResolver.match_refs_pattern(text)}
    return dict(_unread(config, "", references))


def _unread(config: Mapping[str, Any], prefix: str, references: Set[str]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in references or (isinstance(value, list) and _holds_parts(value)):
            continue
        if not any(reference.startswith(name + ID_SEP_KEY) for reference in references):
            yield name, value
        elif _holds_parts(value) and not ConfigComponent.is_instantiable(value):
            yield from _unread(value, name + ID_SEP_KEY, references)


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """The id and content of each entry at all levels, without the marks that tell MONAI to merge them."""
    for name, value in walk(content):
        yield ID_SEP_KEY.join(key.lstrip(MERGE_KEY) for key in name.split(ID_SEP_KEY)), value


def _holds_parts(content: Any) -> bool:
    """Whether it is more than a value: a mapping or list with a component, expression or reference in it."""
    return any(
        name.endswith("_target_") or str(value).startswith((EXPR_KEY, ID_REF_KEY)) for name, value in _entries(content)
    )


@cache
def _known_entries() -> set[str]:
    """What the configs of this bundle name, and what MONAI adds for tracking."""
    configs = [ConfigParser.load_config_file(file) for file in Path(bundle_root(), "configs").rglob("*.yaml")]
    configs += [settings["configs"] for settings in DEFAULT_EXP_MGMT_SETTINGS.values()]
    return {name for config in configs for name, _ in _entries(config)}


def _nearest(name: str, offered: Iterable[str]) -> str:
    levels = (other.split(ID_SEP_KEY) for other in offered)  # neither positions in lists nor `_target_`
    names = [ID_SEP_KEY.join(keys) for keys in levels if not any(key.isdigit() or key.startswith("_") for key in keys)]
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""
