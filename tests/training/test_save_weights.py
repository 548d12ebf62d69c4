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

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from tiny_joint import make_networks, make_pair, make_trainer, make_updates
from tiny_training import load

from scripts.networks.weights import FILES
from scripts.training.history import History
from scripts.training.save_weights import SaveWeights
from scripts.training.train_state import TrainState


def test_the_best_weights_by_the_metric_are_kept_as_a_bare_state_dict(tmp_path):
    values = {1: 0.5, 2: 0.7, 3: 0.6, 4: 0.7, 5: math.nan}  # an equal value is no better
    network = torch.nn.Linear(1, 1)
    evaluator, trainer = Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": values[engine.state.epoch]}
        torch.nn.init.constant_(network.weight, engine.state.epoch)

    SaveWeights(str(tmp_path / "new"), {"model.pt": network}, evaluator, "dice").attach(trainer)
    trainer.run([0], max_epochs=5)
    saved = load(tmp_path / "new" / "model.pt")
    assert saved.keys() == {"weight", "bias"} and saved["weight"].item() == 2
    assert trainer.state.best == {"dice": 0.7}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


def test_an_epoch_without_validation_saves_nothing_and_without_a_metric_each_one_does(tmp_path):
    network, evaluator, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}
    evaluator.state.epoch, evaluator.state.metrics = 1, {"dice": 0.5}
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: torch.nn.init.constant_(network.weight, engine.state.epoch)
    )
    SaveWeights(str(tmp_path), {"best.pt": network}, evaluator, "dice").attach(trainer)
    SaveWeights(str(tmp_path), {"latest.pt": network}).attach(trainer)
    trainer.run([0], max_epochs=3)
    assert load(tmp_path / "best.pt")["weight"].item() == 1
    assert load(tmp_path / "latest.pt")["weight"].item() == 3


def test_after_resuming_the_best_weights_are_still_those_of_before(tmp_path):
    values = {1: 0.9, 2: 0.5, 3: 0.7}
    for last, resume in ((1, False), (3, True)):
        network = torch.nn.Linear(1, 1)
        evaluator, trainer = Engine(lambda engine, _: None), Engine(lambda engine, _: None)
        trainer.state.best = {}

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine, network=network, evaluator=evaluator):
            torch.nn.init.constant_(network.weight, engine.state.epoch)
            evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": values[engine.state.epoch]}

        SaveWeights(str(tmp_path), {"model.pt": network}, evaluator, "dice").attach(trainer)
        TrainState(str(tmp_path / "train_state.pt"), {"segmentation": network}, {}, resume).attach(trainer)
        trainer.run([0], max_epochs=last)
    assert load(tmp_path / "model.pt")["weight"].item() == 1
    assert load(tmp_path / "train_state.pt")["networks"]["segmentation"]["weight"].item() == 3


def test_a_training_that_ends_before_its_first_validation_keeps_the_latest_weights(tmp_path):
    network, evaluator, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: torch.nn.init.constant_(network.weight, engine.state.epoch)
    )
    SaveWeights(str(tmp_path), {"model.pt": network}, evaluator, "dice").attach(trainer)
    trainer.run([0], max_epochs=2)
    assert load(tmp_path / "model.pt")["weight"].item() == 2
    assert trainer.state.best == {}


@pytest.mark.parametrize("name", FILES.values())
def test_weights_without_a_train_state_are_replaced_only_by_a_training_that_may(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"weights that came from elsewhere")
    network = torch.nn.Linear(1, 1)
    for resume in (False, True):
        trainer = Engine(lambda engine, _: None)
        trainer.state.best = {}
        SaveWeights(str(tmp_path), {name: network}).attach(trainer)
        TrainState(str(tmp_path / "train_state.pt"), {"segmentation": network}, {}, resume).attach(trainer)
        if resume:
            trainer.run([0])
        else:
            with pytest.raises(FileExistsError, match=rf"holds weights \({name}\).*--output_dir.*--resume true"):
                trainer.run([0])
            assert path.read_bytes() == b"weights that came from elsewhere"
            assert [file.name for file in tmp_path.iterdir()] == [name]
    assert load(path)["weight"] == network.weight
    assert load(tmp_path / "train_state.pt")["epoch"] == 1


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (Events.EPOCH_STARTED, "registration/similarity became nan in epoch 3"),
        (Events.ITERATION_COMPLETED, "weights of 'registration' are no longer finite after epoch 3"),
    ],
    ids=["seen in a loss", "by the last step of an epoch, unseen"],
)
@pytest.mark.parametrize("saver", ["weights", "train_state"])
def test_a_training_that_diverges_stops_with_its_last_checkpoint_intact(tmp_path, when, message, saver):
    networks = make_networks()
    updates = make_updates(networks, ["registration"])
    registration = {"registration": networks["registration"]}
    savers = {
        "weights": SaveWeights(str(tmp_path), registration),
        "train_state": TrainState(str(tmp_path / "train_state.pt"), registration, updates),
    }
    handlers = [History(str(tmp_path / "history.csv"), interval=100), savers[saver]]
    trainer = make_trainer(networks, updates, [make_pair()], max_epochs=5, train_handlers=handlers)

    def diverge(engine):
        if engine.state.epoch == 3:
            with torch.no_grad():
                networks["registration"].flow.weight.fill_(math.nan)

    trainer.add_event_handler(when, diverge)
    with pytest.raises(ValueError, match=message):
        trainer.run()
    if saver == "weights":
        kept = load(tmp_path / "registration")
    else:
        kept = load(tmp_path / "train_state.pt")["networks"]["registration"]
    assert all(value.isfinite().all() for value in kept.values())
