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
"""Another similarity is one line of a config, as docs/configs.md says."""

from __future__ import annotations

import csv

import torch
from bundle_runs import tiny, workflow

CONFIGS = ["train.yaml", "recipes/voxelmorph.yaml"]
LINE = {"updates::registration::terms::similarity::loss": {"_target_": "GlobalMutualInformationLoss"}}


def test_mutual_information_trains_registration_by_one_line(phantoms, tmp_path):
    entries = tiny(CONFIGS) | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path)} | LINE
    with workflow(CONFIGS, **entries) as training:
        trainer = training.parser.get_parsed_content("train::trainer")
        before = [parameter.detach().clone() for parameter in trainer.networks["registration"].parameters()]
        training.run()
        after = list(trainer.networks["registration"].parameters())
        assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    with open(tmp_path / "history.csv", newline="") as file:
        curves = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert curves["registration/similarity"] < 0  # local correlation would lie between 0 and 1
