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
"""Every command killed at each of its writes, over an earlier result and in a new folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import forked
import pytest
from commands import COMMANDS, job
from states import Two, leftovers, put_back, state_of

from scripts.files.output_folder import settle

over = pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.replaces])
every = pytest.mark.parametrize("name", COMMANDS)


def follow(name: str, world: Path, root: Path, variant: str, copies: Path) -> Two:
    """Run a command, keep a copy of the folder at each of its writes, and give what was there before and after."""
    before = state_of(root)
    shutil.copytree(root, copies / "before", symlinks=True)

    def work() -> None:
        with forked.watched(root, forked.keep_copies(root, copies)):
            job(name, world, root, variant)()

    ended = forked.run(work)
    assert ended.status == 0, ended.said[-3000:]
    assert leftovers(root) == []
    return Two(before, state_of(root))


def earlier_result(name: str, world: Path, root: Path) -> None:
    (root / "out").mkdir(parents=True)
    ended = forked.run(job(name, world, root, "a"))
    assert ended.status == 0, ended.said[-3000:]


def is_settled_whole(copy: Path, root: Path, two: Two) -> bool:
    """Whether a reader finds one of the two results in what a kill left."""
    put_back(copy, root)
    settle(root / "out")
    return two.is_whole(state_of(root))


@over
def test_a_kill_at_any_write_leaves_the_earlier_result_or_the_new_one_and_the_next_run_is_whole(name, world, tmp_path, tally):
    root, copies = tmp_path / "root", tmp_path / "copies"
    earlier_result(name, world, root)
    two = follow(name, world, root, "b", copies)
    assert two.changed and not two.is_mixed(two.later)
    states = sorted(path for path in copies.iterdir() if path.name != "before")
    assert len(states) > 8
    for copy in states:
        mixed, whole = two.is_mixed(state_of(copy)), is_settled_whole(copy, root, two)
        tally("killed over an earlier result (copies)", name, whole, mixed)
        assert whole and not mixed, copy.name
    kill_and_run_again(name, world, root, two, copies / "before", len(states) * 4 // 5, tally)


@every
def test_a_kill_in_a_new_folder_leaves_no_result_or_a_whole_one(name, world, tmp_path, tally):
    root, copies = tmp_path / "root", tmp_path / "copies"
    root.mkdir()
    if name == "labeling":
        (root / "out").mkdir()
    two = follow(name, world, root, "a", copies)
    for copy in sorted(path for path in copies.iterdir() if path.name != "before"):
        put_back(copy, root)
        settle(root / "out")
        found = state_of(root)
        if name == "labeling":  # the app is not ours, and is made by the test
            found = {path: facts for path, facts in found.items() if "/model/" in path} and found
        survived = found.items() <= {**two.later, **found}.items() and (two.is_later(found) or not _results(found))
        survived = survived or name in ("reporting", "labeling") and "out/report.html" not in found
        tally("killed in a new folder (copies)", name, survived)
        assert survived, (copy.name, sorted(found))


def _results(state: dict[str, str]) -> list[str]:
    return [path for path in state if path.startswith("out/")]


def kill_and_run_again(name: str, world: Path, root: Path, two: Two, copy: Path, number: int, tally) -> None:
    """A real kill at a write, and the same command again."""
    put_back(copy, root)

    def work() -> None:
        with forked.watched(root, forked.at(number, forked.kill)):
            job(name, world, root, "b")()

    killed = forked.run(work)
    assert killed.status in (-9, 0), killed.said[-3000:]  # 0: it had fewer writes than the run before it
    mixed = two.is_mixed(state_of(root))
    again = forked.run(job(name, world, root, "b"))
    whole = again.status == 0 and two.is_later(state_of(root)) and leftovers(root) == []
    tally("killed by SIGKILL, run again", name, whole, mixed or (again.status == 0 and not whole))
    assert again.status == 0, again.said[-3000:]
    assert not mixed and two.is_later(state_of(root)), number
    assert leftovers(root) == [], number


def count_of(copies: Path) -> int:
    return len([path for path in copies.iterdir() if path.name != "before"])


@pytest.mark.slow
@over
def test_after_a_kill_at_any_write_the_next_run_is_whole_and_tidies_up(name, world, tmp_path, tally):
    root, copies = tmp_path / "root", tmp_path / "copies"
    earlier_result(name, world, root)
    two = follow(name, world, root, "b", copies)
    for number in range(count_of(copies)):
        kill_and_run_again(name, world, root, two, copies / "before", number, tally)


def test_a_label_bundle_is_there_whole_or_not_at_all(world, tmp_path, tally):
    root, copies = tmp_path / "root", tmp_path / "copies"
    (root / "out").mkdir(parents=True)
    two = follow("labeling", world, root, "a", copies)
    bundle = {path for path in two.later if path.startswith("out/model/phantoms/")}
    assert len(bundle) > 100
    for copy in sorted(path for path in copies.iterdir() if path.name != "before")[::7]:
        found = {path for path in state_of(copy) if path.startswith("out/model/phantoms/")}
        tally("killed in a new folder (copies)", "labeling", found in (set(), bundle), found not in (set(), bundle))
        assert found in (set(), bundle)
        put_back(copy, root)
        again = forked.run(job("labeling", world, root, "a"))
        assert again.status == 0 and bundle <= state_of(root).keys(), again.said[-2000:]
        assert leftovers(root) == []
