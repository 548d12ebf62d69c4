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
"""The benchmark of methods: what is run and what is skipped, and what the table, the intervals and the figures say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import ROOT

from benchmarks.documents import refresh as documents
from benchmarks.runs import compare, plans
from benchmarks.runs.plans import Plan
from benchmarks.runs.records import NAMES, dice_table, read_records, run_all, write_record
from scripts.data.pairs import read_pairs
from scripts.files.datalist import case_name
from scripts.phantom.volumes import make_phantoms

PLAN = Plan("hippocampus", "deeprs", augmented=True, num_labeled=4, seed=0, extra=("bf16",))


def test_the_number_of_labels_is_in_the_name_unless_it_is_four():
    assert PLAN.name == "deeprs_aug_s0"
    assert replace(PLAN, num_labeled=1, augmented=False, seed=2).name == "deeprs_noaug_n1_s2"


@pytest.mark.parametrize("method", ["deeprs", "unet_aug"])
@pytest.mark.parametrize("augmented", [True, False])
@pytest.mark.parametrize("labels", [4, 10])
def test_what_a_run_is_can_be_read_from_its_name(method, augmented, labels):
    assert plans.parse_name(Plan("phantom", method, augmented, labels, seed=12).name) == (method, augmented, labels)


def test_what_is_no_name_of_a_run_is_refused_with_one_that_is():
    with pytest.raises(ValueError, match="'my_folder': expected the name of a run, such as deeprs_aug_s0"):
        plans.parse_name("my_folder")


@pytest.mark.parametrize(
    ("method", "files"),
    [
        ("deeprs", []),
        ("unet", ["recipes/unet.yaml"]),
        ("deeprs_rs", ["ablations/deeprs_rs.yaml"]),
        ("brbs_sec", ["recipes/brbs.yaml", "ablations/brbs_sec.yaml"]),
    ],
)
def test_a_method_is_a_recipe_or_an_ablation(method, files):
    configs = replace(PLAN, method=method).settings["configs"]
    assert configs == ["train.yaml", "data/hippocampus.yaml", *files, "run/bf16.yaml"]


def test_a_method_of_two_runs_starts_from_the_first_of_the_same_seed():
    plan = replace(PLAN, method="pc_reg_rt", seed=1, num_labeled=7)
    assert plan.first_run.name == "pc_reg_aug_n7_s1"
    assert compare._overrides(plan, Path("data"))["pretrained"] == plan.first_run.work
    assert PLAN.first_run is None


def test_a_result_of_other_settings_is_not_taken_for_done(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "RESULTS", tmp_path)
    write_record(PLAN.result, replace(PLAN, arguments=(("max_epochs", 2),)).settings)
    with pytest.raises(ValueError, match="max_epochs"):
        compare.measure(PLAN, tmp_path)


@pytest.mark.parametrize("dataset", ["hippocampus", "mouse_brain", "phantom"])
def test_the_results_in_the_repository_are_those_of_their_plans(dataset):
    for entry in read_records(dataset):
        if entry["method"].endswith(f"_{compare.VOTED}"):  # the weights of another record, asked in another way
            keys = ("augmented", "num_labeled", "seed", "configs", "arguments", "commit", "train_seconds")
            named = entry["method"].removesuffix(f"_{compare.VOTED}")
            (own,) = (r for r in read_records(dataset) if r["method"] == named and r["seed"] == entry["seed"])
            assert {key: own[key] for key in keys} == {key: entry[key] for key in keys}
        elif entry["augmented"] is not None:
            keys = ("method", "augmented", "num_labeled", "seed")
            extra = [Path(name).stem for name in entry["configs"] if name.startswith("run/") and "no_aug" not in name]
            further = {"extra": tuple(extra), "arguments": tuple(entry["arguments"].items())}
            plan = replace(PLAN, dataset=dataset, **{key: entry[key] for key in keys}, **further)
            assert plan.result.is_file()
            compare._refuse_other_settings(plan.result, plan)
            compare._refuse_wrong_augmentation(plan)


def test_the_split_that_comes_with_the_results_is_the_one_they_were_measured_on():
    folder = ROOT / "benchmarks" / "splits" / "hippocampus"
    test = [case_name(entry["image"]) for entry in json.loads((folder / "datalist.json").read_text())["test"]]
    pairs = [
        tuple(pair[role]["case"] for role in ("moving", "fixed")) for pair in read_pairs(folder / "test_pairs.json")
    ]
    assert len(test) == len(pairs) == 40
    for entry in read_records("hippocampus"):
        for task, names in (("segmentation", [(name,) for name in test]), ("registration", pairs)):
            if (cases := entry["cases"].get(task)) is not None:
                assert list(zip(*(cases[key] for key in NAMES[task]), strict=True)) == names, entry["method"]


@pytest.mark.parametrize("listed", [True, False])
def test_every_seed_is_scored_on_the_same_pairs(tmp_path, monkeypatch, listed):
    runs = []
    monkeypatch.setattr(compare, "_bundle", lambda run_id, configs, log, **overrides: runs.append(overrides) or 1.0)
    monkeypatch.setattr(plans, "OUTPUT", tmp_path / "output")
    if listed:
        (tmp_path / "test_pairs.json").write_text("{}")
    for seed in (0, 3):
        plan = replace(PLAN, seed=seed)
        compare.train(plan, tmp_path)
        compare.evaluate(plan, tmp_path)
    assert [run["seed"] for run in runs[::2]] == [0, 3]  # of the trainings
    scored = [(run.get("test_pairs"), run["seed"] if not listed else None) for run in runs[1::2]]
    assert scored == [(tmp_path / "test_pairs.json", None) if listed else (None, 0)] * 2


def test_a_resumed_run_names_the_commits_that_it_went_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "OUTPUT", tmp_path / "output")
    monkeypatch.setattr(compare, "_bundle", lambda *arguments, **overrides: 1.0)
    commits = iter("abcd")
    monkeypatch.setattr(compare, "provenance", lambda: {"commit": next(commits)})
    assert compare.train(PLAN, tmp_path) == (1.0, [])
    assert compare.train(PLAN, tmp_path) == (1.0, [])  # cut off before it had a state to resume from
    (PLAN.work / "train_state.pt").touch()
    assert compare.train(PLAN, tmp_path) == (1.0, ["b"])
    assert compare.train(PLAN, tmp_path) == (1.0, ["b", "c"])


def test_everything_is_run_though_one_fails_and_the_status_says_so(caplog):
    done = []

    def fail():
        raise RuntimeError("no such thing")

    with pytest.raises(SystemExit) as end:
        run_all({"first": fail, "second": lambda: done.append("second")})
    assert end.value.code == 1
    assert done == ["second"]
    assert "first failed: RuntimeError: no such thing" in caplog.text


def test_runs_are_measured_once_and_a_method_that_fails_does_not_stop_them(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(plans, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(plans, "OUTPUT", tmp_path / "output")
    make_phantoms(tmp_path / "data", num_labeled=2, num_unlabeled=2, num_validation=2, num_test=2, size=24)
    asked = {"seeds": 0, "augmentation": "off", "num_labeled": 1, "extra": ""}
    asked |= {"max_epochs": 1, "iterations_per_epoch": 1, "num_unlabeled": 2, "spatial_size": [16, 16, 16]}
    with pytest.raises(SystemExit) as end:  # pairs of labelled cases take two
        compare.run("phantom", tmp_path / "data", methods="lc_voxelmorph,unet", **asked)
    assert end.value.code == 1
    assert "lc_voxelmorph_noaug_n1_s0 failed: RuntimeError: 'training' ended with 1; see " in caplog.text
    (entry,) = read_records("phantom", tmp_path / "results")
    assert (entry["method"], entry["num_labeled"], entry["resumed"], entry["earlier_commits"]) == ("unet", 1, False, [])
    by_case = list(dice_table(entry, "segmentation").values())
    assert len(by_case) == 2
    assert np.mean(by_case) == pytest.approx(entry["metrics"]["segmentation"]["dice"]["mean"], abs=1e-4)

    before = (tmp_path / "output" / "phantom" / "unet_noaug_n1_s0" / "log.txt").read_text()
    compare.run("phantom", tmp_path / "data", methods="unet", **asked)
    assert "unet_noaug_n1_s0 is done" in caplog.text
    assert (tmp_path / "output" / "phantom" / "unet_noaug_n1_s0" / "log.txt").read_text() == before


def test_a_run_counts_as_augmented_when_it_is_and_is_refused_before_any_other_starts():
    with pytest.raises(ValueError, match=r"unet_aug_s0: .* train without random augmentation.*light_augmentation"):
        compare.run("phantom", "nowhere", methods="unet", seeds=0, augmentation="off,on")
    light = ("bf16", "light_augmentation")
    with pytest.raises(ValueError, match=r"unet_noaug_s0: .* train with random augmentation"):
        compare._refuse_wrong_augmentation(Plan("phantom", "unet", False, 4, 0, extra=light))
    for plan in (Plan("phantom", "unet", True, 4, 0, extra=light), PLAN, replace(PLAN, augmented=False)):
        compare._refuse_wrong_augmentation(plan)
    with pytest.raises(ValueError, match="'On': expected on, off"):
        compare.run("phantom", "nowhere", methods="unet", seeds=0, augmentation="On")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"methods": "unet,no_such_method"}, "no method 'no_such_method'"),
        ({"dataset": "heart"}, r"no 'heart' in configs/data: expected one of .*'hippocampus', "),
        ({"extra": "bf61"}, r"no 'bf61' in configs/run: expected one of \['bf16', "),
        ({"seeds": "a"}, "--seeds 'a': expected whole numbers"),
        ({"jobs": 0}, "--jobs 0: expected 1 or more"),
        ({"dataset_dir": "nowhere"}, "--dataset_dir 'nowhere': there is no such folder"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(asked, message, tmp_path):
    plain = {"dataset": "phantom", "dataset_dir": tmp_path, "methods": "unet", "seeds": 0, "augmentation": "off"}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compare.run(**plain | asked)


def test_a_table_shows_what_is_asked_for_in_the_order_asked_for(tmp_path, monkeypatch):
    learned = {"num_labeled": 4, "train_seconds": 60, "versions": {}, "commit": "c"}
    figures = {name: {"mean": 0.5, "std": 0.1, "n": 2} for name in ("dice", "hd95", "folding_percent")}
    runs = [
        learned | {"method": method, "augmented": augmented, "seed": 0, "metrics": {"registration": figures}}
        for method in ("deeprs", "unet", "best")
        for augmented in (False, True)
    ]
    runs[0]["metrics"]["identity"] = {"dice": {"mean": 0.25, "std": 0.125, "per_structure": {}}}
    monkeypatch.setattr(compare, "read_records", lambda dataset: runs)

    def rows(**asked):
        return [line.split("|")[1].strip() for line in compare.table("any", **asked).splitlines()[4:]]

    assert rows(methods="unet,best", augmentation="on", reference="none") == ["unet", "best"]
    assert rows(methods="best,unet", augmentation="on", reference="none") == ["best", "unet"]
    assert rows(methods="deeprs", reference="none") == ["no registration", "deeprs", "deeprs"]
    assert "| no registration | - | 0 | - | - | 25.00 ± 12.50 |" in compare.table("any")
    for asked, message in (
        ({"methods": "unet,vnet"}, r"no runs of \['vnet'\]"),
        ({"num_labeled": "1"}, r"no such runs .* there: \[\('off', 4\), \('on', 4\)\]"),
        ({"num_labeled": "four"}, "--num_labeled 'four': expected whole numbers"),
        ({"augmentation": "onn"}, "--augmentation 'onn': expected -, on, off"),
        ({"reference": "vnet"}, "--reference 'vnet': it has no runs"),
    ):
        with pytest.raises(ValueError, match=message):
            compare.table("any", **asked)


# ---- the scripts


def test_every_script_finds_the_bundle_by_itself():
    program = """
import importlib, sys
from pathlib import Path
plain = [*sys.path]
scripts = sorted(Path("benchmarks").glob("*/*.py"))
assert len(scripts) > 15
for script in scripts:
    for name in [name for name in sys.modules if name.split(".")[0] in ("benchmarks", "scripts")]:
        del sys.modules[name]
    sys.path[:] = plain
    importlib.import_module(".".join(script.with_suffix("").parts))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


# ---- documents


def test_tables_in_the_documents_are_what_the_commands_beside_them_print():
    texts = {path: path.read_text() for pattern in documents.DOCUMENTS for path in documents.ROOT.glob(pattern)}
    assert sum(text.count("<!-- prints -->") for text in texts.values()) > 5
    stale = [path.name for path, text in texts.items() if documents.refreshed(text) != text]
    assert not stale, f"{stale}: python -m benchmarks.documents.refresh"


def test_a_command_in_a_document_is_followed_by_what_it_prints(tmp_path):
    command = "```\npython -m benchmarks.runs.compare structures --dataset hippocampus --methods greedy\n```\n"
    path = tmp_path / "README.md"
    path.write_text(f"before\n{command}<!-- prints -->\nold\n<!-- end -->\nafter\n")
    assert documents.main(tmp_path) == [str(path)]
    table = compare.structures("hippocampus", "greedy")
    assert path.read_text() == f"before\n{command}<!-- prints -->\n{table}\n<!-- end -->\nafter\n"
    assert documents.main(tmp_path) == []
