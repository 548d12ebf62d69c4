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
"""Every option has its row in one table, and a value that it cannot be is refused with what it can."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bundle_runs import BUNDLE, CONFIGS
from hypothesis import given
from hypothesis import strategies as st

from scripts.alignment.affine import INITIALIZATIONS
from scripts.alignment.target_grid import REGIONS
from scripts.data.pairs import ROLES
from scripts.data.preprocessing import CROPS, INTENSITIES
from scripts.files.entries import (
    COMMANDS,
    check_entries,
    default_values,
    entries_of,
    load_entries,
    read_entries,
    read_value,
)
from scripts.files.entry_tables import markdown_table
from scripts.files.readers import read
from scripts.files.words import missed_number, number_of, typed

#: overlays that lie over another config than train.yaml
OVER = {
    "sequence": ["register"],
    "prepare_mmwhs": ["prepare"],
    "evaluate": ["train"],
    "plan": ["train"],
    "label": ["train"],
}


def content(command: str) -> dict:
    return yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())


def merged(command: str) -> dict:
    """The config of a command as MONAI merges it, at the top level."""
    return {key: value for config in [*OVER.get(command, []), command] for key, value in content(config).items()}


def first_block(command: str) -> list[str]:
    """The names at the head of a config: as far as the machinery, or the first component that is not `ckpt_dir`."""
    names = []
    for line in (CONFIGS / f"{command}.yaml").read_text().splitlines():
        if line.endswith(" machinery") or line.startswith("bundle_root:") or re.match(r"\w+::", line):
            break
        if re.match("  _target_:", line) and names[-1] != "ckpt_dir":
            return names[:-1]
        names += re.findall(r"^(\w+):", line)
    return names


def faults(config: dict) -> str:
    with pytest.raises(ValueError) as stopped:
        check_entries(config)
    return str(stopped.value)


def test_the_first_blocks_are_found():
    assert first_block("train")[:2] == ["dataset_dir", "datalist"] and first_block("train")[-1] == "max_pairs"
    evaluated = ["overwrite", "report", "vote", "refine", "landmarks", "coordinates", "ckpt_dir"]
    assert first_block("evaluate") == evaluated
    assert first_block("inference")[-1] == "overwrite" and first_block("register")[-1] == "ckpt_dir"
    assert first_block("apply")[-1] == "overwrite" and first_block("report")[-1] == "evaluations"
    assert first_block("prepare")[-1] == "predictions" and first_block("prepare_mmwhs")[-1] == "folds"
    assert first_block("plan") == ["memory", "minutes"]
    assert first_block("label") == ["app_dir", "name", "start_from"] and first_block("sequence") == ["pairs"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_entry_of_the_first_block_of_a_config_has_its_row(command):
    rows = load_entries(command)
    assert [name for name in first_block(command) if name not in rows] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_row_is_of_an_entry_that_there_is_not(command):
    there = {name for file in CONFIGS.glob("recipes/*.yaml") for name in yaml.safe_load(file.read_text())}
    own = set(merged(command)) | (there if command == "train" else set())
    assert [name for name in load_entries(command, own=True) if name not in own] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_rows_of_a_command_are_known_by_its_merged_config(command):
    rows = entries_of(merged(command))
    assert {name: rows[name] for name in load_entries(command)} == load_entries(command)


def test_the_words_of_the_table_are_those_that_the_rooms_take():
    words = {"intensity": INTENSITIES, "crop": CROPS, "region": REGIONS, "initialization": INITIALIZATIONS}
    assert {name: load_entries()[name].choices for name in words} == words
    assert load_entries("train")["augmentation"].choices == tuple(f"{r}_{k}" for k in ("image", "label") for r in ROLES)


def test_every_config_of_a_command_has_a_table():
    # multi_gpu_train.yaml has no entries of its own
    assert {file.stem for file in CONFIGS.glob("*.yaml")} - {"multi_gpu_train"} == set(COMMANDS)


@pytest.mark.parametrize("file", sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")))
def test_every_config_of_the_bundle_passes(file):
    command = file.removesuffix(".yaml")
    base = merged(command) if command in COMMANDS else content("train")
    check_entries({**base, **yaml.safe_load((CONFIGS / file).read_text())})


@pytest.mark.parametrize(
    ("command", "name", "value", "expected"),
    [
        ("train", "pixdim", [1.0, 0, 1.0], r"three numbers above 0 \(mm\), or null, found \[1.0, 0, 1.0\]"),
        ("train", "pixdim", 0, "three numbers above 0"),
        ("train", "pixdim", [1, -1, 1], "three numbers above 0"),
        ("train", "pixdim", [1.0, 1.0], "three numbers above 0"),
        ("train", "pixdim", [1, "nan", 1], "three numbers above 0"),
        ("train", "pixdim", [1, float("nan"), 1], "three numbers above 0"),
        ("train", "pixdim", [1, float("inf"), 1], "three numbers above 0"),
        ("train", "pixdim", "small", r"three numbers.*Write a list such as \[1, 1, 1\]"),
        ("train", "spatial_size", "large", r"three whole numbers of at least 1 \(voxels\), found 'large'"),
        ("train", "spatial_size", [96, 96], "three whole numbers"),
        ("train", "spatial_size", 96, "three whole numbers"),
        ("train", "spatial_size", [96, 96, 95.5], "three whole numbers"),
        ("train", "spatial_size", [96, 96, True], "three whole numbers"),
        ("train", "spatial_size", None, "three whole numbers"),
        ("train", "learning_rate", "1e-4x", "a number of at least 0, found '1e-4x'"),
        ("train", "learning_rate", "-1e-4", "a number of at least 0, found '-1e-4'"),
        ("train", "learning_rate", True, "a number of at least 0"),
        ("train", "num_workers", -1, "of at least 0"),
        ("train", "batch_size", 0, "of at least 1"),
        ("train", "batch_size", 1.5, "a whole number"),
        ("train", "max_epochs", 0, "of at least 1"),
        ("train", "max_epochs", "ten", "of at least 1"),
        ("train", "val_interval", 0, "of at least 1"),
        ("train", "log_interval", 0, "of at least 1"),
        ("train", "iterations_per_epoch", 0, "of at least 1"),
        ("train", "max_pairs", 0, "of at least 1"),
        ("train", "fold", -1, "of at least 0"),
        ("train", "fold", None, "of at least 0"),
        ("train", "num_labeled", -2, "of at least 0"),
        ("train", "seed", -1, "from 0 to 4294967295"),
        ("train", "seed", 2**32, "from 0 to 4294967295"),
        ("train", "seed", None, "from 0 to 4294967295"),
        ("train", "resume", "ja", "true or false"),
        ("train", "amp", 2, "true or false"),
        ("train", "tasks", ["segmentation", "detection"], r"one of \['segmentation', 'registration'\] or both"),
        ("train", "tasks", [], r"one of \['segmentation', 'registration'\] or both"),
        ("train", "tasks", "registrations", "Did you mean `registration`"),
        ("train", "intensity", "windw", r"one of \['percentiles', 'window'\], found 'windw'. Did you mean `window`"),
        ("train", "crop", "foregrund", "Did you mean `foreground`"),
        ("train", "orientation", "ras", "three letters"),
        ("train", "orientation", "RAL", "of one axis"),
        ("train", "orientation", None, "three letters"),
        ("train", "intensity_range", [99, 1], "two numbers, the lower one first"),
        ("train", "intensity_range", [1, 1], "two numbers, the lower one first"),
        ("train", "intensity_range", [1, 2, 3], "two numbers, the lower one first"),
        ("train", "intensity_range", [-200, 800], "two percentiles from 0 to 100.*`intensity: window`"),
        ("train", "labels", ["a", "b"], 'Write {"1": anterior, "2": posterior}'),
        ("train", "labels", {"one": "a"}, "ids from 0"),
        ("train", "labels", {-1: "a"}, "ids from 0"),
        ("train", "labels", {0: "background"}, "ids from 0"),
        ("train", "labels", {}, "ids from 0"),
        ("train", "labels", {1: "a", 2: "a"}, "'a' is the name of several"),
        ("train", "labels", {1: True}, "found True. It is the name of a structure, a text: write it in quotes"),
        ("train", "labels", {1: ""}, "It is the name of a structure"),
        ("train", "dataset_dir", 20240115, "a path, found 20240115.*in quotes"),
        ("train", "dataset_dir", None, "a path, found None"),
        ("train", "output_dir", "", "a path, found ''"),
        ("train", "image_name", "T1w.nii.gz", "a file name with one star, or null.*stands for the case.*in quotes"),
        ("train", "label_name", "*/*_dseg.nii.gz", "a file name with one star"),
        ("inference", "image_name", "anat/*_T1w.nii.gz", "a file name with one star.*without folders"),
        ("train", "output_dir", ("a", "b"), "a path.*quotes within quotes"),
        ("train", "output_dir", "~nobody-of-that-name/x", "There is no such user.*./~nobody"),
        ("train", "device", "gpu", "A GPU is cuda"),
        ("train", "device", 1, "Write cuda:1"),
        ("train", "augmentation", "light", "It is a component of MONAI"),
        (
            "train",
            "augmentation",
            {"_target_": "Compose", "transforms": [{"_target_": "RandFlipd", "keys": ["movin_image"]}]},
            "found 'movin_image'. Did you mean `moving_image`",
        ),
        ("evaluate", "refine", -1, r"of at least 0 \(steps\)"),
        ("evaluate", "coordinates", "lps", r"one of \['LPS', 'RAS'\], or null"),
        ("evaluate", "report", "perhaps", "true or false"),
        ("inference", "datalist", False, "a path, or null, found False"),
        ("inference", "labels", None, "ids from 0"),
        ("inference", "voxel_size", [1, 1], "three numbers above 0"),
        ("register", "fill_value", "air", "a number"),
        ("register", "moving", ["a.nii", "b.nii"], "a path, or null"),
        ("sequence", "fixed", [], "a path or a list of them"),
        ("sequence", "fixed", ["a.nii", 3], "a path or a list of them.*in quotes"),
        ("apply", "transform", [{"invert": "a.h5"}], "a list of paths and of {inverse: path}"),
        ("apply", "inverse", "both", "true or false"),
        ("report", "evaluations", "a", "a list of 2 paths or more"),
        ("report", "evaluations", ["a"], "a list of 2 paths or more"),
        ("report", "title", 2024, "a text, found 2024"),
        ("prepare", "pixdim", [0.3, 0.3], "one or three numbers above 0"),
        ("prepare", "pixdim", 0, "one or three numbers above 0"),
        ("prepare", "size", [1, 2], "three whole numbers"),
        ("prepare", "margin", -1, r"of at least 0 \(mm\)"),
        ("prepare", "region", "heart", r"one of \['foreground', 'label'\], or null"),
        ("prepare", "folds", 1, "of at least 2"),
        ("prepare", "corrections", {"421": "aorta"}, "found 'aorta'"),
        ("prepare", "align_with", "ants", "one of"),
        ("prepare", "initialization", "Centre", "one of"),
        ("prepare_mmwhs", "modality", "us", "one of"),
        ("label", "name", 7, "a text, found 7"),
    ],
)
def test_a_value_that_an_entry_cannot_be_is_refused_with_what_it_can(command, name, value, expected):
    message = faults({**merged(command), name: value})
    assert re.match(f"{name}: expected .*{expected}", message) and "\n" not in message


def test_all_faults_are_listed_at_once():
    lines = faults({**merged("train"), "pixdim": 0, "batch_size": 0, "crop": "all"}).splitlines()
    assert len(lines) == 4 and all(any(name in line for line in lines) for name in ("pixdim", "batch_size", "crop"))


@pytest.mark.parametrize(
    ("command", "name", "value", "meant"),
    [
        ("train", "learning_rate", "1e-4", 0.0001),
        ("train", "max_epochs", "1e2", 100),
        ("train", "max_epochs", 20.0, 20),
        ("train", "spatial_size", "32, 48,64", [32, 48, 64]),
        ("train", "spatial_size", (32, 48, 64), [32, 48, 64]),
        ("train", "intensity_range", ["-1e3", "1e3"], [-1000.0, 1000.0]),
        ("train", "tasks", "registration", ["registration"]),
        ("train", "tasks", "registration,segmentation", ["registration", "segmentation"]),
        ("train", "resume", "Yes", True),
        ("train", "resume", "off", False),
        ("train", "output_dir", "1e5", "1e5"),
        ("train", "output_dir", "a,b", "a,b"),
        ("train", "output_dir", Path("a"), "a"),
        ("train", "output_dir", "~/out", str(Path.home() / "out")),
        ("apply", "image", ["~/a.nii", "b.nii"], [str(Path.home() / "a.nii"), "b.nii"]),
        ("apply", "transform", [{"inverse": "~/a.h5"}, "b.h5"], [{"inverse": str(Path.home() / "a.h5")}, "b.h5"]),
        ("prepare", "pixdim", "0.3", 0.3),
        ("prepare", "pixdim", None, None),
        ("prepare", "orientation", None, None),
        ("prepare", "reference", "~case", "~case"),  # the name of a case; of apply.yaml it is a path
        ("train", "intensity_range", "$[1, 99]", "$[1, 99]"),
        ("train", "pixdim", ["$1/3", 1, 1], ["$1/3", 1, 1]),
        ("train", "labels", {"1": "@name"}, {"1": "@name"}),
        ("train", "output_dir", {"_target_": "scripts.label.next_round"}, {"_target_": "scripts.label.next_round"}),
    ],
)
def test_a_value_becomes_what_it_means(command, name, value, meant):
    config = {**merged(command), "intensity": "window"} if name == "intensity_range" else merged(command)
    found = read_entries({**config, name: value})[name]
    assert found == meant and type(found) is type(meant)


def test_entries_of_another_command_or_of_a_user_are_left_alone():
    check_entries({**merged("train"), "size": 3, "image": 7, "margin": "none", "patience": []})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "1e-4", 0.0001),
        ("pixdim", "[1,1,2.5]", [1, 1, 2.5]),
        ("pixdim", "null", None),
        ("datalist", "None", None),
        ("output_dir", "2024_01_15", "2024_01_15"),
        ("output_dir", "1e5", "1e5"),
        ("output_dir", "no", "no"),
        ("image_name", "*_T1w.nii.gz", "*_T1w.nii.gz"),
        ("label_name", "null", None),
        ("output_dir", "007", "007"),
        ("output_dir", "a,b#1", "a,b#1"),
        ("output_dir", "'2024_01_15'", "2024_01_15"),
        ("output_dir", "$@bundle_root + '/x'", "$@bundle_root + '/x'"),
        ("evaluations", "[2024_01,1e5]", ["2024_01", "1e5"]),
        ("transform", "[{inverse: 1e5},b.h5]", [{"inverse": "1e5"}, "b.h5"]),
        ("transform", "a,b.h5", "a,b.h5"),
        ("labels", '{"1": a, 2: b}', {"1": "a", 2: "b"}),
        ("resume", "on", True),
        ("title", "2024", "2024"),
        ("updates::registration::optimizer::lr", "1e-4", 0.0001),
        ("train::trainer::max_epochs", "3", 3),
        ("anything", "{", "{"),
    ],
)
def test_a_word_of_a_command_line_is_read_as_a_file_would_be(name, text, value):
    found = read_value(name, text)
    assert found == value and type(found) is type(value)


def test_options_are_found_on_a_command_line_as_they_were_typed():
    line = [
        "run",
        "applying",
        "--image",
        "a,b#1",
        "-fill_value=-1024",
        "--net#lr",
        "1e-4",
        "--fill_value",
        "-5",
        "--flag",
    ]
    assert typed([*line, "--output-dir=2024_01_15", "--", "--trace"]) == {
        "image": "a,b#1",
        "fill_value": "-5",
        "net::lr": "1e-4",
        "output_dir": "2024_01_15",
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_however_it_is_written(number):
    for text in (repr(number), f"{number:e}", f"{number:E}", f"{number:.17g}"):
        assert number_of(text) == pytest.approx(number, rel=1e-5)
        assert read_value("fill_value", text) == number_of(text)
        of_yaml = yaml.safe_load(text)  # 1.1
        assert (missed_number(text) is None) == (not isinstance(of_yaml, str))
    assert read(load_entries()["fill_value"], repr(number)) == number


@given(st.text(min_size=1))
def test_a_path_that_is_typed_is_the_path(text):
    value = read_value("dataset_dir", text)  # which cannot be null
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    assert value == (text[1:-1] if quoted else text)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(COMMANDS), st.data(), ANYTHING)
def test_whatever_the_value_is_it_is_taken_or_refused_by_name(command, data, value):
    entry = load_entries(command)[data.draw(st.sampled_from(sorted(load_entries(command))))]
    try:
        meant = read(entry, value)
    except ValueError as error:
        assert str(error).startswith(f"{entry.name}: expected ")
    else:
        again = read(entry, meant)
        assert repr(again) == repr(meant)


def test_the_table_needs_neither_torch_nor_monai():
    script = (
        "import sys, deeprs.bundle.scripts.files.entries as e, deeprs.bundle.scripts.files.entry_tables as t;"
        "e.check_entries({'pixdim': [1, 1, 1]}); t.markdown_table();"
        "print([name for name in ('torch', 'monai', 'numpy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE.parent)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_defaults_are_those_of_the_configs():
    assert default_values("train")["spatial_size"] == [128, 128, 96]
    assert default_values("prepare")["num_labeled"] is None and default_values("train")["num_labeled"] == 4
    assert default_values("prepare_mmwhs")["size"] == [128, 128, 96]  # over prepare.yaml, which has null


def test_the_tables_of_the_documents_have_a_row_for_each_entry():
    table = markdown_table()
    assert table == markdown_table() and table.count("configs/") == len(COMMANDS)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in lines)
    assert len(lines) == sum(len(load_entries(command, own=True)) + 2 for command in COMMANDS)
    assert "| `pixdim` | `null` | three numbers above 0, or null | mm | Voxel size to resample to;" in table
    assert "| `output_dir` | `output` of the bundle | a path |  | " in table
    assert markdown_table(["report"]).count("\n| `") == 6
