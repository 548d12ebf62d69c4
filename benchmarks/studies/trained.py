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
"""A trained run, opened with the data it is asked about: for the benchmarks that look inside one."""

from __future__ import annotations

import torch
from monai.bundle import ConfigParser

from benchmarks import ROOT
from scripts.networks.weights import load_all
from scripts.training.model_record import read_model

CONFIGS = ROOT / "bundle" / "configs"
DEFINITIONS = {
    "segmentation": "network_def",
    "registration": "registration_def",
    "discriminator": "discriminator_def",
}


def open_run(run_folder: str, dataset: str, dataset_dir: str) -> tuple[ConfigParser, dict[str, torch.nn.Module]]:
    """The config of a run, and its networks.

    Args:
        run_folder: what training wrote: the weights, and model.json.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.

    Returns:
        The parser of the merged config, and name -> network with its weights, in evaluation; a recipe without a
        discriminator has none.
    """
    files = [CONFIGS / "train.yaml", CONFIGS / "data" / f"{dataset}.yaml"]
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in files]) | read_model(run_folder))
    parser["dataset_dir"] = dataset_dir
    definitions = {name: parser.get_parsed_content(key) for name, key in DEFINITIONS.items()}
    return parser, load_all(definitions, run_folder, required=["segmentation", "registration"])
