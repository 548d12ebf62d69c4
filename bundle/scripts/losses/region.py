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
"""Equation 2: the deep-based region constraint (DRC) on registration."""

from __future__ import annotations

from torch import Tensor, nn

from .shapes import check_same_shape, in_float32, without_autocast

__all__ = ["RegionConstraint"]


class RegionConstraint(nn.Module):
    """Mean squared difference of class probabilities that a field has brought together and those of the fixed image.

    Eq. 2. Brought together by segmenting the warped image, as in the paper, or by warping the segmentation of the
    moving one.

    It asks the registration to bring structures, not only grey values, together. Eq. 2 is printed with a leading minus,
    which would reward disagreement; the text describes a mean squared error, so the sign here is plus. Equal
    probabilities cost 0.
    """

    def forward(self, warped_prob: Tensor, fixed_prob: Tensor) -> Tensor:
        """Return the mean over batch, channels (background included) and voxels; `fixed_prob` receives no gradient.

        Args:
            warped_prob: probabilities on the fixed grid, of the warped image or warped, (B, C, D, H, W).
            fixed_prob: probabilities of the fixed image, same shape.

        Returns:
            scalar in [0, 1].

        Raises:
            ValueError: the shapes differ.
        """
        check_same_shape("RegionConstraint", warped_prob, fixed_prob, "warped_prob", "fixed_prob")
        with without_autocast(warped_prob):
            warped, fixed = in_float32(warped_prob, fixed_prob.detach())
            return (warped - fixed).square().mean()
