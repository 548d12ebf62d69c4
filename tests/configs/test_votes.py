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
"""The recipe `votes` from training to results, with S and with the labelled cases that vote in its place."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import STRUCTURES, tiny, workflow

from scripts.matching.match import Matching

CONFIGS = ["train.yaml", "recipes/votes.yaml"]


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("votes")
    with workflow(CONFIGS, dataset_dir=str(phantoms), output_dir=str(folder), **tiny(CONFIGS)) as training:
        training.run()
    return folder


def test_a_training_leaves_its_votes_and_a_model_that_declares_itself(trained):
    names = {path.name for path in trained.iterdir()}
    assert {
        "model.pt",
        "votes.pt",
        "model.json",
        "model.yaml",
        "review.json",
    } <= names and "model_registration.pt" not in names
    state = json.loads((trained / "model.json").read_text())["state"]
    assert state["_target_"] == "scripts.methods.MatchedState" and state["matching"]["overlap"] == 1.0


@pytest.mark.parametrize("vote", [False, True])
def test_what_was_trained_segments_with_and_without_a_vote(vote, trained, phantoms, tmp_path):
    model, images = str(trained / "model.yaml"), phantoms / "images"
    image = sorted(images.iterdir())[-1]
    entries = {"dataset_dir": str(image), "output_dir": str(tmp_path), "ckpt_dir": str(trained)}
    entries |= {"vote": str(phantoms)} if vote else {}
    entries["confidence"] = True
    with workflow(["inference.yaml", model], "infer", run_id="inferring", properties_path=None, **entries) as command:
        command.run()
    (path,) = tmp_path.glob("*_seg.nii.gz")
    (confidence,) = tmp_path.glob("*_confidence.nii.gz")
    sure = nib.load(confidence)
    assert sure.shape == nib.load(image).shape and np.min(sure.dataobj) >= 0 and 0.1 < np.max(sure.dataobj) <= 1
    with open(tmp_path / "review.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["structure"] for row in rows) == sorted(STRUCTURES.values())
    assert any(row["agreement"] for row in rows) == vote
    found, given = nib.load(path), nib.load(image)
    assert found.shape == given.shape and set(np.unique(found.dataobj)) <= {0, *STRUCTURES}
    assert np.count_nonzero(found.dataobj) > 0


@pytest.mark.parametrize("vote", [False, True])
def test_what_was_trained_registers_with_and_without_a_vote(vote, trained, phantoms, tmp_path):
    moving, fixed = sorted((phantoms / "images").iterdir())[-2:]
    entries = {"moving": str(moving), "fixed": str(fixed), "output_dir": str(tmp_path), "ckpt_dir": str(trained)}
    entries |= {"vote": str(phantoms)} if vote else {}
    configs = ["register.yaml", str(trained / "model.yaml")]
    with workflow(configs, "infer", run_id="registering", properties_path=None, **entries) as command:
        command.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["mean_displacement_voxels"] > 0 and (tmp_path / "confidence.nii.gz").is_file()


def test_an_evaluation_with_a_vote_says_so_and_scores_both_tasks(trained, phantoms, tmp_path):
    entries = tiny(CONFIGS) | {"dataset_dir": str(phantoms), "ckpt_dir": str(trained), "max_pairs": 1}
    entries |= {"output_dir": str(tmp_path), "vote": str(phantoms)}
    with workflow([*CONFIGS, "evaluate.yaml"], run_id="evaluating", **entries) as command:
        command.run()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["config"]["vote"] == str(phantoms)
    with open(tmp_path / "segmentation.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * len(STRUCTURES)
    assert metrics["registration"]["n"] == 1


def test_the_defaults_of_the_recipe_carry_by_images_and_register_by_both(phantoms, tmp_path):
    with workflow(CONFIGS, dataset_dir=str(phantoms), output_dir=str(tmp_path), num_labeled=2) as training:
        votes, state = (training.parser.get_parsed_content(name) for name in ("votes::matching", "state"))
    assert votes.overlap == 0 and state.keywords["matching"].overlap == 1
    assert votes.levels == Matching().levels
