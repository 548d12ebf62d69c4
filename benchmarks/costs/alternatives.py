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
"""What is measured: trainings by config, the same of MONAI's parts, and a pair at inference. Runs in a child process.

Nothing but what 0.9.0 has is asked of `scripts`, which may be those of an older commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from benchmarks.costs.naive import MonaiVoxelMorph, NaiveTraining
from scripts.joint.trainer import to_device
from scripts.registration.refinement import Refinement

#: the recipe of each method; None: train.yaml itself
METHODS = {
    "deeprs": None,
    "best": "best",
    "unet": "unet",
    "voxelmorph": "voxelmorph",
    "monai_voxelmorph": None,
    "naive": None,
    "pair": "best",
    "pair_refined": "best",
}
REFINEMENT_STEPS = 20


@dataclass
class Alternative:
    """Something that can be measured.

    Args:
        run: takes batches from a loader until that ends.
        losses: those of the last iteration, by name; empty for what does not learn.
        optimizers: of what is trained.
    """

    run: Callable[[Iterable[dict[str, Any]]], None]
    losses: Callable[[], Mapping[str, torch.Tensor]] = dict
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)


def config_files(configs: str | Path, method: str, dataset: str | None) -> list[str]:
    """The files that a method is made of: `train.yaml`, the data set, the recipe.

    Args:
        configs: the folder, of whatever build.
        method: one of METHODS.
        dataset: a file of ``data/``, or None.
    """
    files = ["train", f"data/{dataset}" if dataset else None, f"recipes/{METHODS[method]}" if METHODS[method] else None]
    return [f"{configs}/{file}.yaml" for file in files if file]


def parse(configs: str | Path, method: str, dataset: str | None, entries: Mapping[str, Any]) -> ConfigParser:
    """Read the config of a method, in which every term counts from the first iteration.

    Args:
        configs, method, dataset: as of :func:`config_files`.
        entries: further ones, by id.
    """
    parser = ConfigParser()
    parser.read_config(config_files(configs, method, dataset))
    for name, value in entries.items():
        parser[name] = value
    for update in parser["updates"].values():
        for term in update.get("terms", {}).values():
            term.update(start=0, ramp=0)
    return parser


def prepare(parser: ConfigParser, device: str, num_classes: int | None, folder: str | None) -> None:
    """Set what belongs to this measurement: the device, no files, and pairs in which the moving image has a label.

    Args:
        parser: of :func:`parse`.
        device: "cpu" or "cuda".
        num_classes: with background, for pairs that are in memory.
        folder: of a data set, for the config's own loader; None: pairs are in memory.
    """
    parser["device"] = f"$torch.device('{device}')"
    parser["train::trainer::train_data_loader"] = None
    parser["train::trainer::train_handlers"] = []
    parser["max_epochs"] = 10**6  # the rates stay as they are
    parser["train::sampler::kinds"] = {"labeled_unlabeled": 1.0}
    if folder is None:
        parser["cases"], parser["num_classes"] = SimpleNamespace(num_classes=num_classes), num_classes
    else:
        parser["dataset_dir"], parser["labels"] = folder, None
        parser["num_unlabeled"] = None


def make(method: str, parser: ConfigParser) -> Alternative:
    """Make what a method's name says.

    Args:
        method: one of METHODS.
        parser: prepared.
    """
    set_determinism(seed=parser.get_parsed_content("seed"))  # as train.yaml does
    device = parser.get_parsed_content("device")
    amp_dtype = torch.bfloat16 if parser.get_parsed_content("amp") else None
    if method.startswith("pair"):
        return _inference(parser, device, amp_dtype, REFINEMENT_STEPS if method == "pair_refined" else 0)
    if method == "monai_voxelmorph":
        return _plain(step := MonaiVoxelMorph(device, amp_dtype), device, [step.optimizer])
    if method == "naive":
        updates, networks, schedule, num_classes = (
            parser.get_parsed_content(name) for name in ("updates", "networks", "schedule", "num_classes")
        )
        optimizers = {name: update.optimizer for name, update in updates.items()}
        step = NaiveTraining(networks, optimizers, schedule, num_classes, amp_dtype)
        return _plain(step, device, [*optimizers.values()])
    return _joint(parser)


def _joint(parser: ConfigParser) -> Alternative:
    trainer = parser.get_parsed_content("train::trainer")

    def run(loader: Iterable) -> None:
        trainer.data_loader, trainer.state.max_epochs = loader, 1  # of as many iterations as are asked for
        trainer.run()

    def losses() -> dict[str, torch.Tensor]:
        return {name: value for name, (value, _) in trainer.state.losses.items()}

    return Alternative(run, losses, [update.optimizer for update in trainer.updates.values()])


def _plain(step: Any, device: torch.device, optimizers: list[torch.optim.Optimizer]) -> Alternative:
    def run(loader: Iterable) -> None:
        for batch in loader:
            step(to_device(batch, device))

    return Alternative(run, lambda: step.losses, optimizers)


def _inference(parser: ConfigParser, device: torch.device, amp_dtype: torch.dtype | None, steps: int) -> Alternative:
    """S of both images, R, and the warp, from tensors on the device."""
    networks, state = parser.get_parsed_content("networks"), parser.get_parsed_content("state")
    refinement = Refinement(parser.get_parsed_content("refinement_terms"), steps)
    for network in networks.values():
        network.eval()

    @torch.no_grad()
    def run(loader: Iterable) -> None:
        for batch in loader:
            images = {key: batch[key].to(device) for key in ("moving_image", "fixed_image")}
            make_state = partial(state, images, networks, amp_dtype=amp_dtype)
            pair = refinement(make_state(), make_state)
            _ = pair.moving_pred, pair.fixed_pred, pair.warped_image

    return Alternative(run)
