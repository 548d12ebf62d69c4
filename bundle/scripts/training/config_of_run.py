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

"""The config of the run that is going on, as text: to be written beside weights, and searched for misspelt entries.

Whoever builds a workflow hands it over by :func:`running`, as the command ``deeprs`` does. `monai.bundle run` and MONAI
Label build theirs themselves, and MONAI has no documented way from a component to it: a config cannot refer to itself
as text, since ``%`` copies are evaluated like everything else; what ``--tracking`` exports is there with that option
only. For these two the workflow is found on the call stack, on which it is while it builds a component.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple

__all__ = ["config_files", "config_parser", "config_workflow", "running"]

Caller = TypeVar("Caller")
_running: ContextVar[ConfigWorkflow | None] = ContextVar("running", default=None)


@contextmanager
def running(workflow: ConfigWorkflow) -> Iterator[ConfigWorkflow]:
    """Hand over a workflow to the components that it builds.

    Args:
        workflow: what is initialised and run inside the ``with``.
    """
    token = _running.set(workflow)
    try:
        yield workflow
    finally:
        _running.reset(token)


def config_workflow() -> ConfigWorkflow | None:
    """The workflow that is running, or None outside of one."""
    return _running.get() or _caller(ConfigWorkflow)


def config_parser() -> ConfigParser | None:
    """The parser of the config that is running, or None outside of one."""
    workflow = _running.get()
    return workflow.parser if workflow is not None else _caller(ConfigParser)


def config_files() -> list[str]:
    """The config files of the `monai.bundle run` that is building the caller; none where a program merged them."""
    frame = inspect.currentframe()
    while frame is not None:
        files = frame.f_locals.get("config_file")
        if frame.f_globals.get("__name__") == "monai.bundle.scripts" and files:
            listed = files.split(",") if isinstance(files, str) and not Path(files).is_file() else ensure_tuple(files)
            return [str(file) for file in listed if str(file).lower().endswith((".yaml", ".yml"))]
        frame = frame.f_back
    return []


def _caller(kind: type[Caller]) -> Caller | None:
    """Under `monai.bundle run`: the object of this class that is building the caller."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), kind):
            return caller
        frame = frame.f_back
    return None
