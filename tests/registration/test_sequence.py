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

"""Many pairs: which there are, what is written for each, and that one which fails stops no other."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLE, STRUCTURES, names_in, run_bundle, succeed
from tiny_networks import SameShift, shipped

from scripts.joint.state import PairState
from scripts.registration.register_files import RegisterFiles
from scripts.registration.sequence import RegisterSequence

CONFIGS = ["configs/register.yaml", "configs/sequence.yaml"]
NAMES = ("a", "b", "c")
IDS = tuple(STRUCTURES)[:2]


@pytest.fixture
def data(tmp_path, write_case):
    """Three labelled cases."""
    for name in NAMES:
        write_case(tmp_path / "data", name, IDS, shape=(16, 16, 16))
    return tmp_path / "data"


def image(data, name):
    return str(data / "images" / f"{name}.nii.gz")


def sequence(out, **options):
    """What the config makes, with a network that shifts by one voxel."""
    register = partial(
        RegisterFiles,
        preprocessing=shipped("register.yaml", "preprocessing", spatial_size=[16, 16, 16]),
        networks={"registration": SameShift((1.0, 0.0, 0.0))},
        state=partial(PairState, num_classes=len(IDS) + 1),
        labels={str(label_id): STRUCTURES[label_id] for label_id in IDS},
    )
    return RegisterSequence(register, out, **options)


def pairs_of(out):
    return sorted(name for name in names_in(out) if (out / name).is_dir())


def summary(out):
    with open(out / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


# ---- which pairs there are


def test_one_image_goes_onto_each_of_a_folder_but_itself(data, tmp_path):
    out = tmp_path / "out"
    rows = sequence(out, moving=image(data, "a"), fixed=data).run()
    assert pairs_of(out) == ["a_to_b", "a_to_c"]
    assert [(row["moving"], row["fixed"]) for row in rows] == [(image(data, "a"), image(data, n)) for n in "bc"]
    for row in summary(out):
        assert float(row["folding_percent"]) == 0 and row["fault"] == ""
        assert float(row["mean_displacement_voxels"]) == pytest.approx(1)


def test_pairs_that_became_less_alike_are_counted_at_the_end(data, tmp_path, caplog):
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "same.nii.gz").write_bytes(Path(image(data, "a")).read_bytes())
    rows = sequence(tmp_path / "out", moving=image(data, "a"), fixed=[str(copies), image(data, "b")]).run()
    assert rows[0]["similarity_worse"] is True
    assert [row["similarity_worse"] for row in summary(tmp_path / "out")] == [str(r["similarity_worse"]) for r in rows]
    worse = sum(row["similarity_worse"] for row in rows)
    assert f"{worse} of 2 registrations made the images less alike" in caplog.records[-1].getMessage()
    assert "a_to_same (local NCC" in caplog.records[-1].getMessage()


def test_a_folder_of_labels_goes_with_a_folder_of_images(data, tmp_path):
    out = tmp_path / "out"
    sequence(
        out, moving=[image(data, "b"), image(data, "c")], fixed=image(data, "a"), moving_label=data / "labels"
    ).run()
    assert pairs_of(out) == ["b_to_a", "c_to_a"]
    for name in "bc":
        (warped,) = (out / f"{name}_to_a").glob("*warped_label.nii.gz")
        # warped(p) = moving(p + 1): what was at 1 comes to lie at 0
        expected = np.roll(np.asarray(nib.load(data / "labels" / f"{name}.nii.gz").dataobj), -1, axis=0)
        assert (np.asarray(nib.load(warped).dataobj) == expected).all()


def test_a_table_names_pairs_labels_and_folders_and_is_where_its_paths_begin(data, tmp_path):
    table, out = data / "pairs.csv", tmp_path / "out"
    table.write_text(
        "\ufeffmoving,fixed,moving_label,name\n"  # as a spreadsheet writes it
        "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,first\nimages/c.nii.gz,images/a.nii.gz,,\n"
    )
    sequence(out, pairs=table).run()
    assert pairs_of(out) == ["c_to_a", "first"]
    assert [len(list((out / name).glob("*warped_label.nii.gz"))) for name in ("first", "c_to_a")] == [1, 0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"moving": "a"}, ValueError, "--moving and --fixed"),
        ({"moving": "a", "fixed": "a"}, ValueError, "the same image"),
        ({"moving": "a", "fixed": "a", "pairs": "a"}, ValueError, "leave out --moving and --fixed"),
        ({"moving": "x", "fixed": "a"}, FileNotFoundError, "x.nii.gz"),
        ({"moving": ["a", "b"], "fixed": "c", "moving_label": "a"}, ValueError, "there are 2 images"),
        ({"moving": ["a", "a"], "fixed": "c"}, ValueError, "one name"),
    ],
)
def test_options_that_name_no_pairs_are_refused_before_anything_is_done(options, error, message, data, tmp_path):
    paths = {
        key: [image(data, name) for name in value] if isinstance(value, list) else image(data, value)
        for key, value in options.items()
    }
    with pytest.raises(error, match=message):
        sequence(tmp_path / "out", **paths).run()
    assert not (tmp_path / "out").exists()


def test_a_label_that_is_missing_is_told_before_anything_is_done(data, tmp_path):
    (data / "labels" / "b.nii.gz").unlink()
    with pytest.raises(ValueError, match="no label that bears the name of b"):
        sequence(tmp_path / "out", moving=data, fixed=image(data, "a"), moving_label=data / "labels").run()


# ---- faults


def test_a_pair_that_fails_is_reported_and_stops_no_other(data, tmp_path):
    (data / "images" / "b.nii.gz").write_bytes(b"this is no volume")
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="1 of 2 pairs could not be registered:\n'a_to_b'"):
        sequence(out, moving=image(data, "a"), fixed=data).run()
    failed, done = summary(out)
    assert failed["name"] == "a_to_b" and failed["fault"] and failed["folding_percent"] == ""
    assert done["name"] == "a_to_c" and done["fault"] == "" and float(done["folding_percent"]) == 0
    assert list((out / "a_to_c").glob("*warped.nii.gz"))


# ---- the command


@pytest.fixture
def table(data):
    """Two pairs, of which the first cannot be registered."""
    (data / "pairs.csv").write_text(
        "moving,fixed\nimages/a.nii.gz,images/gone.nii.gz\nimages/a.nii.gz,images/c.nii.gz\n"
    )
    return data / "pairs.csv"


def test_the_command_registers_what_it_can_and_exits_with_an_error(table, tmp_path):
    done = run_bundle("registering", CONFIGS, BUNDLE, pairs=table, output_dir=tmp_path / "out")
    assert done.returncode != 0
    assert "'a_to_gone': FileNotFoundError" in done.stdout.strip().splitlines()[-1]
    assert "1 of 2 pairs registered" in done.stdout
    assert pairs_of(tmp_path / "out") == ["a_to_c"]


@pytest.mark.slow
def test_the_command_takes_a_list_and_is_content_when_all_goes_well(data, tmp_path):
    fixed = str([image(data, name) for name in "bc"]).replace(" ", "")
    succeed("registering", CONFIGS, BUNDLE, moving=image(data, "a"), fixed=fixed, output_dir=tmp_path / "out")
    assert pairs_of(tmp_path / "out") == ["a_to_b", "a_to_c"]


@pytest.mark.slow
def test_at_a_terminal_a_bar_shows_how_far_it_is(data, tmp_path):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # rows and columns: else it has none
    files = str([str(BUNDLE / config) for config in CONFIGS])
    command = [sys.executable, "-m", "monai.bundle", "run", "registering", "--config_file", files]
    command += ["--moving", image(data, "a"), "--fixed", str(data), "--output_dir", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    said = b""
    while chunk := _read(terminal):
        said += chunk
    os.close(terminal)
    assert process.wait() == 0
    assert b"Registering" in said and b"1/2" in said and b"2/2" in said


def _read(terminal):
    """What is said next; nothing when the other end is closed, which Linux calls an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
