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
"""What a run of ``compare.py`` is: its configs, its files and its settings; and how the command line names several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.runs.records import LABELS, RESULTS

CONFIGS = ROOT / "bundle" / "configs"
OUTPUT = ROOT / "output" / "compare"
#: ablations of a recipe rather than of train.yaml, by the beginning of their name: overlays of that recipe
ABLATED = {"brbs_": "brbs"}
#: methods of two runs: the second starts from the weights of the first, of the same seed, by its entry `pretrained`
FIRST_RUN = {"pc_reg_rt": "pc_reg"}

#: what the words of `--augmentation` mean
SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Plan:
    """What a run is: enough to repeat it.

    Args:
        dataset: a file of ``configs/data``.
        method: a file of ``configs/recipes`` or ``configs/ablations``, or ``deeprs`` for ``train.yaml`` itself.
        augmented: with the random augmentation of the data set.
        num_labeled: labelled cases to learn from.
        seed: of the training.
        extra: files of ``configs/run``.
        arguments: further entries of the config.
    """

    dataset: str
    method: str
    augmented: bool
    num_labeled: int
    seed: int
    extra: tuple[str, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The name of its files; 4 labelled cases are not mentioned."""
        labels = "" if self.num_labeled == LABELS else f"_n{self.num_labeled}"
        return f"{self.method}_{'aug' if self.augmented else 'noaug'}{labels}_s{self.seed}"

    @property
    def work(self) -> Path:
        """The folder of its weights, curves and scores."""
        return OUTPUT / self.dataset / self.name

    @property
    def result(self) -> Path:
        """The file of its record."""
        return RESULTS / self.dataset / f"{self.name}.json"

    @property
    def configs(self) -> list[Path]:
        """The config files: what to compute, on which data, how to run it.

        Raises:
            ValueError: when there is no such method, data set, or file of ``configs/run``.
        """
        files = [CONFIGS / "train.yaml", _config("data", self.dataset), *_method_files(self.method)]
        extra = self.extra if self.augmented else ("no_augmentation", *self.extra)
        return files + [_config("run", name) for name in extra]

    @property
    def settings(self) -> dict[str, Any]:
        """What a result has to agree in to be that of this plan."""
        return {
            "method": self.method,
            "augmented": self.augmented,
            "num_labeled": self.num_labeled,
            "seed": self.seed,
            "configs": [str(path.relative_to(CONFIGS)) for path in self.configs],
            "arguments": dict(self.arguments),
        }

    @property
    def first_run(self) -> Plan | None:
        """The plan of the run whose weights this one starts from, where there is one."""
        first = FIRST_RUN.get(self.method)
        return None if first is None else Plan(**{**vars(self), "method": first})


def parse_name(name: str) -> tuple[str, bool, int]:
    """The method of a plan, whether it is augmented, and its number of labels, from its name.

    Raises:
        ValueError: it is no such name.
    """
    found = re.fullmatch(r"(\w+?)_(aug|noaug)(?:_n(\d+))?_s\d+", name)
    if found is None:
        raise ValueError(f"'{name}': expected the name of a run, such as deeprs_aug_s0.")
    method, augmentation, labels = found.groups()
    return method, augmentation == "aug", int(labels or LABELS)


def _config(folder: str, name: str) -> Path:
    path = CONFIGS / folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(path.stem for path in path.parent.glob("*.yaml"))
        raise ValueError(f"no '{name}' in configs/{folder}: expected one of {known}.")
    return path


def _method_files(method: str) -> list[Path]:
    if method == "deeprs":
        return []
    recipe, ablation = (CONFIGS / folder / f"{method}.yaml" for folder in ("recipes", "ablations"))
    if recipe.is_file():
        return [recipe]
    if not ablation.is_file():
        known = sorted(path.stem for folder in (recipe.parent, ablation.parent) for path in folder.glob("*.yaml"))
        raise ValueError(f"no method '{method}': expected deeprs or a file of recipes/ or ablations/: {known}.")
    bases = [CONFIGS / "recipes" / f"{base}.yaml" for prefix, base in ABLATED.items() if method.startswith(prefix)]
    return [*bases, ablation]


def listed(value: Any) -> list[str]:
    """What stands on a command line with commas, or as a list, as texts."""
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else str(value).split(",")


def numbers(value: Any, option: str) -> list[int]:
    """The same, as whole numbers.

    Raises:
        ValueError: one is none; names the option.
    """
    try:
        return [int(entry) for entry in listed(value)]
    except ValueError as error:
        raise ValueError(f"--{option} '{value}': expected whole numbers, with commas between them.") from error


def is_on(augmentation: str, known: Mapping[str, bool | None] = SWITCH) -> bool | None:
    """What a word of ``--augmentation`` means.

    Raises:
        ValueError: it is none of those that are known.
    """
    if augmentation not in known:
        raise ValueError(f"--augmentation '{augmentation}': expected {', '.join(known)}, with commas between several.")
    return known[augmentation]
