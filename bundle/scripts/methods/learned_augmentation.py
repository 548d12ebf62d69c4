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
"""DataAug: training images made of a labelled one, with the shape of a second image and the intensities of a third.

Zhao, Balakrishnan, Durand, Guttag, Dalca: "Data augmentation using learned transformations for one-shot medical image
segmentation", CVPR 2019.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from ..fields.warping import warp
from .style import StyledState


class LearnedAugmentationState(StyledState):
    """The quantities of a labelled moving image x_l, and of two unlabelled ones: the fixed one, and one for its style.

    The synthetic image is W(x_l + psi, field): ``ddf`` is the field from x_l to the fixed image, and psi, what the
    network ``appearance`` would add to x_l to make it look like the third image.
    """

    @cached_property
    def appearance_change(self) -> torch.Tensor:
        """psi: what is added to the moving image (B, 1, D, H, W)."""
        return self._forward("appearance", self.moving_image, self.style_on_moving)

    @cached_property
    def restyled_image(self) -> torch.Tensor:
        """x_l + psi: the moving image with the intensities of the third."""
        return self.moving_image + self.appearance_change

    @cached_property
    def synthetic_image(self) -> torch.Tensor:
        """W(x_l + psi, field): on the fixed grid, where its label is ``warped_label``."""
        return warp(self.restyled_image, self.ddf)

    @cached_property
    def synthetic_pred(self) -> torch.Tensor:
        """S of the synthetic image, logits."""
        return self._forward("segmentation", self.synthetic_image)


class AppearanceSmoothness(nn.Module):
    """Mean squared forward difference of a map of intensity changes, taken within structures only.

    Section 3.1 of the publication: tissues may change brightness independently, so a step at the border between two
    structures is free. A change that is constant within each structure costs 0.
    """

    def forward(self, change: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the mean over the three axes; only ``change`` receives a gradient.

        Args:
            change: map (B, 1, D, H, W), every axis at least 2 long.
            label: one-hot (B, C, D, H, W). Voxels of different structures are not compared.

        Returns:
            scalar, in squared intensities.

        Raises:
            ValueError: the two are not on one grid.
        """
        if change.shape[2:] != label.shape[2:]:
            raise ValueError(
                "AppearanceSmoothness: change and label must be on one grid, found "
                f"{tuple(change.shape[2:])} and {tuple(label.shape[2:])}."
            )
        total = torch.zeros((), device=change.device)
        for axis in (2, 3, 4):
            size = label.shape[axis] - 1
            here, next_to_it = label.narrow(axis, 0, size), label.narrow(axis, 1, size)
            same_structure = (here * next_to_it).sum(dim=1, keepdim=True).detach()
            total = total + (same_structure * change.diff(dim=axis).square()).mean()
        return total / 3
