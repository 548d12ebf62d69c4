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
"""Equation 1: the alignment confidence map (ACM) weights what a warped label teaches."""

from __future__ import annotations

from torch import Tensor, nn

from .cross_entropy import voxel_cross_entropy

__all__ = ["AlignmentConfidenceLoss"]


class AlignmentConfidenceLoss(nn.Module):
    """Cross-entropy of an unlabelled image against a warped label, weighted by the alignment confidence (Eq. 1).

    The warped label is a label of the fixed image only where the pair is aligned, and the discriminator's map says
    where that is. The mean runs over all voxels, not over the confident ones, so the term grows as alignment improves.
    With confidence 1 everywhere it is the plain cross-entropy.
    """

    def forward(self, fixed_pred: Tensor, warped_label: Tensor, confidence: Tensor) -> Tensor:
        """Return the weighted cross-entropy; only `fixed_pred` receives a gradient.

        Args:
            fixed_pred: logits of the fixed image, (B, C, D, H, W).
            warped_label: soft one-hot label warped on the fixed grid, same shape, may be all zero outside the view.
            confidence: alignment confidence in [0, 1], (B, 1, D, H, W).

        Returns:
            scalar.

        Raises:
            ValueError: the shapes do not fit together.
        """
        expected = (fixed_pred.shape[0], 1, *fixed_pred.shape[2:])
        if confidence.shape != expected:
            raise ValueError(
                f"AlignmentConfidenceLoss: confidence must be {tuple(expected)}, one value per voxel of fixed_pred, "
                f"found {tuple(confidence.shape)}."
            )
        entropy = voxel_cross_entropy("AlignmentConfidenceLoss", fixed_pred, warped_label.detach(), "warped_label")
        return (confidence.detach() * entropy).mean()
