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
"""One process at a time in an output folder: a lock with host and process, and how a stale one is known."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

#: locks of this process -> how often each was taken
_held: dict[Path, int] = {}
_earlier_handlers: dict[int, Any] = {}


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return not _stat(pid).startswith("Z")  # one that has ended, and nobody asked how


def take(lock: Path) -> None:
    """Take a lock; this process may have it already.

    Args:
        lock: the file.

    Raises:
        FileExistsError: another process has it; names the process and its host, and the file.
    """
    lock = lock.absolute()
    with _signals_wait():  # or one between the file and the note of it would leave the file
        if lock not in _held:
            lock.parent.mkdir(parents=True, exist_ok=True)
            while not _create(lock):
                _remove_stale(lock)
        _held[lock] = _held.get(lock, 0) + 1
        _handle_signals()


def is_taken(lock: Path) -> bool:
    """Whether this process still has a lock: the folder may have been removed, or moved, meanwhile."""
    owner = _read(lock)
    return lock.absolute() in _held and bool(owner) and _is_mine(owner)


def give_back(lock: Path) -> None:
    """Give a lock back; the file is gone when it was taken once."""
    lock = lock.absolute()
    with _signals_wait():
        if _held.get(lock, 0) > 1:
            _held[lock] -= 1
        elif _held.pop(lock, 0):
            _unlink_own(lock)
        if not _held:
            _restore_signals()


def _create(lock: Path) -> bool:
    """Make the file with its content at once, and say whether that was us."""
    mine = lock.with_name(f".tmp{os.getpid()}_{lock.name}")
    mine.write_text(json.dumps(_myself()), encoding="utf-8")
    try:
        os.link(mine, lock)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(_myself()))
    finally:
        mine.unlink(missing_ok=True)
    return True


def _myself() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start(os.getpid()),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.argv)[:300],
    }


def _remove_stale(lock: Path) -> None:
    """Take a lock away from a process that is no more, or refuse."""
    owner = _read(lock)
    if owner is None:
        return
    if not _is_stale(owner):
        raise FileExistsError(
            f"'{lock.parents[1]}' is in use by process {owner.get('pid')} on {owner.get('host')}, since "
            f"{owner.get('since')} ({owner.get('command')}).\n  Wait for its end, or choose another `--output_dir`. If "
            f"there is no such process any more, remove '{lock}'."
        )
    logger.warning("'%s': process %s of an earlier run was killed; going on", lock.parents[1], owner.get("pid"))
    aside = lock.with_name(f".tmp{os.getpid()}_stale")
    with suppress(FileNotFoundError):
        os.rename(lock, aside)
        if _read(aside) != owner:  # another process was faster, and this lock is its own
            with suppress(FileExistsError):
                os.link(aside, lock)
        aside.unlink(missing_ok=True)


def _read(lock: Path) -> dict[str, Any] | None:
    """Who has a lock; None when it has gone, and nobody known when it cannot be read."""
    try:
        content = json.loads(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_stale(owner: dict[str, Any]) -> bool:
    if not owner:  # cut short: whoever wrote it was killed on a file system without hard links
        return True
    if owner.get("host") != socket.gethostname():
        return False
    pid = int(owner.get("pid", 0))
    return not is_running(pid) or _start(pid) != owner.get("started", _start(pid))


def _stat(pid: int) -> str:
    """State and the rest of what Linux tells of a process; elsewhere nothing."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2]
    return ""


def _start(pid: int) -> str:
    """When a process began, by which one is told from a later one of the same number."""
    fields = _stat(pid).split()
    return fields[19] if len(fields) > 19 else ""


def _unlink_own(lock: Path) -> None:
    owner = _read(lock)
    if owner and _is_mine(owner):
        lock.unlink(missing_ok=True)


def _is_mine(owner: dict[str, Any]) -> bool:
    return owner.get("pid") == os.getpid() and owner.get("host") == socket.gethostname()


@atexit.register
def _give_back_all() -> None:
    for lock in list(_held):  # of a run that failed where nothing could follow; a forked process has none of its own
        _unlink_own(lock)
        with suppress(OSError):
            lock.parent.rmdir()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals that end a process come afterwards, where the system can hold them back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ending = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _handle_signals() -> None:
    """A polite end is an error like others, so that what is half done is tidied up."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            _earlier_handlers[number] = signal.signal(number, _end)


def _restore_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        while _earlier_handlers:
            signal.signal(*_earlier_handlers.popitem())


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
