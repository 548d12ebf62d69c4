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
"""Who is building a component: it may look at the config, or the workflow, that it is part of."""

from __future__ import annotations

import inspect
from typing import TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

Caller = TypeVar("Caller")


def config_parser() -> ConfigParser | None:
    """The parser that is building the caller, or None outside a config.

    A config cannot refer to itself as text: ``%`` copies would be evaluated like everything else. The parser is however
    always on the call stack while it instantiates a component.
    """
    return _caller(ConfigParser)


def config_workflow() -> ConfigWorkflow | None:
    """The workflow of `monai.bundle run` that is building the caller, or None outside of one."""
    return _caller(ConfigWorkflow)


def _caller(kind: type[Caller]) -> Caller | None:
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), kind):
            return caller
        frame = frame.f_back
    return None
