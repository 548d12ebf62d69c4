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
"""A plan of training: cases are read, a grid is found that the budget allows, and ``plan.yaml`` is written."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from ..data.cases import Cases
from ..data.checks import DataCheck
from ..data.volumes import Volume
from ..files.output_folder import OutputFolder
from ..training.config_of_run import config_parser
from .budget import GIB, Budget, Cost, Work, choose_grid
from .choose import Machine, Setting, is_wide, multiple_of_networks, schedule, settings, summary
from .fingerprint import CaseFacts, Fingerprint, facts_of, fingerprint_of
from .grids import Grid, grids_of
from .measure import machine_memory, measure
from .plan_file import plan_text

__all__ = ["PLAN", "Planning"]

logger = logging.getLogger(__name__)

PLAN = "plan.yaml"
LEARNT_FROM = ("labeled", "unlabeled", "validation")
#: entries that belong together: who sets one has chosen the others
TOGETHER = (
    ("intensity", "intensity_range"),
    ("network_def::channels", "network_def::strides"),
    ("discriminator_def::network::channels", "discriminator_def::network::strides"),
    tuple(f"registration_def::{name}" for name in ("encoder_channels", "decoder_channels", "half_resolution")),
)
_DEFAULTS = Path(__file__).parents[2] / "configs" / "train.yaml"


class Planning:
    """Makes a plan from the data and a budget, and writes it.

    What differs from ``train.yaml`` in the config that is running was set by somebody, and stays.

    Args:
        data_check: of the cases; those of the test are checked, and the plan is not made from them.
        output_dir: the folder for ``plan.yaml``.
        memory: GiB that training may take; ``None``: of the card, or the machine.
        minutes: that it may take.
        orientation: of the axes.
        device: where the networks will be.
        overwrite: also replace a ``plan.yaml`` that this product did not write, or that was changed since.
    """

    def __init__(
        self,
        data_check: DataCheck,
        output_dir: str | Path,
        memory: float | None = None,
        minutes: float = 30.0,
        orientation: str = "RAS",
        device: torch.device | str = "cpu",
        overwrite: bool = False,
    ) -> None:
        self.data_check, self.orientation, self.device = data_check, orientation, torch.device(device)
        self.folder = OutputFolder(output_dir, overwrite)
        self.budget = Budget(machine_memory(self.device) / GIB if memory is None else memory, minutes)
        self.cases: Cases = data_check.cases
        has_bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.machine = Machine(self.device.type, has_bf16)
        parser = config_parser()
        self.config = {} if parser is None else {k: v for k, v in parser.get().items() if k != "_meta_"}
        self.defaults = yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8"))

    def run(self) -> Path:
        """Check the data, measure, and write.

        Returns:
            The plan.

        Raises:
            ValueError: the data have faults, or no training fits the budget.
            FileExistsError: another ``plan.yaml`` would be replaced.
        """
        with self.folder as folder:
            folder.refuse_foreign([PLAN])
            began = time.perf_counter()
            fingerprint = fingerprint_of(self._facts(), self.cases.labels)
            plan, expected = self._choose(fingerprint, time.perf_counter() - began)
            mine, others = self._beside_others(plan)
            text = plan_text(fingerprint, mine, others, expected, self.budget)
            with folder.replacing() as staging:
                (staging / PLAN).write_text(text, encoding="utf-8")
        logger.info("the plan is %s; it expects %s", folder.path / PLAN, expected)
        return folder.path / PLAN

    def _facts(self) -> list[CaseFacts]:
        def look(where: str, case: Mapping[str, str], image: Volume, label: Volume | None) -> CaseFacts | None:
            if where not in LEARNT_FROM:
                return None
            array = None if label is None else label.array
            return facts_of(case["case"], image.array, image.affine, array, self.orientation)

        return [facts for facts in self.data_check.run(look) if facts is not None]

    def _choose(self, fingerprint: Fingerprint, reading: float) -> tuple[dict[str, Setting], str]:
        """All entries, and what to expect of them; the grid is the finest that the budget allows."""

        def on(grid: Grid) -> dict[str, Setting]:
            return settings(fingerprint, grid, self.machine, self.orientation)

        def try_out(grid: Grid) -> Cost:
            cost = measure(self._with(on(grid)), self.cases.labels, lists)
            shown = " x ".join(map(str, grid.size))
            logger.info("two iterations at %s: %.2f s each, %.2f GiB", shown, cost.seconds, cost.peak / GIB)
            return cost

        lists = {name: getattr(self.cases, name) for name in LEARNT_FROM}
        epochs, iterations, *shape = (
            self.config.get(name) if self._is_of_others(name) else None
            for name in ("max_epochs", "iterations_per_epoch", "pixdim", "spatial_size")
        )
        multiple = multiple_of_networks(is_wide(fingerprint, self.machine))
        multiple = math.lcm(multiple, self._multiple(on(grids_of(fingerprint, multiple, *shape)[0])))
        work = Work(
            cached=sum(map(len, lists.values())),
            validation=len(self.cases.validation),
            reading=reading,
            largest=fingerprint.largest,
            on_cpu=self.device.type == "cpu",
            epochs=epochs,
            iterations=iterations,
        )
        grid, _, expected = choose_grid(grids_of(fingerprint, multiple, *shape), try_out, work, self.budget)
        return on(grid) | schedule(expected), summary(fingerprint, grid, expected)

    def _is_of_others(self, name: str) -> bool:
        """Whether another config, or the command line, has set an entry, or one that belongs to it."""
        names = next((group for group in TOGETHER if name in group), (name,))
        parts = [part for each in names for part in (each, f"{each.split('::')[0]}::_target_")[: 1 + ("::" in each)]]
        return any(_get(self.config, part) != _get(self.defaults, part) for part in parts)

    def _beside_others(self, plan: Mapping[str, Setting]) -> tuple[dict[str, Setting], list[str]]:
        """The entries to be written, those of others with their values; and those that are not."""
        theirs = [name for name in plan if self._is_of_others(name)]
        parts = [name for name in theirs if "::" in name or name == "augmentation"]
        kept = {name: Setting(self.config[name], "as you have set it") for name in theirs if name not in parts}
        return {name: kept.get(name, setting) for name, setting in plan.items() if name not in parts}, parts

    def _with(self, plan: Mapping[str, Setting]) -> dict[str, Any]:
        """The running config with the entries of a plan, where nobody has set them."""
        config = copy.deepcopy(self.config)
        for name, setting in plan.items():
            if not self._is_of_others(name):
                *parents, last = name.split("::")
                reduce(lambda place, key: place[key], parents, config)[last] = setting.value
        return config

    def _multiple(self, plan: Mapping[str, Setting]) -> int:
        """What each side has to be a multiple of for the networks of the config."""
        return int(ConfigParser(self._with(plan)).get_parsed_content("multiple"))


def _get(config: Mapping[str, Any], name: str) -> Any:
    content: Any = config
    for key in name.split("::"):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
