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
"""What is wrong is the last thing that a user reads, whatever wrapped it on its way up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bundle_runs import BUNDLE

from scripts.files.datalist import read_json
from scripts.files.errors import root_cause
from scripts.networks.weights import load_weights, save_atomically


def wrapped(function, *arguments):
    """The error of a call as a config parser passes it on: wrapped once by each of two layers."""
    try:
        try:
            try:
                function(*arguments)
            except Exception as error:
                raise RuntimeError("failed to instantiate a component") from error
        except RuntimeError as error:
            raise RuntimeError("failed to evaluate an expression") from error
    except RuntimeError as error:
        return error


def test_an_error_that_nothing_wraps_is_its_own_cause():
    error = KeyError("moving")
    assert root_cause(error) is error


def test_the_cause_is_the_innermost_error_where_the_bundle_raised_none():
    assert type(root_cause(wrapped(json.loads, "{"))) is json.JSONDecodeError


def test_the_cause_of_a_broken_datalist_is_the_error_that_names_the_file(tmp_path):
    path = tmp_path / "datalist.json"
    path.write_text("{")
    cause = root_cause(wrapped(read_json, path))
    assert type(cause) is ValueError and str(cause).startswith(f"{path} is not valid JSON")
    assert isinstance(cause.__cause__, json.JSONDecodeError)  # further down, and of no use to the user


def test_the_cause_of_unfit_weights_is_the_error_that_says_what_to_do(tmp_path):
    save_atomically(torch.nn.Linear(3, 5).state_dict(), tmp_path / "model.pt")
    cause = root_cause(wrapped(load_weights, torch.nn.Linear(3, 2), str(tmp_path), "model.pt"))
    assert type(cause) is ValueError and "`model.yaml`" in str(cause)
    assert isinstance(cause.__cause__, RuntimeError)


def test_an_error_of_the_bundle_that_nothing_wraps_is_the_cause(tmp_path):
    (tmp_path / "datalist.json").write_text("{")
    with pytest.raises(ValueError) as caught:
        read_json(tmp_path / "datalist.json")
    assert root_cause(caught.value) is caught.value


def stderr_of(command, folder):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(BUNDLE)},
        timeout=300,
    )
    assert done.returncode == 1
    return done.stderr


SCRIPT = """
import json
from pathlib import Path
from scripts.files.datalist import read_json
from scripts.files.errors import show_cause_last

show_cause_last()
try:
    {call}
except ValueError as error:
    raise RuntimeError("failed to instantiate a component") from error
"""


@pytest.mark.parametrize(
    ("call", "last"),
    [
        ('read_json(Path("d.json"))', "ValueError: d.json is not valid JSON: Expecting value"),
        ('json.loads("[,]")', "JSONDecodeError: Expecting value"),
    ],
    ids=["an error of the bundle", "an error of another library"],
)
def test_the_last_line_of_a_failed_process_is_the_cause_and_the_traceback_stays(call, last, tmp_path):
    (tmp_path / "d.json").write_text('{"test": [,]}')
    text = stderr_of(["-c", SCRIPT.format(call=call)], tmp_path)
    assert text.splitlines()[-1].startswith(last)
    assert "\nRuntimeError: failed to instantiate a component\n" in text and "Traceback" in text


def test_an_error_that_nothing_wraps_is_shown_once(tmp_path):
    script = 'from scripts.files.errors import show_cause_last\nshow_cause_last()\nraise ValueError("no such case")'
    lines = stderr_of(["-c", script], tmp_path).splitlines()
    assert lines[-1] == "ValueError: no such case" and lines.count(lines[-1]) == 1


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("torch.empty(2**60)", "RuntimeError"),  # the CPU's, which really has not so much
        ("raise torch.OutOfMemoryError('CUDA out of memory')", "torch.OutOfMemoryError"),
    ],
)
def test_where_memory_ran_out_the_last_line_says_what_to_do(statement, error, tmp_path):
    script = f"import torch\nfrom scripts.files.errors import show_cause_last\nshow_cause_last()\n{statement}"
    *_, raised, empty, last = stderr_of(["-c", script], tmp_path).splitlines()
    assert raised.startswith(error) and not empty
    knobs = ["run/bf16.yaml", "spatial_size", "pixdim", "run/low_memory.yaml", "run/fused.yaml"]
    assert all(f"`{knob}`" in last for knob in knobs)
    assert all((BUNDLE / "configs" / knob).is_file() for knob in knobs if knob.endswith(".yaml"))


def test_a_failed_command_ends_with_the_message_for_the_user(tmp_path):
    datalist = tmp_path / "datalist.json"
    datalist.write_text("{")
    config = Path("configs", "train.yaml")
    command = ["-m", "monai.bundle", "run", "checking", "--config_file", config, "--datalist", datalist]
    lines = stderr_of(command, BUNDLE).splitlines()
    assert lines[-1].startswith(f"ValueError: {datalist} is not valid JSON: ")
