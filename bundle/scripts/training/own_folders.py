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
"""A training has its folders to itself, for as long as it runs."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Events

from ..data.review_table import KNOWLEDGE
from ..files.output_folder import OutputFolder
from ..joint.trainer import JointTrainer
from .model_record import MODEL_FILE
from .record import CONFIG, MODEL

__all__ = ["OwnFolders"]


class OwnFolders:
    """Keeps other runs out of the folders of a training, and the training from replacing what is not of a training.

    Each file of a training is replaced as a whole, one by one; ``train_state.pt``, which resuming goes by, comes last.

    Args:
        output_dir: curves and pictures.
        ckpt_dir: weights and configs; as a rule the same folder.
        overwrite: also replace a ``config.yaml``, ``model.yaml`` or ``history.csv`` that no training wrote.

    Raises:
        FileExistsError: when training starts, another process writes into one of them, or it holds such a file.
    """

    def __init__(self, output_dir: str | Path, ckpt_dir: str | Path, overwrite: bool = False) -> None:
        self.output, self.weights = OutputFolder(output_dir, overwrite), OutputFolder(ckpt_dir, overwrite)

    def attach(self, engine: JointTrainer) -> None:
        """Listen to the trainer; to be listed first of all."""
        engine.add_event_handler(Events.STARTED, self._open)

    def _open(self, engine: JointTrainer) -> None:
        for folder in (self.output, self.weights):
            engine.until_end.enter_context(folder)
        if (self.weights.path / "train_state.pt").is_file():  # a training, which is refused or resumed as a whole
            return
        self.weights.refuse_foreign([CONFIG, MODEL])
        if not (self.weights.path / CONFIG).is_file():
            self.output.refuse_foreign(["history.csv"])
            self.weights.refuse_foreign([MODEL_FILE, KNOWLEDGE])
