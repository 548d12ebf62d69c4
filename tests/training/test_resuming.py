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

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import CASES, load, make_training, rows, same

from scripts.training.train_state import TrainState


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    torch.manual_seed(1)
    trainer = make_training(folder, max_epochs=4)
    torch.manual_seed(5)
    trainer.run()
    return folder


def cut_the_power(engine):
    if engine.state.iteration == 8:  # in the third epoch, of three iterations
        raise RuntimeError("power cut")


@pytest.mark.parametrize("where", ["between two epochs", "within an epoch"])
def test_a_training_that_is_resumed_equals_one_that_was_not_interrupted_to_the_bit(uninterrupted, tmp_path, where):
    within = where == "within an epoch"
    first = make_training(tmp_path, max_epochs=4 if within else 2)
    torch.manual_seed(5)
    if within:
        first.add_event_handler(Events.ITERATION_COMPLETED, cut_the_power)
        with pytest.raises(RuntimeError, match="power cut"):
            first.run()
    else:
        first.run()
    assert not same(load(tmp_path / "train_state.pt"), load(uninterrupted / "train_state.pt"))

    # another process: other weights, and random numbers that have gone elsewhere
    second = make_training(tmp_path, max_epochs=4, resume=True, seed=99)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    second.run()
    found, expected = load(tmp_path / "train_state.pt"), load(uninterrupted / "train_state.pt")
    assert (found["epoch"], found["iteration"]) == (4, 12)
    for part in ("networks", "updates", "best", "random"):
        assert same(found[part], expected[part]), part
    assert (tmp_path / "history.csv").read_text() == (uninterrupted / "history.csv").read_text()
    for name in ("model.pt", "model_registration.pt"):
        assert same(load(tmp_path / name), load(uninterrupted / name)), name


def test_the_history_of_a_training_has_every_term_and_every_metric(uninterrupted):
    names = {name for _, name, _ in rows(uninterrupted / "history.csv")}
    assert {"registration/region", "registration/region weighted", "segmentation/weak"} <= names
    assert {"validation/segmentation_dice", "validation/registration_dice"} <= names
    assert {"training/field_length_voxels", "training/folding_percent"} <= names
    assert {epoch for epoch, *_ in rows(uninterrupted / "history.csv")} == {1, 2, 3, 4}


def test_an_existing_training_is_refused_without_resume_and_left_as_it_is(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    trainer = make_training(uninterrupted, max_epochs=4)
    with pytest.raises(FileExistsError, match=r"train_state\.pt' is there.*--resume true.*--output_dir"):
        trainer.run()
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before
    assert trainer.state.iteration == 0


def test_resuming_where_there_is_nothing_starts_from_the_beginning(tmp_path):
    trainer = make_training(tmp_path, max_epochs=1, resume=True)
    trainer.run()
    assert trainer.state.epoch == 1 and load(tmp_path / "train_state.pt")["epoch"] == 1


def test_a_finished_training_resumed_does_nothing(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    trainer = make_training(uninterrupted, max_epochs=4, resume=True)
    trainer.run()
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before
    assert trainer.state.epoch == 4


def test_a_training_is_resumed_with_its_own_cases_only(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    other = replace(CASES, labeled=({"case": "n"}, {"case": "x"}), test=tuple({"case": name} for name in "myz"))
    trainer = make_training(uninterrupted, max_epochs=5, resume=True, cases=other)
    with pytest.raises(ValueError, match="of a training with other cases") as refused:
        trainer.run()
    message = str(refused.value)
    assert "\n  labeled: no longer m; new x\n  test: no longer x; new m\n" in message
    assert "unlabeled:" not in message and "`config.yaml` beside it" in message and "another `--output_dir`" in message
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_a_training_of_an_older_version_which_named_no_cases_is_resumed_with_a_warning(tmp_path, caplog):
    make_training(tmp_path, max_epochs=1, cases=None).run()
    assert "cases" not in load(tmp_path / "train_state.pt")
    trainer = make_training(tmp_path, max_epochs=2, resume=True)
    trainer.run()
    assert trainer.state.epoch == 2 and "does not name its cases" in caplog.text
    assert load(tmp_path / "train_state.pt")["cases"] == {
        "labeled": ["m", "n"],
        "unlabeled": ["a", "b", "c"],
        "validation": ["v", "w"],
        "test": ["x", "y", "z"],
    }


def test_a_training_of_two_gpus_is_resumed_on_one(tmp_path, monkeypatch, caplog):
    given, state = [], torch.get_rng_state()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.append)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state, state])
    network, engine = torch.nn.Linear(1, 1), Engine(lambda engine, _: None)
    engine.state.best = {}
    for resume in (False, True):
        TrainState(str(tmp_path / "train_state.pt"), {"segmentation": network}, {}, resume).attach(engine)
        engine.run([0], max_epochs=1)
        engine = Engine(lambda engine, _: None)
    assert [len(states) for states in given] == [1] and "saved on 2 GPUs, resumed on 1" in caplog.text
