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

"""``--help``: on a screen, at once, and from the config files."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import yaml
from bundle_runs import CONFIGS
from door_calls import answers, deeprs, environment

from deeprs.commands import COMMANDS
from deeprs.configs import names

NAMES = [*COMMANDS, "demo"]


@pytest.fixture(scope="module")
def helps() -> tuple[dict[str, str], list[str]]:
    replies, imported = answers([["--help"], *([name, "--help"] for name in NAMES), ["recipes"], ["--version"]])
    assert [reply[0] for reply in replies] == [0] * len(replies)
    return dict(zip(["", *NAMES, "recipes", "version"], (reply[1] for reply in replies), strict=True)), imported


def test_every_help_fits_on_a_screen_of_40_lines_and_100_columns(helps):
    for name in ["", *NAMES]:
        lines = helps[0][name].splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 100, name


def test_help_and_recipes_import_neither_pytorch_nor_monai(helps):
    assert helps[1] == []


def test_help_comes_within_a_second():
    seconds = []
    for _ in range(5):  # the fastest: others use this machine, too
        began = time.perf_counter()
        deeprs("train", "--help")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.0


def test_a_help_names_every_common_option_with_its_default_in_the_config(helps):
    config = yaml.safe_load((CONFIGS / "train.yaml").read_text())
    lines = {line.split()[0]: line for line in helps[0]["train"].splitlines() if line.startswith("  --")}
    for name in COMMANDS["train"].common:
        default = config[name]
        shown = {None: "[null]", False: "[false]"}.get(default) if not isinstance(default, (str, int, list)) else None
        shown = shown or ("[false]" if default is False else str(default).replace("'", ""))
        assert shown in lines[f"--{name}"], name
    whole = " ".join(helps[0]["train"].split())
    assert "keeps each volume's own (mm)" in whole and "centre crop and pad to this (voxels)" in whole


def test_every_common_option_and_path_is_an_entry_of_its_config_files():
    for name, command in COMMANDS.items():
        entries = {key for file in command.base for key in yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())}
        assert set(command.common) <= entries, name
        assert set(command.paths) - entries <= {"pretrained"}, name  # of recipes/pc_reg_rt.yaml
        assert {word.rstrip("*") for word in command.words} <= entries, name


def test_the_front_page_names_every_command(helps):
    rows = [line.split()[0] for line in helps[0][""].splitlines() if line.startswith("  ") and line[2] != " "]
    assert set(rows) == {*COMMANDS, "recipes", "demo", "deeprs"}


def test_recipes_are_listed_with_a_sentence_from_each_file(helps):
    listed = helps[0]["recipes"]
    for name in names(["recipes"]):
        row = next(line for line in listed.splitlines() if line.startswith(f"  {name} "))
        first = (CONFIGS / "recipes" / f"{name}.yaml").read_text().split()[1]
        assert row.split()[1] == first
    assert "VoxelMorph-2: the registration network alone" in listed


def test_a_reader_that_has_seen_enough_is_no_error():
    line = f"{sys.executable} -m deeprs recipes | head -1"
    done = subprocess.run(line, shell=True, env=environment(), text=True, capture_output=True, check=True)
    assert done.stdout.startswith("Methods") and done.stderr == ""
