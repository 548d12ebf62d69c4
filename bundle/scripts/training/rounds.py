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

"""Rounds of teaching: the labelled cases are carried onto the unlabelled ones, and what they say there teaches S."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..data.pairs import PairDataset
from ..fields.metrics import dice_per_structure
from ..files import processes
from ..matching.match import Matching
from ..matching.vote import WEIGHTINGS, Atlas, LocalVote, carry
from ..networks.weights import read_saved, save_atomically

__all__ = ["VoteRounds"]

logger = logging.getLogger(__name__)

FILE = "votes.pt"


class VoteRounds:
    """Gives unlabelled images a label to learn from: the vote of the labelled cases, carried there by registration.

    A round comes before the first iteration of its epoch. Its affines come from segmentation as it is by then, and its
    fields from the images alone, so that the votes and the network are two sources that err independently. How votes
    are joined is chosen by leaving out one labelled case after the other. The votes lie beside the weights until the
    next round, and a training that is resumed goes on with them. From then on a pair whose fixed image is unlabelled
    has a ``fixed_label``, which terms take by ``requires: [fixed_label]``.

    The history gets ``votes/seconds`` and, for each way to join them, ``votes/WEIGHTING``: the mean Dice of the
    labelled cases by leave-one-out.

    Args:
        epochs: before which there is a round, counted from 1.
        dataset: the training's: its labelled subjects vote on its unlabelled ones.
        network: segmentation.
        num_classes: with background.
        matching: registers by the images, after an affine that may know the structures.
        folder: where ``votes.pt`` goes.
        device: where networks and images are.
        weighting: ``difference`` or ``equal``; None: chosen.
    """

    def __init__(
        self,
        epochs: Sequence[int],
        dataset: PairDataset,
        network: torch.nn.Module,
        num_classes: int,
        matching: Matching,
        folder: str | Path,
        device: torch.device | str = "cpu",
        weighting: str | None = None,
    ) -> None:
        if weighting is not None:
            LocalVote(weighting)
        self.epochs, self.dataset, self.network = sorted(epochs), dataset, network
        self.num_classes, self.matching, self.path = num_classes, matching, Path(folder) / FILE
        self.device, self.weighting = device, weighting
        self.votes: dict[str, Tensor] = {}
        self.epoch: int | None = None  # whose votes these are

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer."""
        engine.add_event_handler(Events.STARTED, self._warn_of_none)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The labels that a batch gets: ``fixed_label`` (B, 1, D, H, W) if there are votes on all its fixed images."""
        names = batch["fixed_case"]
        if "fixed_label" in batch or not all(name in self.votes for name in names):
            return {}
        votes = torch.stack([self.votes[name] for name in names])
        return {"fixed_label": votes.to(batch["fixed_image"].device)}

    def _warn_of_none(self, engine: Engine) -> None:
        if late := [epoch for epoch in self.epochs if epoch > engine.state.max_epochs]:
            logger.warning("no votes before epochs %s: there are only %d (max_epochs)", late, engine.state.max_epochs)

    def _begin(self, engine: Engine) -> None:
        begun = [epoch for epoch in self.epochs if epoch <= engine.state.epoch]
        if not begun or self.epoch == begun[-1]:
            return
        saved = read_saved(self.path) if self.path.is_file() else {"epoch": None}
        if saved["epoch"] != begun[-1]:
            if begun[-1] < engine.state.epoch:
                logger.warning("'%s' of epoch %d is missing: the votes are taken anew", self.path, begun[-1])
            saved = self._vote(begun[-1])
            if processes.rank() == 0:
                save_atomically(saved, self.path)
        self.epoch, self.votes = saved["epoch"], saved["votes"]
        engine.state.metrics.update({f"votes/{name}": value for name, value in saved["figures"].items()})

    @torch.no_grad()
    def _vote(self, epoch: int) -> dict[str, Any]:
        start = time.perf_counter()
        self.network.eval()
        subjects = [self.dataset.subjects[i] for i in range(len(self.dataset.subjects))]
        atlases = [
            Atlas(subject["case"], self._batch(subject["image"]).float(), self._batch(subject["label"]))
            for subject in (subjects[i] for i in self.dataset.labeled_indices)
        ]
        figures = self._leave_one_out(atlases) if len(atlases) > 1 else {}
        weighting = self.weighting or max(figures, key=lambda name: figures[name], default=WEIGHTINGS[0])
        join, votes = LocalVote(weighting), {}
        for subject in (subjects[i] for i in self.dataset.unlabeled_indices):
            carried = self._carry(atlases, self._batch(subject["image"]).float())
            votes[subject["case"]] = join(carried).argmax(dim=1).to(torch.int16)
        seconds = time.perf_counter() - start
        logger.info(
            "%d labelled cases voted on %d unlabelled ones in %.0f s; joined by %s (leave-one-out, mean Dice: %s)",
            *(len(atlases), len(votes), seconds, weighting),
            ", ".join(f"{name} {value:.3f}" for name, value in figures.items()) or "one case alone",
        )
        cpu = {name: vote.cpu() for name, vote in votes.items()}
        return {"epoch": epoch, "votes": cpu, "weighting": weighting, "figures": {**figures, "seconds": seconds}}

    def _carry(self, atlases: Sequence[Atlas], image: Tensor) -> list:
        prob = self.network(image).float().softmax(dim=1)
        return carry(atlases, image, prob, self.num_classes, self.matching)

    def _leave_one_out(self, atlases: Sequence[Atlas]) -> dict[str, float]:
        """Mean Dice of votes on each labelled case by the others, for each way to join them."""
        scores: dict[str, list[float]] = {name: [] for name in WEIGHTINGS}
        for atlas in atlases:
            carried = self._carry([other for other in atlases if other is not atlas], atlas.image)
            for name, found in scores.items():
                classes = LocalVote(name)(carried).argmax(dim=1, keepdim=True)
                found.append(float(dice_per_structure(classes, atlas.label, self.num_classes).nanmean().nan_to_num()))
        return {name: sum(found) / len(found) for name, found in scores.items()}

    def _batch(self, volume: Tensor) -> Tensor:
        return torch.as_tensor(volume.as_tensor() if hasattr(volume, "as_tensor") else volume)[None].to(self.device)
