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
"""The picture of a pair after each epoch."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from ..files import processes
from ..pictures.orientation import VIEWS, Frame, checked_view
from .pair_picture import draw_pair, write_picture


class PairPicture:
    """After each epoch, a picture of its last pair, in TensorBoard and as PNG: images, grid, confidence, outlines.

    Attached to a validation, it shows a pair of that; attached to a training that has no pairs for one, the last pair
    trained on, without random augmentation.

    Args:
        log_dir: of TensorBoard.
        folder: where ``epoch_0001.png`` and so on go.
        with_segmentation: whether the segmentation network takes part in this recipe.
        tag: name of the picture in TensorBoard.
        view: ``radiological`` (the patient's right on the left) or ``neurological``.
    """

    def __init__(
        self,
        log_dir: str,
        folder: str,
        with_segmentation: bool = True,
        tag: str = "validation/pair",
        view: str = VIEWS[0],
    ) -> None:
        self.view = checked_view(view)
        self.log_dir, self.folder, self.with_segmentation, self.tag = log_dir, Path(folder), with_segmentation, tag

    def attach(self, engine: Engine) -> None:
        """Listen to a JointEvaluator or JointTrainer; of several processes the first one draws."""
        if processes.rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    @torch.no_grad()
    def _draw(self, engine: Engine) -> None:
        pair, epoch = engine.last_pair(), engine.state.epoch
        label = pair.batch.get("fixed_label")
        picture = draw_pair(
            pair,
            Frame.of(pair.batch["fixed_affine"][0].cpu(), self.view),
            pred=pair.fixed_pred[0].argmax(0) if self.with_segmentation else None,
            label=None if label is None else label[0, 0] * (label[0, 0] < pair.num_classes),  # without what is ignored
        )
        write_picture(self.folder / f"epoch_{epoch:04d}.png", picture)
        with SummaryWriter(self.log_dir) as writer:
            writer.add_image(self.tag, picture, epoch, dataformats="HWC")
