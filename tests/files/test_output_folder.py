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
"""Output folders: what is ours, what is not, who writes there, and what is whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLE, names_in

from scripts.fields.volumes import write_volume
from scripts.files.lock import give_back, is_running, take
from scripts.files.marks import is_marked, written_by
from scripts.files.output_folder import OutputFolder, refuse_changed, settle
from scripts.files.whole import check_whole
from scripts.files.writing import NotWritten, replacing, write_json, write_text

LOCK = ".deeprs/lock"


def write(folder, **files):
    """Results in one go: a text for each name."""
    with OutputFolder(folder) as output, output.replacing() as new:
        for name, text in files.items():
            write_text(new / f"{name}.csv", text)


def lock_of(folder, **owner):
    facts = {"host": socket.gethostname(), "pid": os.getpid(), "started": "0"} | owner
    (folder / ".deeprs").mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_text(json.dumps(facts))


# ---- who wrote a file


def test_a_volume_is_ours_until_a_voxel_is_changed_and_stays_readable(tmp_path):
    path, array = tmp_path / "a_seg.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    write_volume(path, array, np.diag([1, 2, 3, 1]))
    assert is_marked(path) and written_by() in nib.load(path).header["descrip"].item().decode()
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), array)
    image = nib.load(path)
    nib.save(nib.Nifti1Image(array, image.affine, image.header), path)  # the same voxels, written by another program
    assert is_marked(path)
    array[0, 0, 0] = 7
    nib.save(nib.Nifti1Image(array, image.affine, image.header), path)  # corrected by hand, the header kept
    assert not is_marked(path)


@pytest.mark.parametrize("content", [b"", b"half a volume", b"\x1f\x8b\x08\x00"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.json", "a.png", "a.html", "a.csv"])
def test_whatever_is_no_file_of_ours_is_not_marked(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert not is_marked(tmp_path / name)


def test_a_result_replaces_its_own_kind_and_nothing_else(tmp_path):
    write(tmp_path, scores="1")
    write(tmp_path, scores="2")
    assert (tmp_path / "scores.csv").read_text() == "2"
    (tmp_path / "scores.csv").write_text("3, by hand")
    with pytest.raises(FileExistsError, match=r"(?s)they were changed.*scores\.csv.*--overwrite true"):
        write(tmp_path, scores="4")
    assert (tmp_path / "scores.csv").read_text() == "3, by hand"
    with OutputFolder(tmp_path, overwrite=True) as output, output.replacing() as new:
        write_text(new / "scores.csv", "5")
    assert (tmp_path / "scores.csv").read_text() == "5" and names_in(tmp_path) == {"scores.csv"}


def test_a_folder_in_the_place_of_a_result_is_refused_even_where_files_may_go(tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with OutputFolder(tmp_path, overwrite=True) as output, pytest.raises(FileExistsError, match="scores"):
        output.refuse_foreign(["scores.csv"])


def test_what_the_new_result_lacks_of_the_earlier_one_goes_and_what_is_no_result_stays(tmp_path):
    write(tmp_path, a="1", b="1")
    (tmp_path / "notes.txt").write_text("of the user")
    with OutputFolder(tmp_path) as output, output.replacing(["a.csv", "b.csv"]) as new:
        write_text(new / "a.csv", "2")
    assert names_in(tmp_path) == {"a.csv", "notes.txt"}


def test_results_that_were_changed_since_are_not_believed(tmp_path):
    write(tmp_path, a="1", b="1")
    refuse_changed(tmp_path, ["a.csv", "b.csv", "never.csv"])
    (tmp_path / "b.csv").write_text("2")
    with pytest.raises(ValueError, match=r"not as it was written: b\.csv were changed"):
        refuse_changed(tmp_path, ["a.csv", "b.csv"])


def test_an_error_amid_the_writing_leaves_the_earlier_result_and_no_trace(tmp_path):
    write(tmp_path, a="1")
    with pytest.raises(RuntimeError), OutputFolder(tmp_path) as output, output.replacing() as new:
        write_text(new / "a.csv", "2")
        raise RuntimeError("out of memory")
    assert (tmp_path / "a.csv").read_text() == "1"
    assert [path.name for path in (tmp_path / ".deeprs").iterdir()] == ["manifest.json"]


def test_a_folder_that_nothing_was_written_into_is_not_made(tmp_path):
    with OutputFolder(tmp_path / "new" / "folder"):
        assert (tmp_path / "new" / "folder").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_files_on_another_place_come_with_the_others(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere" / "chain.csv"
    with OutputFolder(out) as output, output.replacing():
        write_text(output.staged(elsewhere), "1")
        write_text(output.staged(out / "a.csv"), "2")
        assert not elsewhere.exists()
    assert elsewhere.read_text() == "1" and (out / "a.csv").read_text() == "2"
    elsewhere.write_text("by hand")
    with OutputFolder(out) as output, pytest.raises(FileExistsError, match="chain"):
        output.refuse_foreign([elsewhere])


# ---- long runs


def test_a_stopped_run_is_gone_on_with_where_settings_and_files_are_the_same(tmp_path, caplog):
    source = tmp_path / "image"
    source.write_text("1")

    def run(settings, stop=False):
        with OutputFolder(tmp_path / "out", settings=settings) as output:
            output.resume(["a.csv", "b.csv"])
            done = [name for name in ("a.csv", "b.csv") if output.finished(name, [source]) is not None]
            for name in {"a.csv", "b.csv"} - set(done):
                write_text(output.staging / name, f"{settings}")
                output.finish(name, [source], {"figure": 3})
                if stop:
                    raise KeyboardInterrupt
            output.place()
        return len(done)

    with pytest.raises(KeyboardInterrupt):
        run(1, stop=True)
    assert names_in(tmp_path / "out") == set()
    assert run(1) == 1 and "going on with a run that was stopped; 1 of its files" in caplog.text
    assert names_in(tmp_path / "out") == {"a.csv", "b.csv"}
    with pytest.raises(KeyboardInterrupt):
        run(2, stop=True)
    assert run(3) == 0 and "a run with other settings was stopped" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        run(3, stop=True)
    source.write_text("changed")
    assert run(3) == 0


# ---- one process at a time


def test_another_process_is_refused_by_name(tmp_path):
    program = "import sys, time; from scripts.files.output_folder import OutputFolder\n"
    program += "with OutputFolder(sys.argv[1]): print('open', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=BUNDLE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"open\n"
        message = f"in use by process {other.pid} on {socket.gethostname()}"
        with pytest.raises(FileExistsError, match=message), OutputFolder(tmp_path):
            pass
        with pytest.raises(FileExistsError, match=message):
            settle_after_journal(tmp_path)
    finally:
        other.terminate()
        other.wait()
    assert not (tmp_path / LOCK).exists()  # it was asked politely
    with OutputFolder(tmp_path):
        assert (tmp_path / LOCK).is_file()
    assert not (tmp_path / LOCK).exists()


def settle_after_journal(folder):
    with OutputFolder(folder):
        settle(folder)


def test_the_lock_of_a_process_that_is_no_more_is_taken_over_and_that_is_told(tmp_path, caplog):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_running(ended.pid)
    lock_of(tmp_path, pid=ended.pid)
    with OutputFolder(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert f"process {ended.pid} of an earlier run was killed" in caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells when a process began")
def test_a_later_process_of_the_same_number_is_not_taken_for_the_owner(tmp_path):
    lock_of(tmp_path, pid=1, started="1")
    with OutputFolder(tmp_path):
        pass


def test_a_lock_of_another_host_is_believed_and_the_file_is_named(tmp_path):
    lock_of(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(FileExistsError, match=r"process 1 on elsewhere(.|\n)*remove '.*lock'"), OutputFolder(tmp_path):
        pass


def test_a_process_may_take_its_lock_again(tmp_path):
    take(tmp_path / LOCK)
    take(tmp_path / LOCK)
    give_back(tmp_path / LOCK)
    assert (tmp_path / LOCK).is_file()
    give_back(tmp_path / LOCK)
    assert not (tmp_path / LOCK).exists()


def test_leftovers_of_processes_that_are_no_more_go_and_those_of_others_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "pictures").mkdir()
    for name in (f".tmp{ended.pid}_a.csv", f"pictures/.tmp{ended.pid}_b.png", f".tmp{os.getpid()}_c.csv", ".tmpfile"):
        (tmp_path / name).write_text("half")
    with OutputFolder(tmp_path):
        pass
    assert names_in(tmp_path) == {"pictures", f".tmp{os.getpid()}_c.csv", ".tmpfile"}
    assert names_in(tmp_path / "pictures") == set()


# ---- whole files


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.json", "a.npz"])
def test_a_file_that_is_cut_short_is_found(name, tmp_path):
    path = tmp_path / name
    if name == "a.json":
        write_json(path, {"a": list(range(99))})
    elif name == "a.npz":
        np.savez_compressed(path, a=np.arange(999))
    else:
        write_volume(path, np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32), np.eye(4))
    check_whole(path)
    for kept in (0, 200, path.stat().st_size - 9):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(OSError, match="not whole"):
            check_whole(path)


def test_a_writer_that_writes_nothing_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "case_1_seg.nii.gz"
    with (
        pytest.raises(NotWritten, match=r"case_1_seg\.nii\.gz' could not be written: .*0 bytes"),
        replacing(path) as file,
    ):
        file.touch()
    with pytest.raises(NotWritten, match="No such file"), replacing(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_half_written_deep_in_what_lies_ready_is_cleared(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with OutputFolder(tmp_path, settings="same") as output:
        output.resume()
        (output.staging / "images").mkdir()
        (output.staging / "images" / "whole.csv").write_text("1")
        (output.staging / "images" / f".tmp{ended.pid}_half.csv").write_text("")
    with OutputFolder(tmp_path, settings="same") as output:
        output.resume()
        output.place()
    assert (tmp_path / "images" / "whole.csv").is_file() and list(tmp_path.rglob(".tmp*")) == []


def test_a_signal_while_the_lock_is_made_waits_until_it_is_known_whose_it_is(tmp_path):
    code = (
        "import os, pathlib, signal, sys\n"
        "from scripts.files import lock\n"
        "make = lock._create\n"
        "def and_a_signal(path):\n"
        "    made = make(path)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return made\n"
        "lock._create = and_a_signal\n"
        "lock.take(pathlib.Path(sys.argv[1]))\n"
        "sys.exit('it went on')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
    lock = tmp_path / ".deeprs" / "lock"
    done = subprocess.run([sys.executable, "-c", code, str(lock)], env=environment, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert not lock.exists()
