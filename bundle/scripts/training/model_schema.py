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
"""What a record of a model may say: its fields, and the classes it may name. Everything else is refused by name."""

from __future__ import annotations

import difflib
import inspect
import re
import reprlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer

from ..data.preprocessing import CROPS, INTENSITIES
from ..joint.state import PairState
from ..joint.updates import Term
from .options import TASKS

__all__ = ["FIELDS", "FORMAT", "check_model"]

FORMAT = "DeepRS model 1"
#: rooms whose classes a record may name, as `scripts.ROOM.NAME`: they compute, and touch no file
ROOMS = ("losses", "matching", "networks", "joint", "methods")
#: and of other libraries, by their module: none of them downloads, or runs what it is given
OTHERS = {
    "monai.networks.nets": (
        "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "SegResNet", "SegResNetDS", "SwinUNETR", "UNet",
        "UNETR", "VNet",
    ),
    "monai.inferers": ("SimpleInferer", "SlidingWindowInferer"),
    "monai.losses": (
        "BendingEnergyLoss", "DiceCELoss", "DiceFocalLoss", "DiceLoss", "DiffusionLoss", "FocalLoss",
        "GeneralizedDiceLoss", "GlobalMutualInformationLoss", "LocalNormalizedCrossCorrelationLoss", "TverskyLoss",
    ),
    "torch.nn": ("BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "SmoothL1Loss"),
}  # fmt: skip
PLAIN = re.compile(r"[\w .,/+()-]{0,200}")  # text of an argument: no `$`, `@`, `%`, `#` or `::`
DEEPEST, LARGEST = 20, 2**63  # levels, numbers
SHORT = reprlib.Repr()  # what is refused may be endless
SHORT.maxlevel, SHORT.maxstring = 2, 80


def check_model(model: Mapping[str, Any], source: Path) -> None:
    """Refuse a record that says too little, or anything that is not allowed.

    Args:
        model: its fields; labels are names for ids.
        source: the file, for messages.

    Raises:
        ValueError: names the field, and what was expected and found.
    """
    if unknown := sorted(map(str, model.keys() - FIELDS.keys())):
        raise ValueError(f"'{source}': unknown entries {', '.join(unknown)}. Known: {', '.join(FIELDS)}.")
    if missing := [name for name in FIELDS if name not in model and name not in OPTIONAL]:
        raise ValueError(f"'{source}' lacks {', '.join(missing)}.")
    try:
        for name, value in model.items():
            FIELDS[name](name, value)
    except RecursionError as error:
        raise ValueError(f"'{source}' is nested too deep.") from error
    except ValueError as error:
        raise ValueError(f"'{source}': {error}") from error
    if model["num_classes"] != len(model["labels"]) + 1:
        raise ValueError(
            f"'{source}': num_classes is {model['num_classes']}, expected {len(model['labels']) + 1}: the "
            "background and the labels."
        )


def _refuse(where: str, expected: str, value: Any) -> None:
    raise ValueError(f"{where}: expected {expected}, found {SHORT.repr(value)}.")


def _is_number(value: Any, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and abs(value) < LARGEST  # False of NaN


def _check_labels(where: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        _refuse(where, "names for ids", value)
    for key, name in value.items():
        if not re.fullmatch(r"[1-9][0-9]{0,9}", str(key)) or not isinstance(name, str):
            _refuse(where, "ids above 0 with names", {key: name})


def _check_number(where: str, value: Any, least: int | None = None, nullable: bool = False) -> None:
    if nullable and value is None:
        return
    if not _is_number(value, int) or (least is not None and value < least):
        _refuse(where, "a whole number" + ("" if least is None else f" of at least {least}"), value)


def _check_numbers(where: str, value: Any, count: int, whole: bool = False, positive: bool = True) -> None:
    kind = int if whole else (int, float)
    fits = isinstance(value, list) and len(value) == count and all(_is_number(one, kind) for one in value)
    if not fits or (positive and min(value) <= 0):
        _refuse(where, f"a list of {count} {'positive ' * positive}{'whole ' * whole}numbers", value)


def _check_voxels(where: str, value: Any) -> None:
    """``pixdim`` and ``voxel_size``: null, three numbers, or one for all three."""
    if value is None or (_is_number(value) and value > 0):
        return
    _check_numbers(where, value, len(value) if isinstance(value, list) and len(value) < 3 and value else 3)


def _check_word(where: str, value: Any, words: tuple[str, ...]) -> None:
    if value not in words:
        _refuse(where, f"one of {', '.join(words)}", value)


def _check_tasks(where: str, value: Any) -> None:
    for task in value if isinstance(value, list) and value else [value]:
        _check_word(where, task, TASKS)


def _check_axes(where: str, value: Any) -> None:
    if not isinstance(value, str) or sorted({"R": "L", "P": "A", "I": "S"}.get(c, c) for c in value) != ["A", "L", "S"]:
        _refuse(where, "axes such as RAS", value)


def _check_terms(where: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        _refuse(where, "terms by name", value)
    for name, term in value.items():
        _check_text(where, name)
        _check_component(f"{where}::{name}", term, Term)


def _check_component(where: str, value: Any, kind: type, called: bool = False, nullable: bool = False) -> None:
    """A component whose class is of a kind; ``called``: it is left to be called later."""
    if nullable and value is None:
        return
    if not isinstance(value, Mapping) or "_target_" not in value:
        _refuse(where, "a component with a `_target_`", value)
    if not issubclass(_class_of(where, value["_target_"]), kind):
        _refuse(f"{where}::_target_", f"a {kind.__name__}", value["_target_"])
    if called != ("_mode_" in value):
        _refuse(where, "`_mode_: callable`" if called else "no `_mode_`", value.get("_mode_"))
    _check_part(where, value, 0)


def _check_part(where: str, value: Any, depth: int) -> None:
    """Any argument: null, a truth, a number, a plain text, a list, or a mapping, which may be a component."""
    if depth > DEEPEST:
        _refuse(where, f"at most {DEEPEST} levels", value)
    if isinstance(value, Mapping):
        if "_target_" in value:
            _class_of(where, value["_target_"])
        if value.get("_mode_", "callable") != "callable":
            _refuse(f"{where}::_mode_", "callable", value["_mode_"])
        for key, part in value.items():
            if key not in ("_target_", "_mode_") and not re.fullmatch(r"[A-Za-z]\w*", str(key)):
                _refuse(where, "names of arguments", key)
            _check_part(f"{where}::{key}", part, depth + 1)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_part(f"{where}::{number}", part, depth + 1)
    elif isinstance(value, str):
        _check_text(where, value)
    elif not (value is None or isinstance(value, bool) or _is_number(value)):
        _refuse(where, "a number, a word or a list", value)


def _check_text(where: str, value: Any) -> None:
    if not isinstance(value, str) or not PLAIN.fullmatch(value):
        _refuse(where, "a plain word", value)


def _class_of(where: str, target: Any) -> type:
    """The class of a name, which is one of the closed list.

    Raises:
        ValueError: it is none of them.
    """
    module, _, name = str(target).rpartition(".")
    for home, names in OTHERS.items():
        if name in names and module in ("", home) and not (home == "torch.nn" and not module):
            return getattr(import_module(home), name)
    package, _, room = module.partition(".")
    if isinstance(target, str) and package == "scripts" and room in ROOMS:
        place = import_module(f"...{room}", __name__)
        if name in place.__all__ and inspect.isclass(found := getattr(place, name)):
            return found
    known = [f"scripts.{room}.{one}" for room in ROOMS for one in import_module(f"...{room}", __name__).__all__]
    close = difflib.get_close_matches(str(target), [*known, *(one for names in OTHERS.values() for one in names)], n=1)
    raise ValueError(
        f"{where}: `_target_` may not be {SHORT.repr(target)} in the model of a folder."
        f"{f' Did you mean {close[0]}?' if close else ''} It names a class of scripts.{', scripts.'.join(ROOMS)}, "
        "or one of a short list of MONAI and PyTorch."
    )


#: each field of a record, and what checks its value
FIELDS: dict[str, Callable[[str, Any], None]] = {
    "labels": _check_labels,
    "num_classes": partial(_check_number, least=2),
    "num_labeled": partial(_check_number, least=0, nullable=True),
    "num_unlabeled": partial(_check_number, least=0, nullable=True),
    "fold": partial(_check_number, least=0),
    "seed": partial(_check_number, nullable=True),
    "tasks": _check_tasks,
    "orientation": _check_axes,
    "pixdim": _check_voxels,
    "voxel_size": _check_voxels,
    "crop": partial(_check_word, words=CROPS),
    "spatial_size": partial(_check_numbers, count=3, whole=True),
    "intensity": partial(_check_word, words=INTENSITIES),
    "intensity_range": partial(_check_numbers, count=2, positive=False),
    "network_def": partial(_check_component, kind=torch.nn.Module),
    "registration_def": partial(_check_component, kind=torch.nn.Module),
    "discriminator_def": partial(_check_component, kind=torch.nn.Module, nullable=True),
    "inferer": partial(_check_component, kind=Inferer),
    "state": partial(_check_component, kind=PairState, called=True),
    "refinement_terms": _check_terms,
    "refinement_steps": partial(_check_number, least=0),
}
#: what evaluation goes by, and a model may be without
OPTIONAL = ("num_labeled", "num_unlabeled", "fold", "seed", "tasks", "discriminator_def", "refinement_steps")
