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
from tiny_joint import make_pair
from tiny_networks import SameShift
from torch import nn

from scripts.losses.consistency import BidirectionalConsistency
from scripts.methods.label_transfer import LabelTransferState

INSIDE = (..., slice(2, -2), slice(None), slice(None))


class Keeps(nn.Module):
    """A discriminator, or a registration network, that keeps what it is shown."""

    def forward(self, *images):
        self.seen = images
        return SameShift()(images[0], images[-1]) if len(images) > 1 else images[0]


def state(forward, backward, **more):
    networks = {"registration": forward, "backward_registration": backward, **more}
    return LabelTransferState(make_pair(), networks, num_classes=3)


def test_an_atlas_that_stays_comes_back_to_the_bit():
    pair = state(SameShift(), SameShift())
    assert torch.equal(pair.returned_image, pair.moving_image)
    assert torch.equal(pair.returned_label, pair.moving_label)
    assert BidirectionalConsistency("residual")(pair.ddf, pair.backward_ddf) == 0


def test_opposite_shifts_close_the_cycle_of_image_label_and_fields():
    pair = state(SameShift((2, 0, 0)), SameShift((-2, 0, 0)))
    torch.testing.assert_close(pair.returned_image[INSIDE], pair.moving_image[INSIDE], rtol=0, atol=1e-5)
    torch.testing.assert_close(pair.returned_label[INSIDE], pair.moving_label[INSIDE], rtol=0, atol=1e-5)
    assert BidirectionalConsistency("residual")(pair.ddf, pair.backward_ddf) == 0


def test_shifts_that_do_not_undo_each_other_cost_their_square():
    pair = state(SameShift((2, 0, 0)), SameShift((-1, 0, 0)))
    # one voxel is left, in one of three components, in both orders
    assert BidirectionalConsistency("residual")(pair.ddf, pair.backward_ddf).item() == pytest.approx(2 / 3)
    assert nn.L1Loss()(pair.returned_image[INSIDE], pair.moving_image[INSIDE]) > 0.01


def test_the_way_back_is_from_the_warped_atlas_and_the_discriminator_sees_one_image():
    back, judge = Keeps(), Keeps()
    pair = state(SameShift((1, 0, 0)), back, image_discriminator=judge)
    assert not pair.backward_ddf.any()
    assert back.seen[0] is pair.warped_image and back.seen[1] is pair.moving_image
    assert torch.equal(pair.real_logits, pair.fixed_image) and torch.equal(pair.warped_logits, pair.warped_image)
