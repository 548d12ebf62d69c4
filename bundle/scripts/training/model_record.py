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
"""A model as a declaration: what using its weights takes, in names and numbers, so that a foreign folder runs nothing.

A config of MONAI is a program: one ``$`` in it, and whoever reads it runs it. Training therefore writes ``model.json``
beside ``model.yaml``. It says the same, but holds no expression and no reference, names classes of a closed list alone,
and is checked before anything is made of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from ..files.literal import is_literal, literal
from ..files.writing import write_json
from .declared import arithmetic, declared
from .model_schema import FIELDS, FORMAT, check_model

__all__ = ["MODEL_FILE", "read_model", "write_model"]

logger = logging.getLogger(__name__)

MODEL_FILE, PROGRAM = "model.json", "model.yaml"
LARGEST = 2**20  # bytes; a record has some thousand
BY_NAME = (
    "A folder is taken only where nothing in it has to be run. If you trust who made this one, give the file by name: "
    "'{path}'."
)


def read_model(folder: str | Path) -> dict[str, Any]:
    """What the model of a folder is, as entries of a config that run nothing; the folder may be anybody's.

    Args:
        folder: what training wrote; of 0.6.1 it has only a ``model.yaml``, which is taken where it merely declares.

    Returns:
        Entries to be put over those of ``inference.yaml``, ``register.yaml`` or ``train.yaml`` with ``evaluate.yaml``:
        labels, sizes, preprocessing, networks and, as ``ckpt_dir``, the folder. None has a ``$``, ``@`` or ``%``.

    Raises:
        FileNotFoundError: there is no such folder, or it has neither file.
        ValueError: the record is damaged, or names what is not allowed.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise ValueError(
            f"'{folder}' is a file, expected the folder of a model. A config file is read by its own name."
        )
    path, program = folder / MODEL_FILE, folder / PROGRAM
    if path.is_file():
        model = _read_record(path)
    elif program.is_file():
        model = _read_program(program)
    else:
        raise FileNotFoundError(
            f"no model in '{folder}': it has neither {MODEL_FILE} nor {PROGRAM}. Name the `output_dir` of a training."
        )
    labels = {"labels": literal(model["labels"])}  # data, the only text of it that may have any character
    return {**model, **labels, "ckpt_dir": literal(str(folder.resolve()))}


def write_model(folder: str | Path, model: Mapping[str, Any], voxel_size: Any, parser: ConfigParser | None) -> None:
    """Write ``model.json``; where a model cannot be declared, say why, and leave none.

    Args:
        folder: that of the weights.
        model: entries of the model, as values or as they stand in the config.
        voxel_size: of the data, in mm; None where nobody has looked.
        parser: of the config, which evaluates what is in it; None: there are values alone.
    """
    path = Path(folder) / MODEL_FILE

    def evaluate(where: str, _: str) -> Any:
        return parser.get_parsed_content(where)  # our own config, which is running anyway

    try:
        config = {} if parser is None else parser.get()
        record = {
            key: model[key] if key == "labels" else declared(model[key], {**config, **model}, evaluate, key)
            for key in FIELDS
            if key in model
        }
        record["voxel_size"] = voxel_size
        check_model(record, path)
    except ValueError as error:
        path.unlink(missing_ok=True)
        logger.warning(
            "no %s is written, so that this model can be used by naming its %s alone: %s", MODEL_FILE, PROGRAM, error
        )
        return
    write_json(path, {"format": FORMAT, **record, "labels": literal(record["labels"])})


def _read_record(path: Path) -> dict[str, Any]:
    content = _parsed(path, lambda text: json.loads(text, parse_constant=_refuse_constant))
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"'{path}' is no record of a model: expected `format` to be '{FORMAT}'.")
    if is_literal(content.get("labels")):
        content["labels"] = _parsed(path, lambda _: json.loads(content["labels"]["text"]))
    check_model(content, path)
    return content


def _read_program(path: Path) -> dict[str, Any]:
    """The entries of a ``model.yaml`` of 0.6.1, where they are names, numbers, and arithmetic on them."""
    config = _parsed(path, yaml.safe_load)
    try:
        evaluate = arithmetic(config)
        model = {
            key: declared(config[key], config, evaluate, key) for key in FIELDS if key in config and key != "labels"
        }
        labels = config.get("labels")
        model["labels"] = json.loads(labels["text"]) if is_literal(labels) else labels
        check_model(model, path)
    except ValueError as error:
        raise ValueError(f"{error}\n  {BY_NAME.format(path=path)}") from error
    return model


def _parsed(path: Path, parse: Any) -> dict[str, Any]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"'{path}' has {path.stat().st_size} bytes, more than any record of a model.")
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"'{path}' cannot be read: {error or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' should hold names with values, found a {type(content).__name__}.")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
