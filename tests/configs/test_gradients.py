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
"""In every recipe, each update teaches its own network and no other, and each of its terms has something to teach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_runs import CONFIGS, tiny, workflow
from ignite.engine import Events

from scripts.joint.trainer import JointTrainer, to_device
from scripts.joint.updates import Term, Update

#: name -> config files after train.yaml
METHODS = {
    "deeprs": [],
    **{path.stem: [f"recipes/{path.name}"] for path in sorted(CONFIGS.glob("recipes/*.yaml"))},
    **{
        path.stem: [*(["recipes/brbs.yaml"] if path.stem.startswith("brbs_") else []), f"ablations/{path.name}"]
        for path in sorted(CONFIGS.glob("ablations/*.yaml"))
    },
}
LATE = 10**6  # an iteration by which every term has started


def strangers_with_gradient(trainer: JointTrainer, update: Update) -> list[str]:
    """Parameters that are not of the update and got a gradient, also of its own network."""
    own = {id(parameter) for parameter in update.parameters}
    return [
        f"{name}.{key}"
        for name, network in trainer.networks.items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None and id(parameter) not in own
    ]


def largest_gradient(trainer: JointTrainer, name: str) -> float:
    return max(float(p.grad.abs().max()) for p in trainer.updates[name].parameters if p.grad is not None)


def labelled_batch(batches: list[dict], term: Term) -> dict:
    """A pair that the term does not sit out, with as many labels as the recipe ever sees."""
    batches = [batch for batch in batches if term.is_live(batch, LATE)]
    return max(batches, key=lambda batch: sum(name.endswith("_label") for name in batch))


@pytest.mark.parametrize("method", METHODS)
def test_each_term_reaches_the_network_of_its_update_and_no_other(method, phantoms, tmp_path: Path):
    configs = ["train.yaml", *METHODS[method]]
    entries = tiny(configs) | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "iterations_per_epoch": 6}
    with workflow(configs, **entries) as training:
        trainer = training.parser.get_parsed_content("train::trainer")
    trainer.state.iteration = LATE
    batches = [to_device(batch, trainer.state.device) for batch in trainer.data_loader]
    if trainer.supplement is not None:
        trainer.state.epoch = 1
        trainer.fire_event(Events.EPOCH_STARTED)
        batches = [batch | trainer.supplement(batch) for batch in batches]
    for name, update in trainer.updates.items():
        terms = dict(update.terms)
        assert any(term.weight for term in terms.values())
        trainer.schedule = [[name]]
        for key, term in terms.items():
            if not term.weight:  # for its curve alone
                continue
            update.terms = {key: term}
            for network in trainer.networks.values():
                network.zero_grad(set_to_none=True)
            trainer._iteration(trainer, labelled_batch(batches, term))
            assert strangers_with_gradient(trainer, update) == [], key
            assert 0 < largest_gradient(trainer, name) < torch.inf, key
        update.terms = terms
