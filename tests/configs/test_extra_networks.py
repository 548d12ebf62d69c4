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
"""Recipes with networks of their own are evaluated by the same commands, and resume with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundle_runs import tiny, workflow

from scripts.networks.weights import FILES

EXTRA = {
    "ua_mt": "teacher",
    "cps": "second_segmentation",
    "cyclemorph": "backward_registration",
    "data_aug": "appearance",
    "lt_net": "image_discriminator",
    "vae_aug": "shape_vae",
    "massl": "segmentation",
    "dpa_dbn": "segmentation",
}


def run(recipe: str, phantoms: Path, output_dir: Path, *more: str, **entries: object) -> list[str]:
    """Run the workflow, and return the tasks of the recipe."""
    configs = ["train.yaml", f"recipes/{recipe}.yaml", *more]
    entries = tiny(configs) | {"dataset_dir": str(phantoms), "output_dir": str(output_dir)} | entries
    with workflow(configs, **entries) as made:
        made.run()
        return made.parser.get("tasks")


@pytest.mark.parametrize("recipe", EXTRA)
def test_only_the_exported_networks_are_evaluated(recipe, phantoms, tmp_path):
    tasks = run(recipe, phantoms, tmp_path)
    state = torch.load(tmp_path / "train_state.pt", weights_only=True)
    assert EXTRA[recipe] in state["networks"]
    assert {file.name for file in tmp_path.glob("model*.pt")} == {FILES[task] for task in tasks}
    run(recipe, phantoms, tmp_path, "evaluate.yaml", max_pairs=1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {task for task in ("segmentation", "registration") if task in metrics} == set(tasks)


@pytest.mark.parametrize("recipe", ["ua_mt", "cps", "massl", "dpa_dbn", "vae_aug"])
def test_a_resumed_training_equals_one_that_was_not_interrupted(recipe, phantoms, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    plan = {"total_iterations": 4}  # one plan for all, or schedules and ramps would differ
    run(recipe, phantoms, whole, max_epochs=2, **plan)
    run(recipe, phantoms, broken, max_epochs=1, **plan)
    first = torch.load(broken / "train_state.pt", weights_only=True)["networks"]
    run(recipe, phantoms, broken, max_epochs=2, resume=True, **plan)
    expected, found = (torch.load(d / "train_state.pt", weights_only=True)["networks"] for d in (whole, broken))
    assert expected.keys() == found.keys()
    for name, weights in expected.items():
        assert all(torch.equal(found[name][key], value) for key, value in weights.items()), name
    extra = EXTRA[recipe]
    assert any(not torch.equal(first[extra][key], value) for key, value in found[extra].items())
