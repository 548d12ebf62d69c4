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

"""From two images to the field between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .affine import match_affine
from .scan import Scan, grid_points
from .velocity import LEVELS, Level, match_velocity

__all__ = ["Matching"]


class Matching:
    """Registers by the two images alone: an affine, then a velocity on finer and finer grids. For any anatomy.

    Args:
        levels: stride of the velocity, pooling of the images and number of steps, coarse to fine; none: the affine.
        window: of the local correlation, in voxels.
        smoothness: weight of the squared gradient of the velocity.
    """

    def __init__(
        self,
        levels: Sequence[Sequence[int]] = LEVELS,
        window: int = 5,
        smoothness: float = 0.3,
    ) -> None:
        self.levels = [Level(*level) for level in levels]
        self.window, self.smoothness = window, smoothness

    @torch.enable_grad()
    def __call__(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Register one pair.

        Args:
            moving, fixed: (1, 1, D, H, W) in [0, 1], with voxels of one size; shapes may differ.

        Returns:
            The displacement (1, 3, D, H, W) on the fixed grid: voxel p comes from voxel p + u(p) of the moving image.
        """
        pair = Scan(moving), Scan(fixed)
        affine = match_affine(*pair)
        points = grid_points(pair[1].size, 1, fixed.device)
        where = points
        if self.levels:
            field = match_velocity(*pair, affine, self.levels, self.window, self.smoothness)
            where = points + field[0].movedim(0, -1)
        d, h, w = fixed.shape[2:]
        return (affine(where) - points)[:d, :h, :w].movedim(-1, 0)[None]
