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

"""How far a loop is: lines of a log, a few at most, and a bar where there is a terminal."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from bundle_runs import BUNDLE
from ignite.engine import Engine

from scripts.files.progress import Progress, collect


@pytest.fixture
def lines(caplog):
    """The lines of the log, each as the text before `after`."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage().partition(" after")[0] for record in caplog.records]


def test_a_long_loop_has_a_line_at_each_tenth(lines):
    assert collect(iter(range(25)), "Reading", 25, pause=0) == list(range(25))
    assert lines() == [f"Reading: {n} of 25" for n in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]


def test_a_short_loop_has_no_line_and_one_of_few_items_no_more_than_these(lines):
    collect(range(1000), "Reading", 1000)
    assert lines() == []
    collect(range(2), "Reading", 2, pause=0)
    assert lines() == ["Reading: 1 of 2", "Reading: 2 of 2"]
    assert collect([], "Reading", 0, pause=0) == []


def test_an_engine_tells_its_epochs(lines):
    engine = Engine(lambda engine, batch: None)
    Progress("epoch", pause=0).attach(engine)
    engine.run(range(2), max_epochs=2)
    told = [line for line in lines() if line.startswith("epoch ")]
    assert told == [f"epoch {epoch} of 2: {n} of 2" for epoch in (1, 2) for n in (1, 2)]


def test_an_engine_that_runs_once_has_no_epochs_to_tell(lines):
    engine = Engine(lambda engine, batch: None)
    Progress("Segmenting", pause=0).attach(engine)
    engine.run(range(3), max_epochs=1)
    assert [line for line in lines() if line.startswith("Seg")] == [f"Segmenting: {n} of 3" for n in (1, 2, 3)]


SCRIPT = """
from ignite.engine import Engine
from scripts.files.progress import Progress, collect
collect(range(3), "Reading", 3)
engine = Engine(lambda engine, batch: None)
Progress("epoch", lambda: {"similarity": 0.5}).attach(engine)
engine.run(range(4), max_epochs=2)
"""


def test_at_a_terminal_there_are_bars():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # rows and columns
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=theirs, env={**os.environ, "PYTHONPATH": str(BUNDLE)}
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "Reading: 100%" in text and "epoch [2/2]" in text and "similarity=0.5" in text and "\r" in text
