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

"""Calling ``deeprs`` from tests: as a process of its own, in this one, and what a process imported on the way."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from bundle_runs import ROOT
from monai.apps import get_logger
from monai.utils import set_determinism

from deeprs.cli import main

HEAVY = ("torch", "monai", "ignite", "numpy", "scipy", "matplotlib")
# all calls in one process, as what is imported stays imported
SCRIPT = f"""
import contextlib, io, json, sys, time
from deeprs.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    out, err, began = io.StringIO(), io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    answers.append([status, out.getvalue(), err.getvalue(), time.perf_counter() - began])
print(json.dumps([answers, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def environment() -> dict[str, str]:
    """That of the tests, in which ``deeprs`` is found and the bundle's folder is not."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def deeprs(*words: Any, place: Path = ROOT, **options: Any) -> subprocess.CompletedProcess:
    """``deeprs WORDS`` as a process, with its two streams apart."""
    command = [sys.executable, "-m", "deeprs", *map(str, words)]
    return subprocess.run(
        command, cwd=place, env=environment(), text=True, capture_output=True, timeout=600, check=False, **options
    )


@contextlib.contextmanager
def untouched(place: Path | None = None):
    """What a command changes in its process is put back; meanwhile one stands in a place."""
    root, stats = logging.getLogger(), get_logger("monai.handlers.StatsHandler")
    path, hook, handlers, level, here = list(sys.path), sys.excepthook, list(root.handlers), root.level, os.getcwd()
    os.chdir(place or here)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(here)
        sys.path[:], sys.excepthook = path, hook
        root.handlers[:], stats.filters[:] = handlers, []
        root.setLevel(level)
        set_determinism(seed=None)


def inside(*words: Any, place: Path = ROOT) -> subprocess.CompletedProcess:
    """``deeprs WORDS`` in this process, which saves the seconds in which a new one imports PyTorch."""
    out, err = io.StringIO(), io.StringIO()
    with untouched(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def answers(calls: list[list[str]], place: Path = ROOT) -> tuple[list[tuple[int, str, str, float]], list[str]]:
    """(status, stdout, stderr, seconds) of each call, all in one process, and the heavy modules that it imported."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(calls)]
    done = subprocess.run(command, cwd=place, env=environment(), text=True, capture_output=True, check=True)
    replies, imported = json.loads(done.stdout)
    return [tuple(reply) for reply in replies], imported
