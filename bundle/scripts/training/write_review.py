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
"""What the cases of a training say about the structures of its model, so that later segmentations can be judged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer

from ..data.pairs import PairDataset
from ..data.review import estimated_dice, measured_shapes, overlaps
from ..data.review_table import KNOWLEDGE, fit_line, write_model_review
from ..files import processes
from ..networks.weights import FILES, load_weights

__all__ = ["WriteReview"]

logger = logging.getLogger(__name__)

MOST = 20  # validation cases that the network is asked about


class WriteReview:
    """At the end of a training, writes ``review.json`` beside ``model.pt``, by which ``review.csv`` is made.

    It says of each structure what the labelled cases and those of validation are like, and how its Dice follows from
    the network's own estimate, in validation. Without validation cases that is not known: on cases that it has learned
    from, a network is better and surer than on others. Of several processes the first one writes.

    Args:
        folder: of the weights, which are read again: they need not be the latest.
        network: for segmentation; stays as it is.
        labels: ids of the structures -> names.
        labeled: the cases of training.
        validation: those of validation; the first 20 are segmented.
        inferer: how the network is applied, as in segmenting new images.
        device: where the network is.
    """

    def __init__(
        self,
        folder: str | Path,
        network: torch.nn.Module,
        labels: Mapping[Any, str],
        labeled: PairDataset,
        validation: PairDataset,
        inferer: Inferer,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.network, self.inferer, self.device = Path(folder), network, inferer, device
        self.label_ids = sorted(int(i) for i in labels if int(i) != 0)
        self.labeled, self.validation = labeled, validation

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer; to be listed after the handler that saves the weights."""
        if processes.rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self) -> None:
        subjects = [*_subjects(self.labeled), *_subjects(self.validation)]
        shapes = [_shapes(subject, len(self.label_ids)) for subject in subjects]
        scores = list(self._scores())
        structures = {}
        for number, label_id in enumerate(self.label_ids):
            known = [shape[number] for shape in shapes if shape[number]["pieces"]]
            scored = [(estimates[number], dice[number]) for estimates, dice in scores]
            scored = [(estimate, dice) for estimate, dice in scored if estimate and dice is not None]
            structures[label_id] = {
                "calibration": fit_line(*zip(*scored, strict=True)) if scored else None,
                "volume_ml": _volumes([shape["volume_ml"] for shape in known]),
                "pieces": max((shape["pieces"] for shape in known), default=1),
                "touches_border": any(shape["touches_border"] for shape in known),
            }
        write_model_review(self.folder / FILES["segmentation"], structures)
        logger.info("%s: %d labelled cases, %d of them segmented", self.folder / KNOWLEDGE, len(shapes), len(scores))

    @torch.no_grad()
    def _scores(self) -> Iterator[tuple[list[float], list[float | None]]]:
        """Of each case of validation the estimated and the true Dice of the structures."""
        network = deepcopy(self.network)
        load_weights(network, self.folder, FILES["segmentation"], self.device)
        network.eval()
        for subject in islice(_subjects(self.validation), MOST):
            image = subject["moving_image"][None].to(self.device)
            prob = self.inferer(image, network)[0].float().softmax(dim=0)
            classes = prob.argmax(dim=0)
            label = torch.as_tensor(subject["moving_label"])[0].to(self.device)
            yield estimated_dice(prob, classes), overlaps(classes, label, len(prob))


def _subjects(data: PairDataset) -> Iterator[dict[str, Any]]:
    """The labelled cases one by one, each as a pair with itself."""
    return (data[index, index] for index in data.labeled_indices)


def _shapes(subject: Mapping[str, Any], structures: int) -> list[dict[str, Any]]:
    label, affine = np.asarray(subject["moving_label"])[0], np.asarray(subject["moving_affine"])
    return measured_shapes(label, affine, range(1, structures + 1))


def _volumes(volumes: list[float]) -> dict[str, float] | None:
    """Mean and standard deviation; of fewer than three, nothing can be said."""
    return {"mean": float(np.mean(volumes)), "sd": float(np.std(volumes, ddof=1))} if len(volumes) > 2 else None
