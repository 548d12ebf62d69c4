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
"""Discs that are full or read only, folders that go, and two processes in one folder."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import forked
import pytest
from commands import COMMANDS, job
from states import Followed, leftovers, put_back, state_of

from scripts.files.output_folder import settle

over = pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.replaces])
some = pytest.mark.parametrize("name", ["inferring", "registering", "evaluating", "preparing", "applying"])
BLOCK = 4096  # bytes


def judge(kind: str, name: str, ended: forked.Ended, found: Followed, tally) -> None:
    """A run that fails says so and leaves one of the two results; one that succeeds leaves the later one."""
    root, two = found.root, found.two
    state = state_of(root)
    silent = two.is_mixed(state) or (ended.status == 0 and not two.is_later(state))
    settle(root / "out")
    whole = two.is_whole(state_of(root))
    tally(kind, name, whole and not silent, silent)
    assert not silent and whole, (ended.status, ended.said[-2000:])


# ---- no room


@over
def test_files_that_may_not_grow_are_an_error_that_names_one(name, world, follow, tally):
    found = follow(name)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        job(name, world, found.root, "b")()

    ended = forked.run(work)
    assert ended.status == 1 and "could not be written" in ended.said, ended.said[-2000:]
    judge("files may not grow (RLIMIT_FSIZE)", name, ended, found, tally)
    assert found.two.is_earlier(state_of(found.root))


@contextmanager
def small_disc(folder: Path, blocks: int = 4000) -> Iterator[None]:
    """A disc of so many blocks over a folder; skips where this user may not mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={blocks * BLOCK}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disc takes a mount of tmpfs, which is for root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def try_full_disc(name: str, world: Path, found: Followed, free_blocks: Sequence[int], tally) -> None:
    with small_disc(found.root):
        for free in free_blocks:
            put_back(found.copies / "earlier", found.root)
            filler, stat = found.root / "full", os.statvfs(found.root)
            filler.write_bytes(b"x" * (max(0, stat.f_bavail - free) * stat.f_bsize))
            ended = forked.run(job(name, world, found.root, "b"))
            filler.unlink()
            assert ended.status == 0 or (ended.status == 1 and "could not be written" in ended.said), ended.said[-2000:]
            judge("full disc (tmpfs)", name, ended, found, tally)


@some
def test_a_full_disc_is_an_error_and_leaves_the_earlier_result(name, world, follow, tally):
    try_full_disc(name, world, follow(name), [9], tally)


@pytest.mark.slow
@over
def test_a_disc_with_any_number_of_free_blocks_is_no_reason_for_a_mixture(name, world, follow, tally):
    try_full_disc(name, world, follow(name), [*range(0, 40, 2), *range(40, 200, 10)], tally)


# ---- a folder that cannot be written to, or goes


@over
def test_a_read_only_folder_is_an_error_that_names_it(name, world, follow, tally):
    found = follow(name)
    with small_disc(found.root):
        put_back(found.copies / "earlier", found.root)
        subprocess.run(["mount", "-o", "remount,ro", str(found.root)], check=True)
        ended = forked.run(job(name, world, found.root, "b"))
        said = ended.status == 1 and "could not be written" in ended.said and str(found.root) in ended.said
        same = found.two.is_earlier(state_of(found.root))
        tally("read-only folder", name, said and same, ended.status == 0)
        assert said and same, ended.said[-2000:]


def remove_at(name: str, world: Path, found: Followed, number: int, tally) -> None:
    put_back(found.copies / "earlier", found.root)

    def work() -> None:
        with forked.watched(found.root, forked.at(number, lambda: shutil.rmtree(found.root / "out"))):
            job(name, world, found.root, "b")()

    ended = forked.run(work)
    there = {path for path in state_of(found.root) if path.startswith("out/")}
    silent = ended.status == 0 and there != {path for path in found.two.later if path.startswith("out/")}
    tally("folder removed meanwhile", name, not silent, silent)
    assert not silent, (ended.status, sorted(there), ended.said[-2000:])


@over
def test_a_folder_that_is_removed_meanwhile_is_an_error_or_no_loss(name, world, follow, tally):
    found = follow(name)
    remove_at(name, world, found, len(found.at_each_write("over")) // 2, tally)


@pytest.mark.slow
@over
def test_a_folder_that_is_removed_at_any_write_is_an_error_or_no_loss(name, world, follow, tally):
    found = follow(name)
    # the last ones give the lock back and tidy up: what is removed by then is removed after the run
    for number in range(0, len(found.at_each_write("over")) - 6, 3):
        remove_at(name, world, found, number, tally)


# ---- two processes, and polite ends


@over
def test_a_second_process_is_refused_by_name_and_the_first_goes_on(name, world, follow, tally):
    root = follow(name).root

    def work() -> None:
        with forked.watched(root, forked.at(8, lambda: os.kill(os.getpid(), signal.SIGSTOP))):
            job(name, world, root, "b")()

    first = forked.start(work)
    first.wait_until_stopped()
    second = forked.run(job(name, world, root, "b"))
    os.kill(first.pid, signal.SIGCONT)
    ended = first.wait()
    refused = second.status == 1 and f"is in use by process {first.pid} on " in second.said
    tally("two processes in one folder", name, refused and ended.status == 0, second.status == 0)
    assert refused, second.said[-2000:]
    assert ended.status == 0 and leftovers(root) == [], ended.said[-2000:]


def end_politely(which: str, name: str, world: Path, found: Followed, number: int, tally) -> None:
    put_back(found.copies / "earlier", found.root)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with forked.watched(found.root, forked.at(number, lambda: os.kill(os.getpid(), getattr(signal, which)))):
            job(name, world, found.root, "b")()

    ended = forked.run(work)
    # -15: before the lock is taken, and after it is given back, a signal does what it does to any process
    assert ended.status in (0, 1, 143, -15), ended.said[-2000:]
    left = [*found.root.rglob("lock"), *found.root.rglob(".tmp*")]
    judge(which, name, ended, found, tally)
    assert not left


@over
def test_a_terminated_command_leaves_one_of_the_results_and_no_lock(name, world, follow, tally):
    found = follow(name)
    end_politely("SIGTERM", name, world, found, len(found.at_each_write("over")) // 2, tally)


@some
def test_an_interrupted_command_leaves_one_of_the_results_and_no_lock(name, world, follow, tally):
    found = follow(name)
    end_politely("SIGINT", name, world, found, len(found.at_each_write("over")) * 3 // 4, tally)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["SIGTERM", "SIGINT"])
@over
def test_a_command_that_is_ended_at_any_write_leaves_one_of_the_results_and_no_lock(which, name, world, follow, tally):
    found = follow(name)
    for number in range(6, len(found.at_each_write("over")), 3):
        end_politely(which, name, world, found, number, tally)
