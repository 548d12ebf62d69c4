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
"""An option that nothing reads is refused, and nothing that another entry, MONAI or a command reads."""

from __future__ import annotations

import pytest
import yaml
from bundle_runs import CONFIGS, TINY, run_bundle, workflow
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from scripts.files.errors import root_cause
from scripts.training.options import checked_tasks, is_true, unread_entries

FIRST = {"_target_": "scripts.training.refuse_unread"}
#: a config of a user: options, components that read them, and what the command runs
CONFIG = {
    "patience": 5,
    "sizes": {"low": 1, "high": 2},
    "names": ["a", "b"],
    "train": {"counter": {"_target_": "collections.Counter", "a": "@patience"}, "most": "$max(@sizes['high'], 3)"},
    "run": [FIRST, "$@train::counter", "$print(@names, @train::most)"],
    "my_run": ["@run"],
}


def run(config: dict) -> None:
    """The first line of ``run``, as MONAI evaluates it."""
    parser = ConfigParser(config)
    parser.parse()
    parser.get_parsed_content("run::0")


def refusal(**entries) -> str:
    parser = ConfigParser(yaml.safe_load(yaml.safe_dump(CONFIG)))
    parser.update(entries)
    with pytest.raises(RuntimeError) as stopped:
        run(parser.get())
    return str(stopped.value.__cause__)


def test_what_others_refer_to_is_read_and_so_is_what_a_command_runs():
    assert unread_entries(CONFIG) == {}
    run(CONFIG)


def test_a_path_with_a_number_sign_is_refused_since_monai_would_change_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "training", "--patience", "/data/scan #1", "--names=['x#y']"])
    assert "patience: MONAI makes `::` of `#` in its options, and would read '/data/scan #1' as '/data/scan ::1'" in (
        refusal(patience="/data/scan #1")
    )
    assert "names::0" in refusal(names=["x#y", "b"])
    run(CONFIG | {"patience": "left::right"})  # as it was typed


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("pacience", 7, "patience"),
        ("pacience", "$None", "patience"),  # as the documents have it typed for null
        ("nams", ["c"], "names"),
        ("train::patience", 7, "patience"),
        ("train#patience", 7, "patience"),
        ("trian", {"patience": 7}, "train"),
    ],
)
def test_a_value_that_nothing_reads_is_refused_with_the_nearest_entry(name, value, nearest):
    message = refusal(**{name: value})
    assert f"  {name.replace('#', '::')}: {value}. Did you mean `{nearest}`?\n" in message


def test_all_of_them_are_named_at_once_and_what_is_like_no_other_without_a_guess():
    message = refusal(pacience=7, xyz=1)
    assert "pacience: 7. Did you mean" in message and "  xyz: 1.\n" in message and "by `@`" in message


def test_an_entry_of_ones_own_is_accepted_with_what_refers_to_it():
    run(CONFIG | {"mine": 3, "train": CONFIG["train"] | {"least": "$min(@mine, 4)"}, "also_run": ["$@train::least"]})


def test_an_unread_component_is_told_in_a_warning_as_a_copy_of_it_may_be_read(caplog):
    counter = {"_target_": "collections.Counter", "b": 2}
    run(CONFIG | {"pacience": counter, "copy_run": [{"_target_": "dict", "counts": "%pacience"}]})
    assert "nothing in the config refers to `pacience`. Did you mean `patience`?" in caplog.text


def test_what_model_yaml_and_monai_add_is_accepted_with_every_command():
    settings = {key: value for key, value in DEFAULT_MLFLOW_SETTINGS["configs"].items() if not isinstance(value, dict)}
    run(CONFIG | settings | {"num_labeled": 4, "fold": 1, "tasks": ["registration"], "pretrained": None})


@pytest.mark.parametrize("config", sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")))
def test_every_command_looks_for_them_before_anything_else(config):
    entries = ConfigParser.load_config_file(CONFIGS / config)
    commands = {
        name: lines
        for name, lines in entries.items()
        if isinstance(lines, list) and any("run(" in str(line) or "write()" in str(line) for line in lines)
    }
    overlays = ("prepare_mmwhs.yaml", "multi_gpu_train.yaml")
    assert commands or config in overlays or "/" in config
    for lines in commands.values():
        assert lines[:2] == [{"_target_": "scripts.files.show_cause_last"}, FIRST]


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("intensity", "windw", " Did you mean `window`?"),
        ("crop", "foregrund", " Did you mean `foreground`?"),
        ("view", "radiologic", " Did you mean `radiological`?"),
    ],
)
def test_a_word_that_switches_nothing_on_is_refused_with_the_nearest(name, value, nearest):
    assert f"{name}: expected one of " in refusal(**{name: value})
    assert refusal(**{name: value}).endswith(f"found '{value}'.{nearest}")
    refusal(**{name: 3})
    run(CONFIG | {"intensity": "window", "crop": "$'center'"})


@pytest.mark.parametrize(
    ("run_id", "configs", "commands"),
    [
        ("train", ["train.yaml"], "checking, run, training"),
        ("validate", ["train.yaml", "multi_gpu_train.yaml"], "checking, run, training"),
        ("train::trainer", ["train.yaml"], "checking, run, training"),
        ("evaluation", ["train.yaml", "evaluate.yaml"], "checking, evaluating, run, training"),
        ("app_dir", ["train.yaml", "label.yaml"], "checking, labeling, run, training"),
        ("register", ["register.yaml"], "registering, run"),
        ("sequence", ["register.yaml", "sequence.yaml"], "registering, run"),
        ("apply", ["apply.yaml"], "applying, run"),
        ("prepare", ["prepare.yaml"], "preparing, preparing_pairs, restoring, run"),
        ("restore", ["prepare.yaml"], "preparing, preparing_pairs, restoring, run"),
        ("report", ["report.yaml"], "pooling, reporting, run"),
    ],
)
def test_an_entry_that_is_no_command_fails_and_the_commands_are_named(run_id, configs, commands, phantoms, tmp_path):
    entries = TINY if "train.yaml" in configs else {}
    if "evaluate.yaml" in configs:
        entries = TINY | {"evaluation::networks": {}}  # without weights
    entries = entries | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "run_id": run_id}
    with pytest.raises(RuntimeError) as stopped, workflow(configs, **entries) as wrong:
        wrong.run()
    assert str(root_cause(stopped.value)) == (
        f"`{run_id}` is no command of these config files, and nothing was done. "
        f"What `monai.bundle run` takes here: {commands}."
    )
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".csv", ".gz", ".json")]


def test_the_command_refuses_a_component_as_its_last_line():
    done = run_bundle("register", ["configs/register.yaml"], moving="a.nii.gz", fixed="b.nii.gz")
    assert done.returncode != 0 and done.stdout.splitlines()[-1].endswith("takes here: registering, run.")


def test_a_command_of_a_users_own_is_run(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("mine:\n- '$print(1 + 1)'\nshorter: $1 + 1\n")
    for run_id in ("mine", "shorter"):  # and neither fails when it is over
        with workflow(["register.yaml", overlay], run_id=run_id) as own:
            own.run()


def test_true_and_false_are_values_or_words_in_any_case_and_nothing_else():
    assert all(is_true(value, "resume") for value in (True, 1, "1", "true", "True", "YES"))
    assert not any(is_true(value, "resume") for value in (False, 0, "0", "false", "FALSE", "No"))
    for wrong in ("ja", "", 2, None):
        with pytest.raises(ValueError, match="resume: expected true or false.*found"):
            is_true(wrong, "resume")


@pytest.mark.parametrize(
    ("files", "entry", "missing"),
    [
        (["train.yaml"], "updates::registration::terms::similarty::weight", "similarty"),
        ([], "updates::registration::terms::similarity::weight", "updates"),  # an overlay before train.yaml
    ],
)
def test_a_wrong_name_above_the_last_ends_as_the_documents_say_before_anything_of_the_bundle_runs(
    files, entry, missing
):
    parser = ConfigParser()
    for file in files:
        parser.read_config(str(CONFIGS / file))
    with pytest.raises(KeyError) as stopped:
        parser.update({entry: 2})
    assert str(stopped.value) == f"'query key: {missing}'"
    assert str(stopped.value) in (CONFIGS.parent / "docs" / "configs.md").read_text()
    if files:
        assert "did you mean 'similarity'?" in str(stopped.value.__cause__)


def test_a_task_that_there_is_not_is_refused():
    assert checked_tasks("segmentation") == ("segmentation",)
    for wrong in ("registrations", ["segmentation", "detection"], []):
        with pytest.raises(ValueError, match=r"expected one of \['segmentation', 'registration'\] or both, found"):
            checked_tasks(wrong)


def test_the_command_refuses_before_it_looks_for_data(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("num_labelled: 2\n")
    done = run_bundle("training", ["configs/train.yaml", overlay], dataset_dir=tmp_path / "no", max_epoch=3)
    assert done.returncode != 0
    end = done.stdout[done.stdout.rindex("ValueError: ") :]
    assert "num_labelled: 2. Did you mean `num_labeled`?" in end and "max_epoch: 3. Did you mean `max_epochs`?" in end
