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
"""What is measured with trained runs: refinement, confidence maps, fusion with warped labels."""

from __future__ import annotations

import csv

import pytest
import torch

from benchmarks.runs import compare, plans
from benchmarks.runs.records import read_records, write_rows
from benchmarks.studies import confidence, fusion, lessons, refinement, shares
from scripts.phantom.volumes import make_phantoms

SETTINGS = {"max_epochs": 1, "iterations_per_epoch": 1, "num_unlabeled": 2, "spatial_size": [16, 16, 16]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with phantoms, the record and the weights of one iteration of DeepRS with 4 labels."""
    folder = tmp_path_factory.mktemp("measurements")
    with pytest.MonkeyPatch.context() as patch:
        for module in (plans, refinement, lessons, confidence, fusion):
            patch.setattr(module, "RESULTS", folder / "results")
        patch.setattr(plans, "OUTPUT", folder / "output")
        make_phantoms(folder / "data", num_labeled=4, num_unlabeled=2, num_validation=2, num_test=2, size=24)
        compare.run("phantom", folder / "data", "deeprs", seeds=0, augmentation="off", extra="", **SETTINGS)
        yield folder


def test_refinement_is_measured_once_for_every_number_of_steps(trained):
    asked = {"methods": "deeprs", "seeds": 0, "augmentation": "off", "extra": ""} | SETTINGS
    refinement.run("phantom", trained / "data", steps="0,3", **asked)
    path = trained / "results" / "phantom" / "refinement.csv"
    before = path.stat().st_mtime_ns
    without, refined = csv.DictReader(path.open())
    assert (without["steps"], refined["steps"]) == ("0", "3")
    (record,) = read_records("phantom", trained / "results")
    dice = record["metrics"]["registration"]["dice"]
    assert float(without["dice"]) == pytest.approx(100 * dice["mean"], abs=1e-3)  # S was there, as in that evaluation
    assert int(without["pairs"]) == record["metrics"]["registration"]["n"]
    assert refined["sdlogj"] != without["sdlogj"]
    refinement.run("phantom", trained / "data", steps="3", **asked)
    assert path.stat().st_mtime_ns == before
    row = f"| deeprs | 0 | {float(without['dice']):.2f} ({float(without['dice']):.2f}..{float(without['dice']):.2f}) |"
    assert row in refinement.table("phantom")


def test_refinement_of_a_run_that_is_not_there_says_what_makes_it(trained):
    with pytest.raises(FileNotFoundError, match="compare.py run makes them"):
        refinement.run("phantom", trained / "data", methods="voxelmorph", seeds=0)


def test_confidence_is_measured_once_and_lies_between_always_wrong_and_always_right(trained):
    run = trained / "output" / "phantom" / "deeprs_noaug_s0"
    confidence.run(run, dataset="phantom", dataset_dir=trained / "data")
    path = trained / "results" / "phantom" / "confidence.csv"
    before = path.read_text()
    (row,) = csv.DictReader(before.splitlines())
    assert row["run"] == "deeprs_noaug_s0" and row["pairs"] == "2"
    assert all(0 < float(row[name]) < 1 for name in ("auc_agreement", "auc_confidence"))
    confidence.run(run, dataset="phantom", dataset_dir=trained / "data")
    assert path.read_text() == before
    printed = confidence.table("phantom")
    assert f"| deeprs | off | {float(row['auc_confidence']):.3f} (1) |" in printed and printed.endswith(" (1) | 2 |")


def test_every_lesson_is_taught_once_and_what_it_gave_is_written(trained):
    folder = trained / "output" / "phantom" / "deeprs_noaug_s0"
    settings = {"dataset": "phantom", "dataset_dir": str(trained / "data"), **SETTINGS}
    lessons.run(str(folder), **settings)
    path = trained / "results" / "phantom" / "lessons.csv"
    rows = list(csv.DictReader(path.open()))
    assert [row["lesson"] for row in rows] == list(lessons.LESSONS)
    assert all(0 < float(row["auc"]) < 1 for row in rows)
    (agreement,) = {row["auc_agreement"] for row in rows}  # S and R stand still
    before = path.stat().st_mtime_ns
    lessons.run(str(folder), **settings)
    assert path.stat().st_mtime_ns == before
    assert f"| paper | {float(rows[0]['loss_first']):.2f} to " in lessons.table("phantom")
    confidence.run(str(folder), dataset="phantom", dataset_dir=str(trained / "data"))
    (measured,) = csv.DictReader((path.parent / "confidence.csv").open())
    assert agreement == measured["auc_agreement"]


@pytest.mark.parametrize("asked", ["none", "paper;none", ("paper", "none")])
def test_an_unknown_lesson_is_refused_before_anything_is_taught(trained, asked):
    with pytest.raises(ValueError, match=r"no lesson \['none'\]"):
        lessons.run("nowhere", dataset="phantom", dataset_dir="nowhere", lessons=asked)


def test_a_known_misalignment_is_certain_where_nothing_moved():
    batch = {name: torch.rand(1, 1, 8, 8, 8) for name in ("moving_image", "fixed_image")}
    pair = lessons.LessonState(batch, {}, num_classes=3, carried={"known_field": torch.zeros(1, 3, 8, 8, 8)})
    assert torch.equal(pair.known_alignment, torch.ones(1, 1, 8, 8, 8))
    moved = torch.zeros(1, 3, 8, 8, 8)
    moved[:, 1] = 1.5
    pair = lessons.LessonState(batch, {}, num_classes=3, carried={"known_field": moved})
    assert torch.allclose(pair.known_alignment, torch.full((1, 1, 8, 8, 8), 0.3679), atol=1e-4)


def test_a_random_field_is_no_longer_than_asked():
    lengths = lessons.random_field(torch.zeros(5, 1, 8, 9, 10), 4.0).norm(dim=1).flatten(1).max(dim=1).values
    assert (lengths > 0).all() and (lengths <= 4.0001).all()
    assert len(set(lengths.tolist())) == 5  # a draw for each sample


def test_fusion_with_what_agrees_with_the_network_is_the_network():
    probability = torch.rand(1, 3, 4, 4, 4).softmax(dim=1)
    for name, fused in fusion.fused(probability, probability).items():
        assert torch.allclose(fused, probability, atol=1e-6), name


def test_a_weighted_vote_goes_with_the_case_that_the_network_agrees_with():
    right, wrong = (torch.eye(3)[i].view(1, 3, 1, 1, 1) for i in (1, 2))
    probability = torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1, 1)
    fused = fusion.fused(probability, torch.cat([right, wrong]))
    assert fused["vote"].flatten().tolist() == pytest.approx([0, 0.5, 0.5])
    assert fused["weighted vote"].flatten().tolist() == pytest.approx([0, 2 / 3, 1 / 3])


def test_fusion_is_measured_once_and_has_a_dice_for_every_prediction(trained):
    folder = trained / "output" / "phantom" / "deeprs_noaug_s0"
    fusion.run(folder, dataset="phantom", dataset_dir=trained / "data")
    path = trained / "results" / "phantom" / "fusion.csv"
    before = path.read_text()
    dice = {row["prediction"]: float(row["dice"]) for row in csv.DictReader(before.splitlines())}
    assert {"network", "vote", "weighted vote"} < dice.keys()
    assert all(0 <= value <= 1 for value in dice.values())
    fusion.run(folder, dataset="phantom", dataset_dir=trained / "data")
    assert path.read_text() == before
    assert "| prediction | deeprs (augmentation off) |" in fusion.table("phantom")
    assert f"| network | {100 * dice['network']:.2f} (" in fusion.table("phantom")


def test_shares_of_the_vote_are_means_over_cases_and_trainings(monkeypatch, tmp_path):
    monkeypatch.setattr(shares, "RESULTS", tmp_path)
    rows = [
        {"weights": weights, "case": case, "joined": joined, "share": share, "dice": dice, "commit": "a"}
        for joined, offset in (("mean", 0.0), ("product", 0.1))
        for share in shares.SHARES
        for weights, case, dice in (("s0", "a", share / 2 + offset), ("s1", "b", offset))
    ]
    (tmp_path / "phantom").mkdir()
    write_rows(tmp_path / "phantom" / "shares.csv", shares.COLUMNS, rows)
    lines = shares.table("phantom").splitlines()
    assert lines[2] == "| mean | " + " | ".join(f"{2.5 * step:.1f}" for step in range(11)) + " |"
    assert lines[3].startswith("| product | 10.0 | 12.5 |")
