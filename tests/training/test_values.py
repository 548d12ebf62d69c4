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
"""The config of a run holds what its values mean, before anything is made of one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from bundle_runs import CONFIGS, TINY, run_bundle, workflow
from monai.bundle import ConfigParser

from scripts.files.errors import root_cause
from scripts.training.augmented import refuse_missing_keys
from scripts.training.train_state import check_resuming
from scripts.training.values import settle

BASES = ["apply", "inference", "prepare", "register", "report", "train"]


def settled(config: dict) -> ConfigParser:
    parser = ConfigParser(config)
    parser.parse()
    settle(parser)
    return parser


def refusal(configs: list[str], **entries) -> str:
    with pytest.raises(RuntimeError) as stopped, workflow(configs, **entries) as refused:  # raised by MONAI
        refused.run()
    return str(root_cause(stopped.value))


def test_numbers_of_yaml_1_2_are_numbers_at_all_levels():
    text = "a: 1e-4\nparts: {weights: [1e3, -.5, 1E5, '007'], deep: [{lr: 2.5e2}]}\nname: 1e\n"
    config = settled(yaml.safe_load(text)).get()
    assert config == {
        "a": 0.0001,
        "parts": {"weights": [1000.0, -0.5, 100000.0, "007"], "deep": [{"lr": 250.0}]},
        "name": "1e",
    }


def test_paths_and_names_that_look_like_numbers_stay_words():
    config = {"output_dir": "1e5", "labels": {"1": "1e5"}, "evaluations": ["1e5", "b"], "title": "1e5"}
    assert settled(config).get() == config


def test_what_was_built_of_a_value_is_built_again():
    parser = ConfigParser({"learning_rate": "1e-4", "twice": "$2 * @learning_rate", "sum": "$@twice"})
    assert parser.get_parsed_content("twice") == "1e-41e-4"
    settle(parser)
    assert parser.get_parsed_content("sum") == 0.0002


def test_steps_that_a_command_has_taken_are_not_taken_again():
    counted = []
    config = {"count": counted.append, "x": "1e-4", "run": ["$@count(1)", "$@count(@x)"], "all": ["@run"]}
    parser = ConfigParser(config)
    parser.get_parsed_content("run::0")
    settle(parser)
    parser.get_parsed_content("all::0")
    assert counted == [1, 0.0001]


@pytest.mark.parametrize(
    ("config", "typed", "found", "meant"),
    [
        ("register", "--moving 2024_01.nii", {"moving": "x"}, "2024_01.nii"),
        ("sequence", "--fixed ['a','1e5']", {"fixed": ["a", 100000.0]}, ["a", "1e5"]),
        ("sequence", "--fixed a,b.nii", {"fixed": ("a", "b.nii")}, "a,b.nii"),
        ("train", "--pixdim=None", {"pixdim": [3, 3, 3]}, None),  # MONAI leaves out an option that is null
        ("train", "--datalist null", {"datalist": "null"}, None),
        ("train", "--output_dir 1 --output-dir 007_1", {"output_dir": 1}, "007_1"),
        ("train", "--spatial_size 32,32,48", {"spatial_size": (32, 32, 48)}, [32, 32, 48]),
        ("train", "--labels {1:a}", {"labels": {1: "a"}}, {1: "a"}),
    ],
)
def test_what_was_typed_counts_rather_than_what_fire_made_of_it(config, typed, found, meant, monkeypatch):
    monkeypatch.setattr(sys, "argv", [monai.bundle.__file__.replace("__init__", "__main__"), "run", *typed.split()])
    known_by = {"register": ["registering"], "sequence": ["registering", "sequence"], "train": ["training"]}[config]
    (name,) = found
    assert settled({**dict.fromkeys(known_by, 0), **found}).get_parsed_content(name) == meant
    monkeypatch.setattr(sys, "argv", ["pytest", *typed.split()])  # a program's own
    if isinstance(found[name], str):
        assert settled({**dict.fromkeys(known_by, 0), **found}).get_parsed_content(name) == found[name]


def test_a_home_and_a_hash_in_a_path_are_what_they_are(tmp_path):
    there = tmp_path / "a::b"
    there.mkdir()
    config = {
        "output_dir": "~/out/#3@'4",
        "datalist": str(there),
        "labels": {"1": "left #1"},
        "evaluations": ["#1", "b"],
    }
    parser = settled({**config, "run": ["$1", "$@output_dir"]})
    parser.get_parsed_content("run::0")
    parser.ref_resolver.remove_resolved_content("run::0")  # as MONAI does after each step
    assert parser.get_parsed_content("run::1") == str(Path.home() / "out/#3@'4")
    assert parser.get_parsed_content("datalist") == str(there)
    assert parser.get_parsed_content("labels") == {"1": "left #1"}
    assert parser.get_parsed_content("evaluations") == ["#1", "b"]
    settle(parser)
    assert parser.get_parsed_content("output_dir") == str(Path.home() / "out/#3@'4")


def test_expressions_keep_their_references():
    config = {"parts": {"a": 1}, "output_dir": "$'out' + str(@parts::a)", "learning_rate": "$1e-4"}
    parser = settled(config)
    assert parser.get() == config and parser.get_parsed_content("output_dir") == "out1"


@pytest.mark.parametrize("config", BASES)
def test_options_are_looked_at_before_anything_is_made_of_them(config):
    steps = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["initialize"]
    assert steps[0] == yaml.safe_load((CONFIGS / "train.yaml").read_text())["initialize"][0]
    assert [step["_target_"] for step in steps[1:3]] == [
        "scripts.files.show_cause_last",
        "scripts.training.check_values",
    ]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"seed": "abc"}, "seed: expected a whole number from 0"),
        ({"device": "cuda:97"}, "device: expected c"),
        ({"device": "$torch.device('cuda', 97)"}, "device: expected c"),
        ({"updates::registration::optimizer::lr": 1, "batch_size": 0}, "batch_size: expected"),
        ({"augmentation": {"_target_": "RandFlipd", "keys": ["image"]}}, "augmentation: expected .*'image'"),
        ({"augmentation": {"_target_": "RandFlipd", "keys": ["moving_label"]}}, "allow_missing_keys: true"),
    ],
)
def test_a_training_refuses_before_it_reads_or_writes(entries, expected, tmp_path):
    out = tmp_path / "out"
    message = refusal(["train.yaml"], dataset_dir=str(tmp_path / "none"), output_dir=str(out), **{**TINY, **entries})
    assert re.search(expected, message) and not out.exists()


def test_a_gpu_that_is_there_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = refusal(["train.yaml"], device="cuda:2", dataset_dir=str(tmp_path), output_dir=str(tmp_path))
    assert message == (
        "device: expected cuda:0 to cuda:1, or cpu, found cuda:2. Without the entry, what is there is taken."
    )
    message = refusal(["train.yaml"], device="cuda:1", dataset_dir=str(tmp_path), output_dir=str(tmp_path))
    assert not message.startswith("device")


@pytest.mark.parametrize(
    ("kinds", "keys", "missing"),
    [
        ({"labeled_unlabeled": 1.0}, ["moving_image", "moving_label"], None),
        ({"labeled_unlabeled": 1.0, "unlabeled_unlabeled": 0.0}, "moving_label", None),
        ({"labeled_unlabeled": 1.0, "unlabeled_unlabeled": 1.0}, ["moving_image", "moving_label"], "moving_label"),
        ({"any": 1.0}, "fixed_label", "fixed_label"),
        ({"labeled_labeled": 1.0}, ["moving_label", "fixed_label"], None),
        ({"labeled_labeled": 1.0}, ["style_image"], "style_image"),
    ],
)
def test_an_augmentation_works_on_what_every_pair_has(kinds, keys, missing):
    flip = {"_target_": "RandFlipd", "keys": keys}
    config = {"train": {"sampler": {"kinds": kinds}}, "augmentation": {"_target_": "Compose", "transforms": [flip]}}
    if missing is None:
        refuse_missing_keys(config)
    else:
        with pytest.raises(ValueError, match=f"RandFlipd works on `{missing}`.*allow_missing_keys: true"):
            refuse_missing_keys(config)
    flip["allow_missing_keys"] = True
    refuse_missing_keys(config)


def test_a_training_is_not_resumed_to_end_before_it_goes_on(tmp_path):
    state = tmp_path / "train_state.pt"
    check_resuming(state, resume=True, max_epochs=1)  # nothing there
    torch.save({"epoch": 5}, state)
    check_resuming(state, resume=True, max_epochs=5)
    with pytest.raises(ValueError, match=f"max_epochs: expected at least 5, .*'{tmp_path}' has had, found 4"):
        check_resuming(state, resume=True, max_epochs=4)
    with pytest.raises(FileExistsError, match="--resume true"):
        check_resuming(state, resume=False, max_epochs=9)


def test_fewer_epochs_are_refused_before_cases_are_looked_for(tmp_path):
    torch.save({"epoch": 5}, tmp_path / "train_state.pt")
    entries = {**TINY, "max_epochs": 2, "resume": True}
    message = refusal(["train.yaml"], dataset_dir=str(tmp_path / "none"), output_dir=str(tmp_path), **entries)
    assert message.startswith("max_epochs: expected at least 5")


@pytest.fixture
def place(tmp_path, write_volume) -> Path:
    """A working folder with a package `scripts` of its own, and files whose names are no words to Python or YAML."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("")
    write_volume(tmp_path / "a,1#2.nii.gz", np.zeros((4, 5, 6), np.float32))
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 0.0, 0.0)), str(tmp_path / "1e5.tfm"))
    return tmp_path


def test_names_numbers_and_paths_mean_on_the_command_line_what_they_mean_in_a_file(place):
    """... and this bundle's scripts are found where the working folder has some of its own."""
    (place / "mine.yaml").write_text("output_dir: 2024_01_15\nfill_value: 1e-4\ncombined: c.h5\n")
    options = {"transform": "1e5.tfm", "reference": "a,1#2.nii.gz", "image": "a,1#2.nii.gz", "combined": "null"}
    done = run_bundle("applying", ["configs/apply.yaml", place / "mine.yaml"], place=place, **options)
    assert done.returncode == 0, done.stdout
    assert len(list((place / "2024_01_15").glob("*.nii.gz"))) == 1 and not list(place.rglob("c.h5"))
    done = run_bundle("applying", ["configs/apply.yaml"], place=place, output_dir="1_0,2#3", **options)
    assert done.returncode == 0, done.stdout
    assert len(list((place / "1_0,2#3").glob("*.nii.gz"))) == 1


def test_a_command_ends_with_all_that_is_wrong_and_writes_nothing(place, tmp_path_factory):
    before, home = sorted(place.rglob("*")), tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(CONFIGS / "train.yaml")]
    for name, value in {"pixdim": "[1,0,1]", "spatial_size": "large", "batch_size": "0", "output_dir": "~/out"}.items():
        command += [f"--{name}", value]
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and sorted(place.rglob("*")) == before and not (home / "out").exists()
    title, *faults = done.stderr[done.stderr.rindex("ValueError: ") :].splitlines()
    assert sorted(fault.split(": expected ")[0].strip() for fault in faults) == ["batch_size", "pixdim", "spatial_size"]
