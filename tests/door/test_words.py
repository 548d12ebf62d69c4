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

"""Values of a command line: read as what they are, and written so that Fire reads the same."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from bundle_runs import CONFIGS
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from deeprs.configs import FOLDERS, find_config, get, load, merge, names
from deeprs.fire_words import monai_command, quoted
from deeprs.parse import parse, read_value


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("100", 50, 100),
        ("1e-4", 0.001, 1e-4),
        ("-1024", 0.0, -1024),
        ("[1, 1.5, 2]", None, [1, 1.5, 2]),
        ("1,1,2", None, [1, 1, 2]),
        ("segmentation,registration", ["segmentation"], ["segmentation", "registration"]),
        ("[segmentation, registration]", None, ["segmentation", "registration"]),
        ("{1: liver, 2: spleen}", None, {1: "liver", 2: "spleen"}),
        ('{"1": "liver"}', None, {"1": "liver"}),
        ("true", False, True),
        ("False", None, False),
        ("null", 4, None),
        ("None", None, None),
        ("window", "percentiles", "window"),
        ("2024", "DeepRS evaluation", "2024"),  # in the place of a text
        ("007", None, "007"),
        ("$@seed + 1", 0, "$@seed + 1"),
        ("@seed", 0, "@seed"),
        ("a,b", "text", "a,b"),
        ("[half", None, "[half"),
        ("", None, ""),
    ],
)
def test_a_text_is_read_as_what_it_stands_for(text, default, value):
    found = read_value(text, default)
    assert found == value and type(found) is type(value)


AWKWARD = [
    *(0, -3, 1e-4, True, [1, 2.5], ["a", "b"], {"1": "liver"}, {1: ["a", None]}, "plain", "2024", "1e3", "True", "a,b"),
    *(
        "[1]",
        "{a: b}",
        "None",
        "$None",
        "-1",
        "--x",
        "it's",
        'a "quoted" word',
        "two words",
        "#1",
        "$HOME",
        "back\\slash",
    ),
    *("/a/b c.nii.gz", "", "-", "ü", "`x`", "new\nline", "!x", "(1, 2)", "'quoted'"),
]


@pytest.mark.parametrize("value", AWKWARD, ids=repr)
def test_fire_reads_what_was_written_for_it(value):
    words = monai_command("training", [Path("a.yaml")], {"entry": value})
    assert shlex.split(quoted(words)) == words
    last = words[-1]
    text = last.partition("=")[2] if last.startswith("--entry=") else last
    assert last.startswith("--entry=") or words[-2] == "--entry"
    read = DefaultParseValue(text)
    assert read == value and type(read) is type(value)


def test_config_files_with_odd_names_come_through_shell_and_fire():
    files = [Path("/a b/it's.yaml"), Path("/c,d/$e.yaml")]
    words = shlex.split(quoted(monai_command("training", files, {})))
    assert DefaultParseValue(words[-1]) == [str(file) for file in files]


def test_words_options_files_and_switches_are_sorted():
    call = parse(
        [
            "data",
            "--config",
            "a",
            "--recipe",
            "b",
            "--config",
            "c",
            "--resume",
            "x",
            "--amp",
            "false",
            "--seed=3",
            "--out",
            "o",
            "--max-epochs",
            "2",
        ]
    )
    assert call.words == ["data", "x"]
    assert call.files == [("config", "a"), ("recipe", "b"), ("config", "c")]
    texts = {"resume": [None], "amp": ["false"], "seed": ["3"], "output_dir": ["o"], "max_epochs": ["2"]}
    assert call.options == texts


@pytest.mark.parametrize("name", names(FOLDERS[:-1]))
def test_every_overlay_of_the_bundle_is_found_by_name_and_merged_as_monai_does(name):
    file = find_config(name)
    files = [CONFIGS / "train.yaml", *([CONFIGS / "recipes" / "brbs.yaml"] if name.startswith("brbs_") else []), file]
    assert file.stem == name
    assert merge(files) == ConfigParser.load_config_files([str(each) for each in files])


def test_a_file_of_ones_own_comes_before_one_of_the_bundle_where_its_suffix_is_typed(tmp_path, monkeypatch):
    (tmp_path / "best.yaml").write_text("seed: 1\n")
    (tmp_path / "mine.json").write_text('{"seed": 2}')
    monkeypatch.chdir(tmp_path)
    assert find_config("best.yaml") == tmp_path / "best.yaml"
    assert find_config("best") == CONFIGS / "recipes" / "best.yaml"
    assert find_config("run/bf16.yaml") == find_config("bf16") == CONFIGS / "run" / "bf16.yaml"
    assert load(find_config("mine.json")) == {"seed": 2}


def test_entries_are_merged_added_and_found_at_all_levels(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("a: {b: [1, {c: 2}]}\nlist: [1]\n")
    second.write_text("a::b::1::c: 3\n+list: [2]\n+a: {d: 4}\n")
    merged = merge([first, second])
    assert merged == {"a": {"b": [1, {"c": 3}], "d": 4}, "list": [1, 2]}
    assert get(merged, "a::b::1::c") == 3 and get(merged, "a::x::y") is None
    assert merged == ConfigParser.load_config_files([str(first), str(second)])
