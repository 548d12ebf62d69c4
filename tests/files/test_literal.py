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
"""Text from data goes through a config unharmed, whatever is in it, and is never run."""

from __future__ import annotations

import json

import pytest
import yaml
from monai.bundle import ConfigParser

from scripts.files.literal import from_json, is_literal, literal
from scripts.training.record import to_yaml

NAMES = [
    "liver", "$HOME lesion", "@apex", "50%", "%CT", "lesion #1", "left::right", ":::", "$import os", "a@::b", "%::z",
    "$", "1e5", "null", "yes", " é\u2028\n'\"\\{", "no unicode \udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_text_comes_back_from_a_config_as_it_was(name):
    for value in (name, [name], {"1": name, "2": "liver"}):
        written = to_yaml({"value": literal(value), "by_reference": "@value", "by_expression": "$@value"})
        config = ConfigParser(yaml.safe_load(written.encode("utf-8")))  # of a file, which surrogates cannot be in
        for key in ("value", "by_reference", "by_expression"):
            assert config.get_parsed_content(key) == value


def test_an_expression_is_not_run(tmp_path):
    touched = tmp_path / "touched"
    name = f"$open({str(touched)!r}, 'w').close()"
    ConfigParser({"value": name}).get_parsed_content("value")
    assert touched.exists()  # MONAI runs it where nothing stops it
    touched.unlink()
    assert ConfigParser({"value": literal(name)}).get_parsed_content("value") == name
    assert ConfigParser({"value": literal({name: 1})}).get_parsed_content("value") == {name: 1}
    assert not touched.exists()


def test_what_monai_leaves_alone_stays_readable():
    for value in ("/data/a b.nii.gz", {"1": "Anterior", "2": "Posterior: tail"}, [1.5, None, True], 3):
        assert literal(value) is value


def test_keys_that_mean_something_to_monai_are_data_too():
    for value in ({"_target_": "os.getcwd"}, {"+more": 1}, {"a#b": 1}, {"_disabled_": True}):
        assert ConfigParser({"value": literal(value)}).get_parsed_content("value") == value


def test_a_literal_is_told_from_other_components():
    assert is_literal(literal("$a")) and from_json(literal("$a")["text"]) == "$a"
    for other in ("$a", {"_target_": "os.getcwd", "text": "a"}, {**literal("$a"), "_disabled_": True}):
        assert not is_literal(other)
    assert not is_literal({"_target_": literal("$a")["_target_"], "text": "$a"})
    assert json.loads(json.dumps(literal("$a"))) == literal("$a")
