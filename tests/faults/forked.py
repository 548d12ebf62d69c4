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
"""A command in a process of its own, forked, with something happening to it at one of its writes."""

from __future__ import annotations

import builtins
import io
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.files import lock

TIMEOUT = 120  # seconds; a command takes about one


@dataclass
class Ended:
    """How a forked process ended: its status, negative for a signal, and what it said."""

    status: int
    said: str


@dataclass
class Forked:
    """A process that was forked, and the pipe that it talks into."""

    pid: int
    pipe: int
    said: bytes = b""
    began: float = field(default_factory=time.monotonic)

    def wait(self) -> Ended:
        """Wait for the end; one that takes too long is killed, and fails the test."""
        while True:
            ready, _, _ = select.select([self.pipe], [], [], 1)
            chunk = os.read(self.pipe, 2**16) if ready else None
            if chunk == b"":
                break
            self.said += chunk or b""
            if time.monotonic() - self.began > TIMEOUT:
                os.kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert time.monotonic() - self.began < TIMEOUT, self.said.decode(errors="replace")[-3000:]
        return Ended(status, self.said.decode(errors="replace"))

    def wait_until_stopped(self) -> None:
        """Wait until the process has stopped itself."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it ended before it stopped"


def start(function: Callable[[], object]) -> Forked:
    """Call a function in a forked process."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Forked(pid, reading)
    status = 1
    try:
        os.close(reading)
        for stream in (1, 2):
            os.dup2(writing, stream)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        function()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # as the interpreter would show it, and end
        traceback.print_exc()
    finally:
        lock._give_back_all()  # what the interpreter does at its end; a fork must not run what others left it to do
        os._exit(status)


def run(function: Callable[[], object]) -> Ended:
    """Call a function in a forked process, and wait."""
    return start(function).wait()


@contextmanager
def watched(root: Path, react: Callable[[int, str, str], None]) -> Iterator[None]:
    """Call ``react(number, what, path)`` before each change in a folder, and once a file there is open for writing."""
    root, busy, count = root.resolve(), [False], [0]
    originals = {(module, name): getattr(module, name) for module, name in NAMES}

    def tell(what: str, *paths: object) -> None:
        inside = [str(path) for path in paths if isinstance(path, (str, os.PathLike)) and _is_in(root, path)]
        if inside and not busy[0]:
            busy[0] = True
            try:
                react(count[0], what, inside[-1])
            finally:
                count[0] += 1
                busy[0] = False

    def changing(what: str, original: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            tell(what, *arguments[:2])
            return original(*arguments, **options)

        return call

    def opening(original: Callable) -> Callable:
        def call(path: object, mode: str = "r", *arguments: object, **options: object) -> object:
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            if writes:
                tell("before open", path)
            file = original(path, mode, *arguments, **options)
            if writes:
                tell("open", path)
            return file

        return call

    for (module, name), original in originals.items():
        setattr(module, name, opening(original) if name == "open" else changing(name, original))
    try:
        yield
    finally:
        for (module, name), original in originals.items():
            setattr(module, name, original)


NAMES = [
    *((os, name) for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")),
    (builtins, "open"),
    (io, "open"),
]


def _is_in(root: Path, path: object) -> bool:
    with suppress(TypeError, ValueError):
        return Path(os.path.abspath(path)).is_relative_to(root)  # type: ignore[arg-type]
    return False


def at(number: int, do: Callable[[], object]) -> Callable[[int, str, str], None]:
    """Do something at one write."""

    def react(count: int, what: str, path: str) -> None:
        if count == number:
            do()

    return react


def kill() -> None:
    """As the out-of-memory killer does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def keep_copies(root: Path, to: Path) -> Callable[[int, str, str], None]:
    """Copy the folder as it is at each write: what a kill there would leave."""

    def react(count: int, what: str, path: str) -> None:
        shutil.copytree(root, to / f"{count:03d}_{what.replace(' ', '_')}", symlinks=True)

    return react
