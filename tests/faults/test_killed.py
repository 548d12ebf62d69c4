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
from states import Followed, leftovers, put_back, state_of

from scripts.files.output_folder import settle

over = pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.replaces])


@over
def test_a_kill_at_any_write_leaves_the_earlier_result_or_the_new_one(name, follow, tally):
    found = follow(name)
    root, two, copies = found.root, found.two, found.at_each_write("over")
    assert two.changed and len(copies) > 8
    for copy in copies:
        mixed = two.is_mixed(state_of(copy))  # for who looks into the folder
        put_back(copy, root)
        settle(root / "out")  # what every reader does
        whole = two.is_whole(state_of(root))
        tally("killed over an earlier result (copies)", name, whole and not mixed, mixed)
        assert whole and not mixed, copy.name


@over
def test_a_kill_in_a_new_folder_leaves_no_result_or_a_whole_one(name, follow, tally):
    found = follow(name)
    root, expected = found.root, found.two.earlier
    for copy in found.at_each_write("new"):
        put_back(copy, root)
        settle(root / "out")
        there = state_of(root)
        # the evaluation that a report is made of was not written by the command
        survived = there.keys() in (expected.keys(), set()) or (name == "reporting" and "out/report.html" not in there)
        tally("killed in a new folder (copies)", name, survived, not survived)
        assert survived, (copy.name, sorted(there))


def kill_and_run_again(name: str, world: Path, found: Followed, number: int, tally) -> None:
    """A real kill at a write, and the same command again."""
    root, two = found.root, found.two
    put_back(found.copies / "earlier", root)

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


@over
def test_after_a_kill_the_next_run_is_whole_and_tidies_up(name, world, follow, tally):
    found = follow(name)
    kill_and_run_again(name, world, found, len(found.at_each_write("over")) * 4 // 5, tally)


@pytest.mark.slow
@over
def test_after_a_kill_at_any_write_the_next_run_is_whole_and_tidies_up(name, world, follow, tally):
    found = follow(name)
    for number in range(len(found.at_each_write("over"))):
        kill_and_run_again(name, world, found, number, tally)


def test_a_label_bundle_is_there_whole_or_not_at_all(world, workplace, tally):
    root, writes = workplace / "app", workplace / "writes"
    app = root / "out"
    app.mkdir(parents=True)

    def work() -> None:
        with forked.watched(root, lambda number, what, path: writes.write_text(f"{number}")):
            job("labeling", world, root, "a")()

    def without_bundle() -> None:
        put_back(workplace / "whole", app)
        shutil.rmtree(app / "model")

    assert forked.run(work).status == 0  # the first one also writes the app
    bundle = _bundle_in(app)
    assert len(bundle) > 100
    shutil.copytree(app, workplace / "whole")
    without_bundle()
    assert forked.run(work).status == 0
    count = int(writes.read_text())
    for number in (count // 2, count - 6, count - 3):
        without_bundle()
        killed = forked.run(lambda number=number: _killed_labeling(world, root, number))
        found = _bundle_in(app)
        again = forked.run(job("labeling", world, root, "a"))
        whole = killed.status == -9 and again.status == 0 and _bundle_in(app) == bundle
        whole = whole and (found == bundle or leftovers(app) == [])  # a bundle that is there is not written again
        tally("killed by SIGKILL, run again", "labeling", whole, found not in (set(), bundle))
        assert found in (set(), bundle) and whole, again.said[-2000:]


def _bundle_in(app: Path) -> set[str]:
    folder = app / "model" / "phantoms"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _killed_labeling(world: Path, root: Path, number: int) -> None:
    with forked.watched(root, forked.at(number, forked.kill)):
        job("labeling", world, root, "a")()
