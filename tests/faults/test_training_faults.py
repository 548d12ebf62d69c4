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
"""A training under faults: each file is whole at any time, and resuming goes on; to the same bits in test_resume.py."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import forked
import pytest
import torch
import yaml
from commands import train
from states import leftovers, put_back, state_of

NAME = "training"


@pytest.fixture
def folder(workplace: Path):
    """A place for one training, and for copies of it."""
    path = workplace / "training"
    (path / "root").mkdir(parents=True)
    yield path
    shutil.rmtree(path)


def is_whole(out: Path) -> bool:
    """Whether every file that is there can be read; one that cannot raises."""
    for path in out.glob("[!.]*.pt"):
        torch.load(path, weights_only=True)
    for path in out.glob("[!.]*.yaml"):
        assert yaml.safe_load(path.read_text())["spatial_size"] == [16, 16, 16]
    return True


def test_every_file_of_a_training_is_whole_whenever_it_is_killed_and_resuming_goes_on(world, folder, tally):
    root, out = folder / "root", folder / "root" / "out"

    def work() -> None:
        with forked.watched(root, forked.keep_copies(root, folder / "copies")):
            train(world, out, max_epochs=1)

    assert forked.run(work).status == 0
    assert leftovers(root) == []
    copies = sorted((folder / "copies").iterdir())
    for copy in copies:
        tally("killed in a new folder (copies)", NAME, is_whole(copy / "out"))
    put_back(copies[len(copies) * 2 // 3], root)
    ended = forked.run(lambda: train(world, out, max_epochs=2, resume=True))
    assert ended.status == 0, ended.said[-2000:]
    tally("killed by SIGKILL, run again", NAME, is_whole(out) and leftovers(root) == [])
    assert torch.load(out / "train_state.pt", weights_only=True)["epoch"] == 2 and leftovers(root) == []


def test_weights_of_an_earlier_training_never_lie_beside_the_model_yaml_of_a_new_one(world, folder, tally):
    root, out = folder / "root", folder / "root" / "out"
    shutil.copytree(world / "a" / "weights", out)
    (out / "train_state.pt").unlink()  # nothing to resume, and weights that may go
    before = state_of(root)

    def work() -> None:
        with forked.watched(root, forked.keep_copies(root, folder / "copies")):
            train(world, out, max_epochs=1, resume=True, learning_rate=0.01)

    ended = forked.run(work)
    assert ended.status == 0, ended.said[-2000:]
    for copy in sorted((folder / "copies").iterdir()):
        state = state_of(copy)
        is_new = state.get("out/model.yaml") != before["out/model.yaml"] or "learning_rate: 0.01" in (
            (copy / "out" / "config.yaml").read_text() if (copy / "out" / "config.yaml").exists() else ""
        )
        old = [name for name in before if name.endswith(".pt") and state.get(name) == before[name]]
        tally("killed over an earlier result (copies)", NAME, not (is_new and old), bool(is_new and old))
        assert not (is_new and old), copy.name


def test_a_second_training_is_refused_by_name_and_a_terminated_one_leaves_no_lock(world, folder, tally):
    root, out = folder / "root", folder / "root" / "out"

    def work() -> None:
        with forked.watched(root, forked.at(12, lambda: os.kill(os.getpid(), signal.SIGSTOP))):
            train(world, out, max_epochs=50)

    first = forked.start(work)
    first.wait_until_stopped()
    second = forked.run(lambda: train(world, out, max_epochs=1, resume=True))
    refused = second.status == 1 and f"is in use by process {first.pid} on " in second.said
    tally("two processes in one folder", NAME, refused, second.status == 0)
    assert refused, second.said[-2000:]
    os.kill(first.pid, signal.SIGTERM)
    os.kill(first.pid, signal.SIGCONT)
    ended = first.wait()
    tally("SIGTERM", NAME, ended.status == 143 and leftovers(root) == [])
    assert ended.status == 143 and leftovers(root) == [], ended.said[-2000:]


def test_a_training_whose_files_may_not_grow_is_an_error_that_names_one(world, folder, tally):
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
        train(world, folder / "root" / "out", max_epochs=1)

    ended = forked.run(work)
    told = ended.status == 1 and "could not be written" in ended.said
    tally("files may not grow (RLIMIT_FSIZE)", NAME, told, ended.status == 0)
    assert told, ended.said[-2000:]
    assert is_whole(folder / "root" / "out") and leftovers(folder / "root") == []


def test_configs_that_no_training_wrote_are_not_replaced(world, folder):
    out = folder / "root" / "out"
    out.mkdir()
    (out / "config.yaml").write_text("of: the user\n")
    ended = forked.run(lambda: train(world, out, max_epochs=1))
    assert ended.status == 1 and "config.yaml" in ended.said and "--overwrite true" in ended.said, ended.said[-2000:]
    assert (out / "config.yaml").read_text() == "of: the user\n"
