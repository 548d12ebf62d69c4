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

import copy

import pytest
import torch
from bundle_runs import CONFIGS, tiny, workflow
from ignite.engine import Events

from scripts.joint.exchange import Exchange
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


@pytest.fixture(scope="module", params=METHODS)
def trained(request, phantoms, tmp_path_factory):
    """A trainer, late, and the batches of an epoch."""
    configs = ["train.yaml", *METHODS[request.param]]
    folders = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path_factory.mktemp(request.param))}
    with workflow(configs, **tiny(configs) | folders | {"iterations_per_epoch": 6}) as training:
        trainer = training.parser.get_parsed_content("train::trainer")
    trainer.state.iteration = LATE
    batches = [to_device(batch, trainer.state.device) for batch in trainer.data_loader]
    if trainer.supplement is not None:
        trainer.state.epoch = 1
        trainer.fire_event(Events.EPOCH_STARTED)
        batches = [batch | trainer.supplement(batch) for batch in batches]
    return trainer, batches


def test_each_term_reaches_the_network_of_its_update_and_no_other(trained):
    trainer, batches = trained
    schedule = trainer.schedule
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
    trainer.schedule = schedule


def test_what_a_group_takes_from_the_one_before_is_what_it_would_have_computed(trained, monkeypatch):
    trainer, batches = trained
    batch = max(batches, key=lambda batch: sum(name.endswith("_label") for name in batch))
    before = {name: copy.deepcopy(network.state_dict()) for name, network in trainer.networks.items()}
    steps = {name: copy.deepcopy(update.state_dict()) for name, update in trainer.updates.items()}
    found = []
    for given in (Exchange.given, lambda *_: {}):
        monkeypatch.setattr(Exchange, "given", given)
        for name, network in trainer.networks.items():
            network.load_state_dict(before[name])
        for name, update in trainer.updates.items():
            update.load_state_dict(copy.deepcopy(steps[name]))
        torch.manual_seed(0)
        if trainer.augmentation is not None:
            trainer.augmentation.set_random_state(seed=0)
        trainer._iteration(trainer, batch)
        losses = {name: value.double() for name, (value, _) in trainer.state.losses.items()}
        weights = {name: copy.deepcopy(network.state_dict()) for name, network in trainer.networks.items()}
        found.append((losses, weights))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
