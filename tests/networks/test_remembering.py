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
from torch import nn

from scripts.networks.memory import Remembering, remembering


class Counted(nn.Module):
    """Doubles images, and counts those that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.asked = nn.Parameter(torch.tensor(2.0)), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        return self.factor * images


@torch.no_grad()
def test_in_all_ordered_pairs_of_n_images_the_network_sees_n():
    images = torch.rand(5, 1, 4, 4, 4)
    network = Remembering(Counted())
    for i in range(5):
        for j in range(5):
            pair = images[[i, j]]
            assert torch.equal(network(pair), 2 * pair)
    assert network.network.asked == 5


def test_an_image_that_is_to_get_a_gradient_is_not_remembered():
    network, image = Remembering(Counted()), torch.rand(1, 1, 4, 4, 4, requires_grad=True)
    for _ in range(2):
        (grad,) = torch.autograd.grad(network(image).sum(), image)
        assert torch.equal(grad, torch.full_like(grad, 2))
    assert network.network.asked == 2


@torch.no_grad()
def test_an_answer_under_autocast_is_not_given_without_it():
    network, image = Remembering(nn.Conv3d(1, 1, 1)), torch.rand(1, 1, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(image).dtype == torch.bfloat16
    assert network(image).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("images, asked", [(2, 2), (3, 6)])
def test_no_more_is_kept_than_bytes_allow(images, asked):
    batch = torch.rand(images, 1, 4, 4, 4)
    network = Remembering(Counted(), bytes_kept=2 * batch[0].nbytes)
    for _ in range(2):
        for image in batch:
            assert torch.equal(network(image[None]), 2 * image[None])
    assert network.network.asked == asked  # of three in turn the one needed next has just been given up


def test_only_segmentation_remembers():
    networks = {"segmentation": Counted(), "registration": Counted()}
    kept = remembering(networks)
    assert kept["segmentation"].network is networks["segmentation"]
    assert kept["registration"] is networks["registration"]
