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

"""What each call comes to: the run, its config files in their order, and paths that hold wherever MONAI works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from bundle_runs import CONFIGS
from door_calls import inside
from fire.parser import DefaultParseValue


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with whatever a call can name; nothing in it is read."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("data", "more", "trained", "eval", "other", "app"):
        (folder / name).mkdir()
    for name in ("a.nii.gz", "b.nii.gz", "t.h5", "u.h5", "pairs.csv", "trained/model.pt"):
        (folder / name).touch()
    for name in ("scan", "scans/one"):
        (folder / name).mkdir(parents=True)
        (folder / name / "IM1").write_bytes(bytes(128) + b"DICM")
    (folder / "mine.yaml").write_text("seed: 7\n")
    (folder / "placed.yaml").write_text("output_dir: /somewhere\n")
    (folder / "trained" / "model.yaml").write_text("labels: {}\n")
    (folder / "trained" / "config.yaml").write_text("dataset_dir: data\noutput_dir: trained\n")
    return folder


def shown(call: str, place: Path) -> tuple[str, list[str], dict[str, object]]:
    """The run, the files (relative to the bundle's configs or to the place), and the entries as Fire reads them."""
    done = inside(*call.split(), "--show", place=place)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.split(" && ")[-1])  # behind a planning, where there is one
    assert words[:4] == ["python", "-m", "monai.bundle", "run"] and words[5] == "--config_file"
    entries = {name[2:]: DefaultParseValue(text) for name, text in zip(words[7::2], words[8::2], strict=True)}
    files = [Path(file) for file in DefaultParseValue(words[6])]
    roots = [CONFIGS if CONFIGS in file.parents else place for file in files]
    return words[4], [str(file.relative_to(root)) for file, root in zip(files, roots, strict=True)], entries


BEST = ["train.yaml", "data/hippocampus.yaml", "recipes/best.yaml"]
CALLS = {
    "check data": ("checking", ["train.yaml"]),
    "plan data --recipe best --memory 8": ("planning", ["train.yaml", "plan.yaml", "recipes/best.yaml"]),
    "train data --config mine.yaml --recipe best --config bf16": (
        "training",
        ["train.yaml", "mine.yaml", "recipes/best.yaml", "run/bf16.yaml"],
    ),
    "evaluate --model trained": ("evaluating", ["train.yaml", "trained/config.yaml", "evaluate.yaml"]),
    "evaluate data": ("evaluating", [*BEST, "evaluate.yaml"]),
    "evaluate data --recipe cps --ckpt_dir trained": (
        "evaluating",
        ["train.yaml", "recipes/cps.yaml", "evaluate.yaml"],
    ),
    "segment data": ("inferring", ["inference.yaml"]),
    "segment a.nii.gz --model trained": ("inferring", ["inference.yaml", "trained/model.yaml"]),
    "register a.nii.gz b.nii.gz --model trained": ("registering", ["register.yaml", "trained/model.yaml"]),
    "register a.nii.gz data": ("registering", ["register.yaml", "sequence.yaml"]),
    "register a.nii.gz scan": ("registering", ["register.yaml"]),
    "register scans scan": ("registering", ["register.yaml", "sequence.yaml"]),
    "register --moving a.nii.gz --moving b.nii.gz --fixed a.nii.gz": (
        "registering",
        ["register.yaml", "sequence.yaml"],
    ),
    "register pairs.csv": ("registering", ["register.yaml", "sequence.yaml"]),
    "apply t.h5 --image a.nii.gz --reference b.nii.gz": ("applying", ["apply.yaml"]),
    "report eval": ("reporting", ["report.yaml"]),
    "report eval other --out all": ("pooling", ["report.yaml"]),
    "prepare data --config prepare_mmwhs": ("preparing", ["prepare.yaml", "prepare_mmwhs.yaml"]),
    "prepare --pairs pairs.csv": ("preparing_pairs", ["prepare.yaml"]),
    "prepare --prepared_dir data --predictions more": ("restoring", ["prepare.yaml"]),
    "label app --config mine.yaml --name liver": ("labeling", ["train.yaml", "mine.yaml", "label.yaml"]),
}


PLANNED = {
    "train data --minutes 5": ["train.yaml", "plan.yaml"],
    "train data --recipe best --out results --learning_rate 0.01": ["train.yaml", "plan.yaml", "recipes/best.yaml"],
}


@pytest.mark.parametrize("call", PLANNED)
def test_a_training_that_nobody_has_sized_is_planned_first(call, place):
    first, last = inside(*call.split(), "--show", place=place).stdout.split(" && ")
    files = [str(CONFIGS / name) for name in PLANNED[call]]
    out = place / ("results" if "results" in call else "output/train")
    assert shlex.split(first)[4:7] == ["planning", "--config_file", str(files).replace(" ", "")]
    trained = [files[0], str(out / "plan.yaml"), *files[2:]]
    assert shlex.split(last)[4:7] == ["training", "--config_file", str(trained).replace(" ", "")]
    budget = ["--minutes", "5"] if "--minutes" in call else []
    assert shlex.split(first)[7:] == shlex.split(last)[7:] + budget  # what was typed wins over the plan


@pytest.mark.parametrize(
    "words",
    ["--config mine.yaml", "--pixdim 2,2,2", "--spatial_size 16,16,16", "--max_epochs 2", "--iterations_per_epoch 3"],
)
def test_a_training_that_somebody_has_sized_is_not_planned(words, place):
    assert "planning" not in inside("train", "data", *words.split(), "--show", place=place).stdout
    assert inside("train", "data", *words.split(), "--minutes", "5", place=place).returncode == 2


def test_a_training_goes_on_with_the_plan_that_it_began_with(place):
    folder = place / "begun"
    folder.mkdir()
    (folder / "train_state.pt").touch()
    assert shown("train data --out begun --resume", place)[1] == ["train.yaml"]
    (folder / "plan.yaml").touch()
    said = inside("train", "data", "--out", "begun", "--resume", "--show", place=place).stdout
    assert " && " not in said and str(folder / "plan.yaml") in said


@pytest.mark.parametrize("call", CALLS)
def test_a_call_becomes_a_run_of_these_files(call, place):
    assert shown(call, place)[:2] == CALLS[call]


def test_results_go_beneath_the_folder_one_stands_in_unless_it_is_said(place):
    assert shown("train data", place)[2]["output_dir"] == str(place / "output" / "train")
    assert shown("train data --out results", place)[2]["output_dir"] == str(place / "results")
    assert "output_dir" not in shown("train data --config placed.yaml", place)[2]
    evaluation = shown("evaluate --model trained", place)[2]  # not into the training, as its config says
    assert evaluation == {
        "output_dir": str(place / "output" / "evaluation"),
        "report": True,
        "ckpt_dir": str(place / "trained"),
    }
    assert shown("report eval", place)[2] == {"output_dir": str(place / "eval")}


def test_paths_are_made_absolute_and_the_home_is_found(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    entries = shown("register ~/a.nii.gz data/../b.nii.gz --moving_label a.nii.gz", place)[2]
    assert entries["moving"] == entries["moving_label"] == str(place / "a.nii.gz")
    assert entries["fixed"] == str(place / "b.nii.gz")
    assert entries["ckpt_dir"] == str(CONFIGS.parent / "models")


@pytest.mark.parametrize("command", ["check data", "train data", "evaluate data", "prepare data"])
def test_rules_for_the_names_of_images_and_labels_are_options(command, place):
    entries = shown(f"{command} --image_name *_T1w.nii.gz --label_name=*_dseg.nii.gz", place)[2]
    assert (entries["image_name"], entries["label_name"]) == ("*_T1w.nii.gz", "*_dseg.nii.gz")
    assert shown("segment data --image_name $*#1.nii", place)[2]["image_name"]["_target_"] == "scripts.files.from_json"


def test_several_transforms_and_images_are_lists_and_a_transform_may_be_inverted(place):
    entries = shown("apply t.h5 u.h5 --image a.nii.gz --image b.nii.gz --reference a.nii.gz", place)[2]
    assert entries["transform"] == [str(place / "t.h5"), str(place / "u.h5")]
    assert entries["image"] == [str(place / "a.nii.gz"), str(place / "b.nii.gz")]
    entries = shown("apply --transform=[{'inverse':'t.h5'},'u.h5'] --image a.nii.gz --inverse", place)[2]
    assert entries["transform"] == [{"inverse": str(place / "t.h5")}, str(place / "u.h5")]
    assert entries["inverse"] is True


def test_nothing_is_said_as_an_expression_since_monai_passes_over_none(place):
    assert shown("train data --datalist null --num_unlabeled None", place)[2]["datalist"] == "$None"


def test_tracking_of_monai_and_entries_that_a_file_refers_to_are_options(place):
    entries = shown("train data --tracking mlflow --experiment_name 12", place)[2]
    assert entries["tracking"] == "mlflow" and entries["experiment_name"] == 12
    (place / "refers.yaml").write_text("seed: '@my_seed'\n")
    assert shown("train data --config refers.yaml --my_seed 5", place)[2]["my_seed"] == 5
    assert inside("train", "data", "--my_seed", "5", place=place).returncode == 2
