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
"""Training in stages: a run that begins where an earlier one ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from .weights import FILES, load_weights

logger = logging.getLogger(__name__)


def start_from(networks: Mapping[str, torch.nn.Module], folder: str | None, stage: str) -> None:
    """Give networks the weights of an earlier run, before training; resuming replaces them afterwards.

    Args:
        networks: name -> network; all of them are loaded, in place.
        folder: that of the earlier run.
        stage: the recipe of the earlier run, for the message.

    Raises:
        ValueError: no folder was named, or its weights are of other networks.
        FileNotFoundError: the folder, or the weights of one of the networks, are not there.
    """
    if folder is None:
        raise ValueError(
            f"`--pretrained` is missing: this recipe goes on from what {stage} trained. "
            f"Train that first, then add `--pretrained DIR` with its `--output_dir`."
        )
    if missing := [FILES[name] for name in networks if not (Path(folder) / FILES[name]).is_file()]:
        raise FileNotFoundError(
            f"--pretrained '{folder}': no {' and no '.join(missing)} there. It takes the `--output_dir` of a finished "
            f"training with {stage}."
        )
    for name, network in networks.items():
        load_weights(network, folder, FILES[name], next(network.parameters()).device)
    logger.info("starting from the weights in %s", Path(folder).resolve())
