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
"""model.json: what a model is, without a program. A folder of somebody else's is read by it, and nothing is run."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from bundle_runs import CONFIGS, tiny
from declared_model import MODEL, UNET
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.files.literal import literal
from scripts.joint.state import PairState
from scripts.training.declared import arithmetic, declared
from scripts.training.model_record import read_model, write_model
from scripts.training.model_schema import FIELDS, FORMAT, check_model

RECIPES = sorted(str(path.relative_to(CONFIGS)) for path in (CONFIGS / "recipes").glob("*.yaml"))
ABLATIONS = sorted(str(path.relative_to(CONFIGS)) for path in (CONFIGS / "ablations").glob("*.yaml"))


def changed(where: str, value: object) -> dict:
    """``MODEL`` with another value at an id such as ``network_def::norm``."""
    model = copy.deepcopy(MODEL)
    *path, last = where.split("::")
    entry = model
    for key in path:
        entry = entry[key]
    entry[last] = value
    return model


def write_record(folder: Path, model: dict) -> None:
    (folder / "model.json").write_text(json.dumps({"format": FORMAT, **model}))


def write_program(folder: Path, model: dict, **entries: object) -> None:
    (folder / "model.yaml").write_text(yaml.safe_dump(model | entries))


def record_of(configs: list[str], data: Path, out: Path) -> None:
    """What a training with these configs writes when it starts, without the training."""
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / config) for config in configs]))
    parser.update(tiny(configs) | {"dataset_dir": str(data), "output_dir": str(out)})
    handlers = parser["train"]["handlers"]
    (number,) = [n for n, entry in enumerate(handlers) if entry["_target_"] == "scripts.training.RecordConfig"]
    handlers[number]["data_check"] = None
    engine = Engine(lambda *_: None)
    parser.get_parsed_content(f"train::handlers::{number}").attach(engine)
    engine.run([0])


@pytest.mark.parametrize("recipe", ["", *RECIPES, *ABLATIONS])
def test_every_recipe_can_be_declared_and_its_model_yaml_of_0_6_says_the_same(recipe, phantoms, tmp_path):
    brbs = ["recipes/brbs.yaml"] if recipe.startswith("ablations/brbs") else []
    record_of(["train.yaml", *brbs, *([recipe] if recipe else [])], phantoms, tmp_path)
    model = read_model(tmp_path)
    assert "$" not in json.dumps(model) and "@" not in json.dumps(model)
    assert model["ckpt_dir"] == str(tmp_path) and model["num_classes"] == 8
    (tmp_path / "model.json").unlink()
    assert read_model(tmp_path) == model


def test_a_record_makes_the_parts_that_it_declares(tmp_path):
    write_record(tmp_path, MODEL)
    model = read_model(tmp_path)
    assert model == MODEL | {"ckpt_dir": str(tmp_path)}
    parser = ConfigParser(model)
    assert parser.get_parsed_content("network_def")(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
    assert parser.get_parsed_content("state").func is PairState
    assert parser.get_parsed_content("refinement_terms")["similarity"].weight == 1.0


def test_names_of_structures_may_have_any_character_and_are_data(tmp_path):
    names = {"1": "$import antigravity", "2": "%CT"}
    write_record(tmp_path, MODEL | {"labels": names})
    assert ConfigParser(read_model(tmp_path)).get_parsed_content("labels") == names
    write_record(tmp_path, MODEL | {"labels": literal(names)})  # as training writes them
    assert ConfigParser(read_model(tmp_path)).get_parsed_content("labels") == names
    (tmp_path / "model.json").unlink()
    write_program(tmp_path, MODEL | {"labels": names})
    assert ConfigParser(read_model(tmp_path)).get_parsed_content("labels") == names


#: an id, and a value that no record may have there
REFUSED = [
    ("network_def::_target_", "os.system"),
    ("network_def::_target_", "builtins.eval"),
    ("network_def::_target_", "torch.load"),
    ("network_def::_target_", "torch.hub.load"),
    ("network_def::_target_", "monai.networks.nets.FlexibleUNet"),  # it would download weights
    ("network_def::_target_", "scripts.networks.load_all"),  # a function
    ("network_def::_target_", "scripts.networks.weights.torch.load"),
    ("network_def::_target_", "scripts.training.SaveWeights"),  # not of a room that only computes
    ("network_def::_target_", "scripts.files.from_json"),
    ("network_def::_target_", "scripts.joint.PairState"),  # no network
    ("network_def::_target_", "$torch.nn.Identity"),
    ("network_def::_target_", ["os.system"]),
    ("network_def::_mode_", "debug"),
    ("network_def::_mode_", "callable"),
    ("network_def::_requires_", "$open('touched', 'w')"),
    ("network_def::_disabled_", "$open('touched', 'w')"),
    ("network_def::norm", "$open('touched', 'w')"),
    ("network_def::norm", "@labels"),
    ("network_def::norm", "%/etc/x.json"),
    ("network_def::norm", {"_target_": "subprocess.run", "args": ["true"]}),
    ("network_def::norm", {"$open('touched', 'w')": 1}),
    ("network_def::channels", ["$open('touched', 'w')"]),
    ("network_def", "$open('touched', 'w')"),
    ("network_def", None),
    ("inferer::_target_", "UNet"),
    ("inferer", {"_target_": "pathlib.Path.touch"}),
    ("state::_target_", "scripts.joint.JointTrainer"),
    ("state::_mode_", "debug"),
    ("refinement_terms::similarity::loss::_target_", "shutil.rmtree"),
    ("refinement_terms::similarity::quantities", ["@labels"]),
    ("refinement_terms::similarity", {"_target_": "UNet"}),
    ("refinement_terms::$import os", MODEL["refinement_terms"]["similarity"]),
    ("labels", "$open('touched', 'w')"),
    ("labels", {"_target_": "os.getcwd"}),
    ("labels", {"1": {"_target_": "os.getcwd"}, "2": "b"}),
    ("labels", {"1": "one"}),
    ("labels", {"0": "background", "1": "one"}),
    ("num_classes", "$3"),
    ("num_classes", True),
    ("spatial_size", "$[16, 16, 16]"),
    ("spatial_size", [16, 16]),
    ("spatial_size", [16, 16, 16.5]),
    ("spatial_size", [16, 16, -16]),
    ("pixdim", "@labels"),
    ("pixdim", [1, 0, 1]),
    ("intensity_range", ["$1", 2]),
    ("intensity", "percentils"),
    ("crop", "$'center'"),
    ("orientation", "RAR"),
    ("orientation", "$open"),
    ("tasks", ["$open"]),
    ("seed", "$1"),
    ("seed", 10**400),
    ("network_def::dropout", -(10**400)),
    ("imports", ["$import os"]),
    ("initialize", ["$import os"]),
    ("ckpt_dir", "$open('touched', 'w')"),
]


@pytest.mark.parametrize(("where", "value"), REFUSED)
def test_what_could_be_run_or_read_or_is_no_value_is_refused_by_its_name(where, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path, changed(where, value))
    with pytest.raises(ValueError) as refused:
        read_model(tmp_path)
    assert str(tmp_path / "model.json") in str(refused.value) and where.split("::")[0] in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(
    ("where", "value"), [row for row in REFUSED if row[0] not in ("imports", "initialize", "ckpt_dir")]
)
def test_the_same_is_refused_of_a_model_yaml_unless_it_comes_to_a_value(where, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_program(tmp_path, changed(where, value))
    try:
        model = read_model(tmp_path)
    except ValueError as refused:
        assert "give the file by name" in str(refused)
    else:  # arithmetic, and what is written in full elsewhere
        assert "$" not in json.dumps(model) and "@" not in json.dumps(model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.yaml"]


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("labels",)])
def test_a_field_that_is_missing_is_no_default_of_another_model(name, tmp_path):
    optional = ("num_labeled", "num_unlabeled", "fold", "seed", "tasks", "discriminator_def", "refinement_steps")
    write_record(tmp_path, {key: value for key, value in MODEL.items() if key != name})
    if name in optional:
        assert name not in read_model(tmp_path)
        return
    with pytest.raises(ValueError, match=f"lacks {name}"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[1]", "found a list"),
        ('{"format": "DeepRS model 1", "seed": NaN}', "NaN is no number"),
        ('{"format": "DeepRS model 2"}', "expected `format` to be 'DeepRS model 1'"),
        ('{"format": "DeepRS model 1", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read"),
        ('{"format": "' + "x" * 2**21 + '"}', "more than any record"),
        ("\udcff".encode("utf-8", "surrogateescape"), "cannot be read"),
    ],
    ids=["empty", "list", "NaN", "another format", "deep", "long", "no text"],
)
def test_a_damaged_record_is_refused_and_model_yaml_is_no_way_around_it(content, message, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    write_program(tmp_path, MODEL)
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path)


def test_a_folder_without_a_model_and_a_file_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither model.json nor model.yaml"):
        read_model(tmp_path)
    write_program(tmp_path, MODEL)
    with pytest.raises(ValueError, match="is a file, expected the folder of a model"):
        read_model(tmp_path / "model.yaml")


def test_a_model_yaml_of_0_6_is_taken_where_it_declares(tmp_path):
    write_program(
        tmp_path,
        changed("network_def::out_channels", "@num_classes"),
        total_iterations="$@max_epochs * @iterations_per_epoch",
        max_epochs=2,
        iterations_per_epoch=10,
        sampling={"_target_": "scripts.sampling.UniformScale", "low": 0.0},
        state={
            "_target_": "scripts.state.PairState",
            "_mode_": "callable",
            "num_classes": "@num_classes",
            "sampling": "@sampling",
        },
        refinement_terms={
            "similarity": MODEL["refinement_terms"]["similarity"] | {"ramp": "$int(0.25 * @total_iterations)"},
            "adversarial": {"_target_": "scripts.engine.Term", "_disabled_": True},
        },
        ckpt_dir="$open('touched', 'w')",
    )
    model = read_model(tmp_path)
    assert model["network_def"] == UNET and model["ckpt_dir"] == str(tmp_path)
    assert model["state"]["sampling"] == {"_target_": "scripts.joint.UniformScale", "low": 0.0}
    assert model["state"]["_target_"] == "scripts.joint.PairState"
    assert model["refinement_terms"].keys() == {"similarity"} and model["refinement_terms"]["similarity"]["ramp"] == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$2 * (@n - 1)", 4),
        ("$[32] * (len(@network::channels) + 1)", [32, 32, 32]),
        ("$int(0.2 * @n) + -1", -1),
        ("$@network::channels::0 // 3 % 2 / 1", 1.0),
        ("$@n", 3),
    ],
)
def test_arithmetic_is_computed(text, value):
    config = {"n": 3, "network": {"channels": [4, 8]}}
    assert arithmetic(config)("here", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "$open('touched', 'w')", "$().__class__", "$import os", "$@n.real", "$[x for x in (1,)]", "$9 ** 9", "$'a' * 3",
        "$[1] * 10000000", "$10000000 * 10000000", "$1 / 0", "$len(@n)", "$int('3')", "$@n if 1 else 2", "$lambda: 1",
        "$", "$reference0", "$[[1]]", "$@missing", "$@loop", "$" + "-" * 5000 + "1", "$int(1e400)",
    ],
)  # fmt: skip
def test_more_than_arithmetic_is_refused(text):
    config = {"n": 3, "loop": "$@loop + 1"}
    with pytest.raises(ValueError):
        declared(text, config, arithmetic(config))


def test_references_that_multiply_are_refused_at_once(tmp_path):
    for first, second, last in (("$@b + @b", "$@{} + @{}", 1), (["@b"] * 9, None, [1] * 9)):
        config = {"a": first, "z": last}
        for one, other in zip("bcdefghijklmnopqrstuvwxy", "cdefghijklmnopqrstuvwxyz", strict=True):
            config[one] = second.format(other, other) if second else [f"@{other}"] * 9
        with pytest.raises(ValueError):
            declared("@a", config, arithmetic(config))
    (tmp_path / "model.yaml").write_text(
        "a: &a [x]\n" + "".join(f"{n}: &{n} [{m}]\n" for m, n in aliases()) + "tasks: *z\n"
    )
    with pytest.raises(ValueError, match="more than 100000 parts"):
        read_model(tmp_path)


def aliases():
    """Pairs for a YAML in which each line is nine times the one before."""
    return [(", ".join(["*" + one] * 9), other) for one, other in itertools.pairwise("abcdefghijklmnopqrstuvwxyz")]


def test_references_in_a_circle_are_refused(tmp_path):
    write_program(tmp_path, changed("network_def", "@registration_def") | {"registration_def": "@network_def"})
    with pytest.raises(ValueError, match="circle"):
        read_model(tmp_path)


def test_a_model_that_cannot_be_declared_is_told_and_an_older_record_goes(tmp_path, caplog):
    write_record(tmp_path, MODEL)
    write_model(tmp_path, changed("network_def::_target_", "mine.Network"), None, None)
    assert "no model.json is written" in caplog.text and "'mine.Network' in the model of a folder" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_value_of_the_running_config_is_written_and_its_expression_is_not(tmp_path):
    parser = ConfigParser({"network_def": UNET | {"norm": "$'INSTANCE'.lower()"}, "seed": "$sum([1, 2])"})
    write_model(tmp_path, MODEL | parser.get(), [1.0, 1.0, 1.0], parser)
    model = read_model(tmp_path)
    assert (model["network_def"]["norm"], model["seed"]) == ("instance", 3)


def test_a_near_miss_is_named():
    with pytest.raises(ValueError, match=r"Did you mean scripts\.networks\.VoxelMorph2\?"):
        check_model(changed("registration_def::_target_", "scripts.networks.VoxelMorf2"), Path("model.json"))
