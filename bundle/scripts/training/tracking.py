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
"""The merged config and the pictures of a run, put where its curves are: TensorBoard, and MLflow on request."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler
from torch.utils.tensorboard import SummaryWriter

from .config_of_run import config_parser


class TrackedFiles:
    """Puts the merged config into TensorBoard and, with ``--tracking mlflow``, config and pictures into MLflow.

    MONAI's handlers for MLflow, which that option adds to a config, record losses and metrics. The config that MONAI
    writes for them is left behind when ``output_dir`` is given on the command line, and pictures are not theirs.

    Args:
        log_dir: of TensorBoard.
        config: file of the merged config, which :class:`scripts.training.record.RecordConfig` writes.
        pictures: folder of the pictures; it need not exist.
    """

    def __init__(self, log_dir: str, config: str, pictures: str) -> None:
        self.log_dir, self.config, self.pictures = log_dir, Path(config), pictures
        self.settings = None
        parser, names = config_parser(), ("tracking_uri", "experiment_name", "run_name")
        if parser is not None and all(name in parser for name in names):  # `--tracking mlflow` has added them
            self.settings = {name: parser.get_parsed_content(name) for name in names}

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer; to be listed after RecordConfig. The handlers of ``--tracking`` come last of all."""
        engine.add_event_handler(Events.STARTED, self._show_config)
        if self.settings is not None:
            files = [str(self.config), self.pictures]  # when training ends; the run is the one that is open then
            MLFlowHandler(**self.settings, artifacts=files, iteration_log=False, epoch_log=False).attach(engine)

    def _show_config(self) -> None:
        lines = self.config.read_text(encoding="utf-8").splitlines()
        with SummaryWriter(self.log_dir) as writer:
            writer.add_text("config", "\n".join(f"    {line}" for line in lines))  # indented: code to Markdown
