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
from monai.networks.nets import UNet

from scripts.networks.passes import TWICE, passed


class Watched(UNet):
    """A small U-Net that writes down the sizes of the batches it is shown."""

    def __init__(self) -> None:
        super().__init__(3, 1, 2, channels=(4, 8), strides=(2,), norm="INSTANCE")
        self.shown: list[int] = []
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(len(images))
        return super().forward(images)


@torch.no_grad()
@pytest.mark.parametrize("batch, shown", [(1, 2), (2, 2), (3, 3)])
def test_one_volume_goes_as_two_and_gets_its_own_answer(batch, shown):
    network, images = Watched(), torch.rand(batch, 1, 16, 12, 8)
    torch.testing.assert_close(passed(network, images), network(images), atol=1e-5, rtol=0)
    assert network.shown == [shown, batch]


@torch.no_grad()
def test_all_else_goes_as_it_is():
    network, image = Watched(), torch.rand(1, 1, 16, 12, 8)
    with torch.enable_grad():
        assert passed(network, image).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        passed(network, image)
    passed(network, torch.rand(1, 1, TWICE // 256 + 2, 16, 16))
    passed(network.train(), image)
    assert network.shown == [1] * 4
