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
"""Training teaches: on phantoms, in about a minute, both networks leave their starting point clearly behind."""

from __future__ import annotations

import pytest
from bundle_runs import TINY, workflow

from scripts.phantom.volumes import make_phantoms

#: large enough to learn, small enough for a test: volumes of 24 voxels, some 300 iterations
SMALL = TINY | {
    "num_labeled": 4,
    "pixdim": [6.0, 6.0, 6.0],
    "spatial_size": [24, 24, 24],
    "max_epochs": 4,
    "iterations_per_epoch": 80,
    "network_def::channels": [16, 32, 64],
    "network_def::strides": [2, 2],
    "discriminator_def::network::channels": [8, 16],
    "registration_def::encoder_channels": [16, 32],
    "registration_def::decoder_channels": [32, 32, 32],
}


@pytest.fixture(scope="module")
def dice(tmp_path_factory):
    """{metric: (before training, best of training)} on validation cases that were never trained on."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    make_phantoms(data, num_labeled=4, num_unlabeled=12, num_validation=3, num_test=0, size=24)
    with workflow(["train.yaml"], dataset_dir=str(data), output_dir=str(out), **SMALL) as training:
        evaluator = training.parser.get_parsed_content("validate::evaluator")
        evaluator.run()
        before = {name: float(value) for name, value in evaluator.state.metrics.items()}
        training.run()
        best = training.parser.get_parsed_content("train::trainer").state.best
    return {name: (before[name], best[name]) for name in ("segmentation_dice", "registration_dice")}


def test_segmentation_learns_from_four_labels(dice):
    before, after = dice["segmentation_dice"]
    assert before < 0.15 and after > 0.45


def test_registration_beats_the_identity_it_starts_from(dice):
    identity, after = dice["registration_dice"]
    assert 0.3 < identity < 0.5 and after > identity + 0.04
