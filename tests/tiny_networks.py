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
"""Networks whose answer is known, to test what is done with an answer; and the preprocessing of the shipped configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from bundle_runs import CONFIGS
from monai.bundle import ConfigParser
from torch import nn


class SameShift(nn.Module):
    """A registration network that displaces every voxel by the same number of voxels."""

    def __init__(self, shift: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        return fixed.new_tensor(self.shift).view(1, 3, 1, 1, 1).expand(-1, -1, *fixed.shape[2:]).contiguous()


class Waves(nn.Module):
    """A registration network with a smooth field, up to ``amplitude`` voxels in each direction."""

    def __init__(self, amplitude: float = 1.0) -> None:
        super().__init__()
        self.amplitude = amplitude

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        d, h, w = torch.meshgrid(*(torch.linspace(0, 1, size) for size in fixed.shape[2:]), indexing="ij")
        waves = [torch.sin(3 * h + 1), torch.cos(4 * w + d), torch.sin(3 * d + 2 * w)]
        return self.amplitude * torch.stack(waves)[None]


class ByBrightness(nn.Module):
    """A segmentation network for images in which class k has the brightness k / (num_classes - 1)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        classes = torch.arange(self.num_classes, dtype=image.dtype).view(1, -1, 1, 1, 1)
        return -100 * (image * (self.num_classes - 1) - classes) ** 2


class FixedImage(nn.Module):
    """A discriminator whose logits are the fixed image."""

    def forward(self, candidate: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        return fixed


def shipped(config: str, entry: str, **overrides: Any) -> Callable:
    """An entry of a shipped config, such as its preprocessing, with other sizes."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / config))
    parser.update(overrides)
    return parser.get_parsed_content(entry)
