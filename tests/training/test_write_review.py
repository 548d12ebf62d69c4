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
"""What a training leaves to judge segmentations by, from cases whose labels and network are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.inferers import SimpleInferer
from tiny_training import InMemory, labelled
from torch import nn

from scripts.data.pairs import PairDataset
from scripts.data.review import estimated_dice, overlaps
from scripts.data.review_table import fit_line
from scripts.training.save_weights import SaveWeights
from scripts.training.write_review import MOST, WriteReview

LABELS = {0: "background", 205: "first", 850: "second"}  # classes 1 and 2


class Scaled(nn.Module):
    """Sees the two boxes of the images, and is as sure of them as its one weight is large."""

    def __init__(self, sureness):
        super().__init__()
        self.sureness = nn.Parameter(torch.tensor(sureness))

    def forward(self, image):
        return -self.sureness * (image - 0.3 * torch.arange(3.0).view(1, 3, 1, 1, 1) - 0.05) ** 2


def review(folder, validation, labeled="mnop", sureness=40.0):
    """The file that a training of one epoch leaves, its network, and the cases of training and validation."""
    network, trainer = Scaled(sureness), Engine(lambda engine, _: None)
    trainer.state.best = {}
    datasets = [PairDataset(labelled(names), InMemory()) for names in (labeled, validation)]
    SaveWeights(str(folder), {"model.pt": network}).attach(trainer)
    WriteReview(folder, network, LABELS, *datasets, SimpleInferer()).attach(trainer)
    trainer.run([0])
    return json.loads((folder / "review.json").read_text()), network, datasets


def test_dice_follows_from_the_estimate_as_in_the_cases_of_validation(tmp_path):
    found, network, (_, validation) = review(tmp_path, "abcdefg")
    estimates, dice = [], []
    for index in range(7):
        case = validation[index, index]
        prob = network(case["moving_image"][None])[0].softmax(dim=0).detach()
        estimates.append(estimated_dice(prob, prob.argmax(dim=0))[1])
        dice.append(overlaps(prob.argmax(dim=0), case["moving_label"][0], 3)[1])
    line, expected = found["structures"]["850"]["calibration"], fit_line(estimates, dice)
    assert line["n"] == 7 and line["slope"] == pytest.approx(expected.slope)
    assert line["intercept"] == pytest.approx(expected.intercept) and line["sd"] == pytest.approx(expected.sd)


def test_structures_are_as_large_as_in_labelled_cases_of_training_and_validation(tmp_path):
    found, _, datasets = review(tmp_path, "ab", labeled="mno")
    volumes = [
        int((data[i, i]["moving_label"] == 1).sum()) * 2 / 1000  # voxels of 1 x 1 x 2 mm
        for data in datasets
        for i in range(len(data))
    ]
    volume = {"mean": pytest.approx(np.mean(volumes)), "sd": pytest.approx(np.std(volumes, ddof=1))}
    assert found["structures"].keys() == {"205", "850"} and len(volumes) == 5
    assert found["structures"]["205"]["volume_ml"] == volume
    assert (found["structures"]["205"]["pieces"], found["structures"]["205"]["touches_border"]) == (1, False)


def test_without_validation_cases_nothing_is_calibrated_and_of_two_volumes_nothing_is_said(tmp_path):
    found, _, _ = review(tmp_path, "", labeled="mn")
    assert [facts["calibration"] for facts in found["structures"].values()] == [None, None]
    assert [facts["volume_ml"] for facts in found["structures"].values()] == [None, None]


def test_the_weights_that_were_saved_are_asked_and_the_network_stays_as_it_is(tmp_path):
    network, trainer = Scaled(40.0), Engine(lambda engine, _: None)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    network.sureness.data.fill_(0.0)  # of which all classes are equal
    validation = PairDataset(labelled("a"), InMemory())
    WriteReview(tmp_path, network, LABELS, validation, validation, SimpleInferer()).attach(trainer)
    trainer.run([0])
    found = json.loads((tmp_path / "review.json").read_text())
    assert found["structures"]["205"]["calibration"] is not None
    assert network.sureness == 0 and network.training


def test_at_most_twenty_cases_are_segmented(tmp_path):
    found, _, _ = review(tmp_path, "abcdefghijklmnopqrstuvwxyz")
    assert MOST == found["structures"]["205"]["calibration"]["n"] == 20
