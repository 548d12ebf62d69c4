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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.networks import one_hot
from torch import Tensor

from ..data.pairs import PairDataset
from ..fields.warping import warp
from ..files import processes
from ..matching.match import Matching
from ..matching.vote import Atlas, LocalVote, refuse_partly_labeled, take_vote
from ..methods.voting import VotedSegmentation, vote_of
from ..networks.weights import read_saved, save_atomically
from .leave_one_out import choose_vote, mean_dice

__all__ = ["VoteRounds"]

logger = logging.getLogger(__name__)

FILE = "votes.pt"
COMPARED = 5  # validation cases at the end: each is carried onto by all labelled ones


def _halved(ddf: Tensor) -> Tensor:
    """A field (1, 3, D, H, W) on every second voxel, enough to draw parts of it: (3, D/2, H/2, W/2), float16."""
    return F.interpolate(ddf, scale_factor=0.5, mode="trilinear", align_corners=False)[0].half().cpu()


class VoteRounds:
    """Gives unlabelled images a label to learn from: the vote of the labelled cases, carried there by registration.

    A round comes before the first iteration of its epoch. Its affines come from segmentation as it is by then, and its
    fields from the images, and in a second turn from what the labelled cases said in the first, so that the votes and
    the network are two sources that err independently. How votes are joined, and in how many turns, is chosen by
    leaving out one labelled case after the other. The votes lie beside the weights until the next round, and a training
    that is resumed goes on with them. From then on a pair whose fixed image is unlabelled has a ``fixed_label``, which
    terms take by ``requires: [fixed_label]``. With ``sampling`` its labelled moving image goes part of the way to the
    fixed one, along the field that carried it, and its label with it: deep structure sampling (He et al., ECCV 2020,
    Section 3.1).

    The history gets ``votes/seconds`` and the figures of :func:`scripts.training.leave_one_out.choose_vote`: the mean
    Dice of the labelled cases for each way to join them, and what tells right from wrong. At the end it is told which
    is better on validation cases, S alone or the vote.

    Args:
        epochs: before which there is a round, counted from 1.
        dataset: the training's: its labelled subjects vote on its unlabelled ones.
        network: segmentation.
        num_classes: with background.
        matching: registers by the images, after an affine that may know the structures.
        folder: where ``votes.pt`` goes.
        device: where networks and images are.
        weighting: as of :class:`scripts.matching.vote.LocalVote`; None: chosen.
        sampling: draws the part of the field, as :mod:`scripts.joint.sampling`; None: moving images stay.
        validation: labelled subjects for the end.

    Raises:
        ValueError: there is no such weighting, or a label says only a part.
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
        sampling: Callable[[int, torch.device], Tensor] | None = None,
        validation: PairDataset | None = None,
    ) -> None:
        if weighting not in (None, "learned"):
            LocalVote(weighting)
        for index in dataset.labeled_indices:
            refuse_partly_labeled(dataset.subjects[index])
        self.epochs, self.dataset, self.network = sorted(epochs), dataset, network
        self.num_classes, self.matching, self.path = num_classes, matching, Path(folder) / FILE
        self.device, self.weighting, self.sampling, self.validation = device, weighting, sampling, validation
        self.votes: dict[str, Tensor] = {}
        self.fields: dict[str, dict[str, Tensor]] = {}  # fixed -> moving -> displacement on every second voxel
        self.epoch: int | None = None  # whose votes these are

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer."""
        engine.add_event_handler(Events.STARTED, self._warn_of_none)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.COMPLETED, self._compare)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What a batch gets: if there are votes on all its fixed images, a ``fixed_label`` (B, 1, D, H, W), and its
        moving images and labels part of the way there."""
        names = batch["fixed_case"]
        if "fixed_label" in batch or not all(name in self.votes for name in names):
            return {}
        votes = torch.stack([self.votes[name] for name in names]).to(batch["fixed_image"].device)
        return {"fixed_label": votes, **self._sampled(batch)}

    def _sampled(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        pairs = list(zip(batch["moving_case"], batch["fixed_case"], strict=True))
        if self.sampling is None or not all(moving in self.fields.get(fixed, ()) for moving, fixed in pairs):
            return {}
        image, label = batch["moving_image"], batch["moving_label"]
        half = torch.stack([self.fields[fixed][moving] for moving, fixed in pairs]).to(image.device)
        ddf = F.interpolate(half.float(), size=image.shape[2:], mode="trilinear", align_corners=False)
        ddf = self.sampling(len(ddf), ddf.device) * ddf
        classes = warp(one_hot(label.long(), self.num_classes, dtype=torch.float32)[:, 1:], ddf)
        known = torch.cat([1 - classes.sum(dim=1, keepdim=True), classes], dim=1).argmax(dim=1, keepdim=True)
        return {"moving_image": warp(image, ddf), "moving_label": known.to(label.dtype)}

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
        self.epoch, self.votes, self.fields = saved["epoch"], saved["votes"], saved.get("fields", {})  # 0.8 kept none
        engine.state.metrics.update({f"votes/{name}": value for name, value in saved["figures"].items()})

    @torch.no_grad()
    def _vote(self, epoch: int) -> dict[str, Any]:
        start = time.perf_counter()
        self.network.eval()
        subjects = [self.dataset.subjects[i] for i in range(len(self.dataset.subjects))]
        atlases = self._atlases()
        join, figures = choose_vote(atlases, self._segment, self.num_classes, self.matching, self.weighting)
        votes, fields = {}, {}
        for subject in (subjects[i] for i in self.dataset.unlabeled_indices):
            image = self._batch(subject["image"]).float()
            prob, carried = take_vote(atlases, image, self._segment(image), self.num_classes, self.matching, join)
            votes[subject["case"]] = prob.argmax(dim=1).to(torch.int16).cpu()
            if self.sampling is not None:
                fields[subject["case"]] = {one.case: _halved(one.ddf) for one in carried}
        seconds = time.perf_counter() - start
        logger.info(
            "%d labelled cases voted on %d unlabelled ones in %.0f s; joined by %s in %d turns "
            "(leave-one-out, mean Dice: %s)",
            *(len(atlases), len(votes), seconds, join.weighting, join.turns),
            ", ".join(f"{name} {value:.3f}" for name, value in figures.items()) or "one case alone",
        )
        figures = {**figures, "seconds": seconds}
        judge = None if join.judge is None else join.judge.weights
        way = {"weighting": join.weighting, "turns": join.turns, "judge": judge}
        return {"epoch": epoch, "votes": votes, "fields": fields, **way, "figures": figures}

    def _atlases(self) -> list[Atlas]:
        labeled = (self.dataset.subjects[i] for i in self.dataset.labeled_indices)
        return [
            Atlas(subject["case"], self._batch(subject["image"]).float(), self._batch(subject["label"]))
            for subject in labeled
        ]

    @torch.no_grad()
    def _compare(self) -> None:
        """Tell how S and the vote do on the validation cases."""
        if self.epoch is None or self.validation is None or not len(self.validation.subjects):
            return
        self.network.eval()
        join = vote_of(read_saved(self.path))
        voting = VotedSegmentation(self.network, self._atlases(), self.num_classes, self.matching, join)
        scores: dict[str, list[float]] = {"alone": [], "vote": []}
        for i in range(min(len(self.validation.subjects), COMPARED)):
            image, label = (self._batch(self.validation.subjects[i][key]) for key in ("image", "label"))
            for found, logits in zip(scores.values(), (self.network(image), voting(image)), strict=True):
                found.append(mean_dice(logits, label))
        alone, vote = (sum(found) / len(found) for found in scores.values())
        logger.info(
            "on %d validation cases segmentation has a mean Dice of %.3f alone, and of %.3f with `--vote`: %s",
            *(len(scores["vote"]), alone, vote),
            "let the labelled cases vote, where seconds an image do not matter" if vote > alone else "do without",
        )

    def _segment(self, image: Tensor) -> Tensor:
        return self.network(image).float().softmax(dim=1)

    def _batch(self, volume: Tensor) -> Tensor:
        return torch.as_tensor(volume.as_tensor() if hasattr(volume, "as_tensor") else volume)[None].to(self.device)
