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

"""What fails in the work, and who stops it: a message alone, what is kept, and the status."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundle_runs import write_overlay
from door_calls import deeprs, environment, inside, untouched

from deeprs.run import _guarded
from scripts.files.errors import root_cause


@pytest.fixture
def damaged(phantoms, tmp_path) -> Path:
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "images" / "phantom_003.nii.gz").write_bytes(b"half a downl")
    write_overlay(tmp_path / "tiny.yaml")
    return tmp_path


def test_faults_of_the_data_are_all_that_is_said(damaged):
    done = inside("train", "data", "--config", "tiny.yaml", "--out", "out", place=damaged)
    assert done.returncode == 1
    first, *faults = done.stderr.splitlines()
    assert first == "deeprs train: the data check found 1 fault:"
    assert faults[0].startswith("case 'phantom_003': the image cannot be read") and len(faults) <= 3
    assert "Traceback" not in done.stdout + done.stderr


def test_a_failure_within_the_loop_is_said_once_without_a_traceback(damaged):
    (damaged / "out").mkdir()
    (damaged / "out" / "train_state.pt").write_bytes(b"another training")
    shutil.copy(damaged / "data/images/phantom_004.nii.gz", damaged / "data/images/phantom_003.nii.gz")
    words = ["train", "data", "--config", "tiny.yaml", "--out", "out"]
    done = deeprs(*words, place=damaged)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "this folder holds a training already" in done.stderr
    assert "Traceback" not in done.stdout and "holds a training already" not in done.stdout
    with pytest.raises(RuntimeError) as stopped:  # what MONAI makes of it goes on to the interpreter
        inside(*words, "--traceback", place=damaged)
    assert isinstance(root_cause(stopped.value), FileExistsError)


def raising(statement: str) -> object:
    def work() -> None:
        exec(compile(statement, "another_library.py", "exec"), {})

    return work


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import torch; torch.empty(2**60)", "There was not enough memory."),
        ("raise KeyError('spacing')", "KeyError: 'spacing'"),
        ("raise RuntimeError('\\n'.join(map(str, range(50))))", "(--traceback shows all of it)"),
        (
            "try:\n  1 / 0\nexcept Exception as e:\n  raise RuntimeError(\"Failed to instantiate component 'a.B' with "
            'x") from e',
            "a.B: ZeroDivisionError: division by zero",
        ),
        ("from scripts.data import load_images; load_images('/no/such')", "deeprs segment: "),
    ],
)
def test_what_others_raise_is_told_in_five_lines(statement, message, capsys):
    with untouched():
        assert _guarded("segment", raising(statement), str, traceback=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("deeprs segment: ") and message in said
    assert len(said.splitlines()) <= 5 and "Traceback" not in said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_what_is_kept(number, status, capsys):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    work = raising(f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(5)")
    with untouched():
        assert _guarded("segment", work, lambda: "Kept: three of five.", traceback=False) == status
    assert capsys.readouterr().err == "\ndeeprs segment: stopped. Kept: three of five.\n"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_in_training_says_how_to_go_on_and_that_command_goes_on(phantoms, tmp_path):
    write_overlay(tmp_path / "tiny.yaml", max_epochs=500)
    command = [sys.executable, "-m", "deeprs", "train", phantoms, "--config", "tiny.yaml", "--out", "out"]
    with open(tmp_path / "log", "w") as log:
        streams = {"stdout": log, "stderr": subprocess.PIPE, "text": True}
        running = subprocess.Popen(command, cwd=tmp_path, env=environment(), **streams)
    until = time.monotonic() + 120
    while not (tmp_path / "out" / "train_state.pt").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    *_, last = said.splitlines()
    again = f"deeprs train {phantoms} --config tiny.yaml --out out --resume"
    assert last == f"deeprs train: stopped. Kept in out: the training up to its last whole epoch. Go on: {again}"
    assert "Traceback" not in said + (tmp_path / "log").read_text()
    assert "\r" not in said  # no bar where there is no terminal
    epochs = {int(row.split(",")[0]) for row in (tmp_path / "out" / "history.csv").read_text().splitlines()[1:]}
    on = inside(*again.split()[1:], "--max_epochs", max(epochs) + 1, place=tmp_path)
    assert on.returncode == 0 and f"resumed after epoch {max(epochs)}" in on.stdout
