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

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from tiny_joint import NUM_CLASSES, make_networks, make_pair
from tiny_networks import SameShift

from scripts.methods.deepatlas import AnatomyState


def state(labels, learning=(), registration=None):
    networks = make_networks()
    if registration is not None:
        networks["registration"] = registration
    return AnatomyState(make_pair(labels), networks, num_classes=NUM_CLASSES, learning=learning)


@pytest.mark.parametrize("role", ["moving", "fixed"])
def test_an_anatomy_is_the_label_where_there_is_one(role):
    pair = state((role,))
    assert torch.equal(getattr(pair, f"{role}_anatomy"), getattr(pair, f"{role}_label"))
    assert pair.computed(f"{role}_pred") is None


@pytest.mark.parametrize("role", ["moving", "fixed"])
def test_an_anatomy_is_predicted_where_there_is_no_label(role):
    pair = state(())
    predicted = pair.networks["segmentation"](getattr(pair, f"{role}_image")).softmax(1)
    torch.testing.assert_close(getattr(pair, f"{role}_anatomy"), predicted)


def test_the_anatomy_moves_with_the_field():
    pair = state(("moving",), registration=SameShift((2, 0, 0)))
    torch.testing.assert_close(pair.warped_anatomy[:, :, :-2], pair.moving_label[:, :, 2:])


def test_equal_labels_under_the_identity_cost_nothing():
    pair = state(("moving", "fixed"), registration=SameShift())
    pair.batch["fixed_label"] = pair.batch["moving_label"]
    assert DiceLoss(include_background=False)(pair.warped_anatomy, pair.fixed_anatomy).item() == pytest.approx(0)


@pytest.mark.parametrize("owner", ["registration", "segmentation"])
@pytest.mark.parametrize("labels", [("moving",), ("fixed",), ()])
def test_anatomy_teaches_whoever_is_learning(owner, labels):
    pair = state(labels, learning={owner})
    DiceLoss(include_background=False)(pair.warped_anatomy, pair.fixed_anatomy).backward()
    for name, network in pair.networks.items():
        assert all((p.grad is not None) == (name == owner) for p in network.parameters())
