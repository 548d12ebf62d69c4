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
"""Loss terms of DeepRS: similarity, smoothness, segmentation, region constraint and adversarial terms.

Every term takes tensors of shape (B, C, D, H, W) and returns a float32 scalar. They all leave autocast for their own
arithmetic, because a sum over hundreds of voxels does not survive bfloat16.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .shapes import check_channel_reduction, check_same_shape, in_float32, without_autocast

__all__ = ["WarpedCrossEntropy", "soft_cross_entropy"]


def soft_cross_entropy(pred: Tensor, target: Tensor, channel_reduction: str = "sum") -> Tensor:
    """Cross-entropy of logits against a soft one-hot label, averaged over all voxels.

    A bilinearly warped label is a mixture of classes and is zero where the field left the field of view; such a voxel
    adds nothing to the sum but still counts in the mean, so a pair with little overlap teaches less.

    Args:
        pred: logits (B, C, D, H, W).
        target: class weights of the same shape, channel 0 the background, each voxel summing to 1 or to 0.
        channel_reduction: "sum" is the usual cross-entropy; "mean" divides it by C, the form some published code
            weights its terms for.

    Returns:
        scalar; 0 for a certain and right prediction.

    Raises:
        ValueError: the shapes differ or the reduction is unknown.
    """
    check_channel_reduction("soft_cross_entropy", channel_reduction)
    entropy = voxel_cross_entropy("soft_cross_entropy", pred, target, "target").mean()
    return entropy / pred.shape[1] if channel_reduction == "mean" else entropy


def voxel_cross_entropy(name: str, pred: Tensor, target: Tensor, target_name: str) -> Tensor:
    """Return -sum_c target log softmax(pred) of every voxel, (B, 1, D, H, W)."""
    check_same_shape(name, pred, target, "pred", target_name)
    with without_autocast(pred):
        logits, weights = in_float32(pred, target)
        return -(weights * F.log_softmax(logits, dim=1)).sum(dim=1, keepdim=True)


class WarpedCrossEntropy(nn.Module):
    """`soft_cross_entropy` as a module, for the segmentation of a warped image against its warped label.

    Args:
        channel_reduction: "sum" (default) or "mean", see `soft_cross_entropy`.

    Raises:
        ValueError: the reduction is unknown.
    """

    def __init__(self, channel_reduction: str = "sum") -> None:
        super().__init__()
        check_channel_reduction("WarpedCrossEntropy", channel_reduction)
        self.channel_reduction = channel_reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits `pred` against the soft label `target`, both (B, C, D, H, W)."""
        return soft_cross_entropy(pred, target, self.channel_reduction)
