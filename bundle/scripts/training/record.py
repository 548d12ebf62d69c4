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
"""A run documents itself: its merged config, and a small one that brings its weights to other commands, twice: as a
config, and as a record that runs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ReferenceResolver

from ..data.checks import DataCheck
from ..files import processes
from ..files.literal import literal
from ..files.marks import KEY, written_by
from ..files.output_folder import stamps
from ..files.writing import write_text
from ..networks.weights import FILES
from .config_of_run import config_parser
from .model_record import write_model

#: the files of :class:`RecordConfig`
CONFIG, MODEL = "config.yaml", "model.yaml"


class RecordConfig:
    """Writes the merged config of the run, ``config.yaml``, and what using the weights takes, ``model.yaml``.

    ``model.yaml`` goes last in the list of config files of `evaluating`, `inferring` and `registering`, and makes them
    read these weights, with the networks, sizes and labels they were trained with. ``model.json`` says the same for
    those who were given the folder, and runs nothing: :mod:`scripts.training.model_record`.

    Args:
        folder: where the weights go.
        model: entries of ``model.yaml`` by value, such as the labels that were found in the data.
        copied: ids of the config that are copied into ``model.yaml`` as they stand, unresolved, together with the
            entries they refer to, such as the ``sampling`` of a ``state``.
        data_check: that of the run, which knows the size of the voxels once it has looked at the cases.
    """

    def __init__(
        self, folder: str, model: Mapping[str, Any], copied: Sequence[str], data_check: DataCheck | None = None
    ) -> None:
        self.folder, self.data_check = Path(folder), data_check
        self.parser = parser = config_parser()
        self.merged = parser.get() if parser is not None else None
        self.values = dict(model)
        self.model = {**model, **(with_references(parser, copied, known=model) if parser is not None else {})}

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer; of several processes the first one writes."""
        if processes.rank() == 0:
            engine.add_event_handler(Events.STARTED, self._write)

    def _write(self) -> None:
        voxel_size = None if self.data_check is None else self.data_check.voxel_size
        values = {**self.values, "voxel_size": voxel_size, "ckpt_dir": str(self.folder.resolve())}
        model = {**self.model, **{key: literal(value) for key, value in values.items()}}  # values are data
        for name, content in ((CONFIG, self.merged), (MODEL, model)):
            if content is not None:
                write_text(self.folder / name, f"# {KEY} {written_by()}\n{to_yaml(content)}")
        write_model(self.folder, self.model, voxel_size, self.parser)


def with_references(parser: ConfigParser, ids: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a config as text, and the top-level entries they refer to, except for those that are known."""
    entries, pending = {}, list(ids)
    while pending:
        key = pending.pop(0)
        if key not in entries and key not in known:
            entries[key] = parser.get(key)
            references = ReferenceResolver.find_refs_in_config(entries[key], id=key)
            pending += [reference.split("::")[0] for reference in references]
    return entries


def settings_of_run(weights: str | Path, left_out: Sequence[str]) -> dict[str, Any]:
    """What the results of a run depend on besides its inputs: a stopped run is gone on with only where it is the same.

    Args:
        weights: their folder.
        left_out: entries of the config that say where things are and not how they are made.

    Returns:
        A hash of the merged config, files of weights with size and time, and the version.
    """
    parser = config_parser()
    config = {} if parser is None else {k: v for k, v in parser.get().items() if k not in {*left_out, "_meta_"}}
    files = sorted(path for path in Path(weights).expanduser().absolute().glob("*.pt"))
    text = json.dumps(config, sort_keys=True, default=str)
    return {
        "config": hashlib.sha256(text.encode()).hexdigest(),
        "weights": stamps(path for path in files if path.name in FILES.values()),
        "version": written_by(),
    }


def to_yaml(content: Mapping[str, Any]) -> str:
    """A config as the text of a file; what a program has put into it, such as a path or a device, as its text."""
    return yaml.dump(content, Dumper=_ConfigDumper, sort_keys=False, width=120)


class _ConfigDumper(yaml.SafeDumper):
    """Writes what a program has put into a config, such as a path or a device, as its text."""


_ConfigDumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(str(value)))
