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

"""The code of the DeepRS bundle, in rooms: each imports from the rooms above it in this list, and from no other.

files, fields, data, losses, matching, networks, pictures, joint, methods, training, planning, registration, alignment,
report, evaluation, phantom, label. The contract that holds it is in ``pyproject.toml``. What a config names is an
attribute of its room: ``scripts.joint.Term``. (`matching` is no part of the joint method: it needs no network, so it
stands below.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

#: where the modules of 0.6, which were not in rooms, have gone: configs and models of that time name them
MOVED = {
    "affine_alignment": "alignment",
    "apply": "registration",
    "baseline_networks": "networks",
    "brbs": "methods",
    "cases": "data",
    "checks": "data",
    "consistency": "losses",
    "crop_warning": "data",
    "cyclemorph": "methods",
    "deepatlas": "methods",
    "engine": "joint",
    "errors": "files",
    "handlers": "training",
    "image_checks": "data",
    "inferers": "networks",
    "label_bundle": "label",
    "learned_augmentation": "methods",
    "local_ncc": "losses",
    "mmwhs": "data",
    "options": "training",
    "pairs": "data",
    "perception": "methods",
    "pooling": "evaluation",
    "prepare": "alignment",
    "prepare_pairs": "alignment",
    "pretrained": "networks",
    "processes": "files",
    "record": "training",
    "refinement": "registration",
    "restore": "registration",
    "rounds": "label",
    "sampling": "joint",
    "semi_supervised": "methods",
    "sequence": "registration",
    "state": "joint",
    "target_grid": "alignment",
    "tracking": "training",
    "transforms": "data",
    "validation": "training",
    "voxel_size_warning": "data",
    "weights": "networks",
}
_told = False


def __getattr__(name: str) -> ModuleType:
    """The room of a module of 0.6, so that configs of that time go on working; the first one is told in a warning."""
    global _told
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _told:
        _told = True
        logger.warning(
            "a config or model.yaml of DeepRS 0.6 names `scripts.%s`, which is in `scripts.%s` now. It still works; "
            "training writes the new names.",
            name,
            MOVED[name],
        )
    return import_module(f".{MOVED[name]}", __name__)


def lazily(room: str, **modules: Sequence[str]) -> tuple[Callable[[str], Any], list[str]]:
    """What a room exports, imported when it is first asked for: a config pays for what it names alone.

    Args:
        room: ``__name__`` of the room.
        modules: of the room -> the names that it takes from each.

    Returns:
        ``__getattr__`` and ``__all__`` of the room.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", room), name)

    return find, sorted(homes)
