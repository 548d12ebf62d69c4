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

"""Config files: found by name or path, and merged as MONAI merges them, without MONAI, whose import takes seconds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from . import BUNDLE
from .mistakes import Mistake, nearest

__all__ = ["CONFIGS", "FOLDERS", "find_config", "first_sentence", "get", "knows", "load", "merge", "names"]

CONFIGS = BUNDLE / "configs"
#: where an overlay of the bundle may lie, in the order in which a name is looked for
FOLDERS = ("data", "run", "ablations", "recipes", "")
SUFFIXES = (".yaml", ".yml", ".json")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


def find_config(name: str, folders: Sequence[str] = FOLDERS, option: str = "config") -> Path:
    """A config file by path, or by its name in the bundle: ``mydata.yaml``, ``light_augmentation``, ``run/bf16.yaml``.

    Args:
        name: a path has a suffix; a bare name is one of the bundle.
        folders: of ``bundle/configs`` that are searched.
        option: for the message.

    Raises:
        Mistake: there is none; names the nearest that there is.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return Path(os.path.abspath(path))
    wanted = name if path.suffix.lower() in SUFFIXES else f"{name}.yaml"
    for folder in folders:
        if (found := CONFIGS / folder / wanted).is_file():
            return found
    known = names(folders)
    what = "a recipe" if option == "recipe" else "a config file by its path, or of the bundle by its name"
    beside = {file.stem: str(path.with_name(file.name)) for file in path.parent.glob("*.y*ml")} if path.suffix else {}
    near = nearest(path.stem, [*beside, *known], beside)
    raise Mistake(
        f"--{option} {name}: no such file. Expected {what}.{near}\n`deeprs recipes` lists those of the bundle."
    )


def names(folders: Iterable[str]) -> list[str]:
    """The names of the config files in folders of ``bundle/configs``; ``""`` stands for those that are overlays."""
    files = [path for folder in folders if folder for path in sorted((CONFIGS / folder).glob("*.yaml"))]
    return [path.stem for path in files] + (["multi_gpu_train", "prepare_mmwhs"] if "" in folders else [])


def load(path: Path) -> dict[str, Any]:
    """Read one config file.

    Raises:
        Mistake: it cannot be read, or holds no entries; names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Mistake(
            f"{path}{line}: this is no YAML: {error.problem}. Correct the line, or the one above it."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise Mistake(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise Mistake(f"{path}: expected entries such as `max_epochs: 50`, found {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def merge(files: Iterable[Path]) -> dict[str, Any]:
    """Later files over earlier ones: ``a::b`` goes into ``a``, ``+a`` is added to ``a``.

    Raises:
        Mistake: a file cannot be read, or has an entry for a part of something that is not there.
    """
    merged: dict[str, Any] = {}
    for file in files:
        for key, value in load(file).items():
            _set(merged, key.replace("#", "::"), value, file)
    return merged


def _set(config: dict[str, Any], key: str, value: Any, file: Path) -> None:
    *parents, last = key.lstrip("+").split("::")
    place = get(config, "::".join(parents)) if parents else config
    if not _is_branch(place, last):
        raise Mistake(f"{file}: `{key}` is a part of `{'::'.join(parents)}`, which no file before this one has.")
    where = last if isinstance(place, dict) else int(last)
    old = place.get(where) if isinstance(place, dict) else place[where]
    if key.startswith("+") and isinstance(old, list) and isinstance(value, list):
        value = [*old, *value]
    elif key.startswith("+") and isinstance(old, dict) and isinstance(value, dict):
        value = {**old, **value}
    place[where] = value


def _is_branch(content: Any, key: str) -> bool:
    return isinstance(content, dict) or (isinstance(content, list) and key.isdigit() and int(key) < len(content))


def get(config: Mapping[str, Any], name: str) -> Any:
    """The content of an entry, ``train::trainer::max_epochs``; None where there is none."""
    content: Any = config
    for key in name.split("::"):
        if isinstance(content, Mapping):
            content = content.get(key)
        elif isinstance(content, list) and key.isdigit() and int(key) < len(content):
            content = content[int(key)]
        else:
            return None
    return content


def knows(config: Mapping[str, Any], name: str) -> bool:
    """Whether a config has an entry of this name, or a place for it: an argument that its component has not yet."""
    *parents, last = name.split("::")
    if parents:
        return _is_branch(get(config, "::".join(parents)), last)
    return name in config or re.search(rf"[@%]{re.escape(name)}\b", json.dumps(config, default=str)) is not None


def first_sentence(file: Path) -> str:
    """What a config file says about itself first, in the comment at its head."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:].strip())
    return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(lines))[0]
