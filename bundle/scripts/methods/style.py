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
"""Pairs with a third image, whose style is taken: what BRBS and learned augmentation have in common."""

from __future__ import annotations

from functools import cached_property

import torch

from ..fields.warping import warp
from ..joint.state import PairState


class StyledState(PairState):
    """The quantities of a pair, and of a third image of which the intensities are taken: ``style_image`` of the batch.

    The sampler puts it there: ``train::sampler::style: true``.
    """

    @cached_property
    def style_image(self) -> torch.Tensor:
        """The third image (B, 1, D, H, W), whose intensities are taken."""
        if "style_image" not in self.batch:
            raise KeyError("there is no third image in the batch: set `train::sampler::style: true`.")
        return self.batch["style_image"]

    @cached_property
    def style_ddf(self) -> torch.Tensor:
        """The field that pulls the third image onto the moving one, in voxels of the latter (B, 3, D, H, W)."""
        return self._forward("registration", self.style_image, self.moving_image)

    @cached_property
    def style_on_moving(self) -> torch.Tensor:
        """The third image on the grid of the moving one (B, 1, D, H, W)."""
        return warp(self.style_image, self.style_ddf)
