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

"""What a command takes of a folder that anybody may have made: what it declares, and nothing that would be run.

``model.yaml`` and ``config.yaml`` are programs to MONAI. Given by name they are run; of a folder, their place in the
list of config files is taken by the record of the model and, to evaluate, by the plain values that say which data the
training had.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from . import BUNDLE
from .mistakes import Mistake
from .plans import Plan

__all__ = ["config_files"]

#: entries of a training's config that say what its data are, beside those of the model
DATA = (
    *("dataset_dir", "datalist", "image_name", "label_name", "labels", "num_labeled", "num_unlabeled", "fold", "seed"),
    *("test_pairs", "max_pairs"),
)
#: the steps of 0.6, which had its preprocessing in the config
STEPS_OF_0_6 = {
    *("LoadImaged", "LabelsToClassesd", "Orientationd", "SafeSpacingd", "ScaleIntensityRangePercentilesd"),
    *("ScaleIntensityRanged", "CropForegroundd", "ResizeWithPadOrCropd", "EnsureTyped"),
}


@contextmanager
def config_files(plan: Plan) -> Iterator[list[str]]:
    """The config files of a run, while they are needed.

    Args:
        plan: if ``declared`` is one of its files, what that declares stands in its place.

    Raises:
        ValueError: the folder declares what is not allowed, or needs more than it can declare.
    """
    if plan.declared is None:
        yield [str(file) for file in plan.files]
        return
    from scripts.training.model_record import read_model

    entries = read_model(plan.declared.parent)
    if plan.declared.name == "config.yaml":
        entries = {**_data_of(plan.declared), **entries}
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "declared.json"
        record.write_text(json.dumps(entries), encoding="utf-8")
        yield [str(record if file == plan.declared else file) for file in plan.files]


def _data_of(config: Path) -> dict[str, Any]:
    """The plain values of a ``config.yaml`` that say which data the training had."""
    from scripts.files.literal import literal

    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    shipped = yaml.safe_load((BUNDLE / "configs" / "train.yaml").read_text(encoding="utf-8"))
    for name in ("cases", "preprocessing"):
        if _steps(content.get(name)) not in (_steps(shipped[name]), None):
            raise Mistake(
                f"{config}: its `{name}` is not that of train.yaml, and would have to be run.\n"
                f"If you trust who made it, give the file by name: --model {config}"
            )
    return {name: literal(content[name]) for name in DATA if _is_plain(content.get(name, "$"))}


def _steps(entry: Any) -> str | None:
    """The class of a component; of a ``Compose`` of the steps of 0.6, None."""
    if not isinstance(entry, Mapping):
        return None if entry is None else "?"
    name = str(entry.get("_target_", "?")).rpartition(".")[2]
    steps = entry.get("transforms", [])
    names = {str(step.get("_target_")).rpartition(".")[2] if isinstance(step, Mapping) else "?" for step in steps}
    return None if name == "Compose" and names <= STEPS_OF_0_6 else name


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1] not in ("$", "@", "%")
    if isinstance(value, Mapping):
        return all(
            isinstance(key, (str, int)) and str(key)[:1] != "_" and _is_plain(each) for key, each in value.items()
        )
    return value is None or isinstance(value, (bool, int, float))
