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
"""Loss terms of BRBS: what registration in both directions, and segmentation between two images, should agree on.

He et al., "Learning Better Registration to Learn Better Few-Shot Medical Image Segmentation: Authenticity, Diversity,
and Robustness", IEEE TNNLS 2022. Every term takes float32 tensors of shape (B, C, D, H, W) and returns a scalar.
"""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from ..fields.warping import compose, warp

__all__ = ["BidirectionalConsistency", "MixMisalignment", "SemanticConsistency"]


class SemanticConsistency(nn.Module):
    """SeC: after registration in either direction, the regions of the two images should be the same.

    The Dice loss with squares and the background: 1 - mean over (B, C) of (2 sum ab + 1) / (sum a^2 + sum b^2 + 1). The
    regions are given (labels, or detached predictions), so all that it teaches is the two fields.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(
        self,
        warped_source_regions: Tensor,
        target_regions: Tensor,
        warped_target_regions: Tensor,
        source_regions: Tensor,
    ) -> Tensor:
        """Return the Dice loss of source on target plus that of target on source.

        Args:
            warped_source_regions: class probabilities of the source, warped onto the target, (B, C, D, H, W).
            target_regions: class probabilities of the target, same shape; no gradient reaches them.
            warped_target_regions: the same in the other direction.
            source_regions: the same in the other direction.

        Returns:
            scalar in [0, 2]; 0 where regions coincide in both directions.

        Raises:
            ValueError: the shapes of a direction differ.
        """
        there = self._direction(warped_source_regions, target_regions)
        return there + self._direction(warped_target_regions, source_regions)

    def _direction(self, warped: Tensor, regions: Tensor) -> Tensor:
        _check_shapes("SemanticConsistency", warped, regions)
        return self.dice(warped, regions.detach())


class BidirectionalConsistency(nn.Module):
    """BiC: the fields of the two directions should undo each other. Both receive the gradient.

    With u there and v back, v is the inverse where v(p) = -u(p + v(p)). ``residual`` is the mean square of what is left
    of a point that goes there and back, u + W(v, u), plus that of v + W(u, v): 0 exactly when the fields are inverse to
    each other. ``reference`` is what the authors' program computes, the mean square of v + W(u, u). It reads u at
    p + u(p), where to first order the inverse asks for p - u(p), and so pulls towards fields that are not inverse: for
    the scaling u(p) = 0.2 p towards v = -0.24 p, where the inverse is -0.167 p.

    Args:
        form: "reference", as published, or "residual".

    Raises:
        ValueError: the form is unknown.
    """

    def __init__(self, form: str = "reference") -> None:
        super().__init__()
        if form not in ("residual", "reference"):
            raise ValueError(f"BidirectionalConsistency: form must be 'residual' or 'reference', found {form!r}.")
        self.form = form

    def forward(self, forward_ddf: Tensor, backward_ddf: Tensor) -> Tensor:
        """Return the disagreement of two fields.

        Args:
            forward_ddf: displacement in voxels, (B, 3, D, H, W).
            backward_ddf: that of the other direction, same shape.

        Returns:
            scalar, in voxels squared, a mean over components and voxels.

        Raises:
            ValueError: the shapes differ.
        """
        _check_shapes("BidirectionalConsistency", forward_ddf, backward_ddf)
        if self.form == "reference":
            return (backward_ddf + warp(forward_ddf, forward_ddf)).square().mean()
        there, back = compose(forward_ddf, backward_ddf), compose(backward_ddf, forward_ddf)
        return there.square().mean() + back.square().mean()


class MixMisalignment(nn.Module):
    """MMR: the segmentation of a mixture of two misaligned images should be the mixture of their segmentations.

    Mean squared difference. A network that is linear in the image costs nothing; one that is decided by how misaligned
    structures happen to overlap does. All three predictions receive the gradient.

    Args:
        space: compare "logits", as published, or "probs".

    Raises:
        ValueError: the space is unknown.
    """

    def __init__(self, space: str = "logits") -> None:
        super().__init__()
        if space not in ("logits", "probs"):
            raise ValueError(f"MixMisalignment: space must be 'logits' or 'probs', found {space!r}.")
        self.space = space

    def forward(self, mixed_pred: Tensor, first_pred: Tensor, second_pred: Tensor, first_share: Tensor) -> Tensor:
        """Return the mean over batch, channels and voxels.

        Args:
            mixed_pred: logits of the mixture, (B, C, D, H, W).
            first_pred: logits of the first image, same shape.
            second_pred: logits of the second image, same shape.
            first_share: share of the first image in the mixture, (B, 1, 1, 1, 1).

        Returns:
            scalar.

        Raises:
            ValueError: the shapes of the predictions differ.
        """
        _check_shapes("MixMisalignment", mixed_pred, first_pred, second_pred)
        predictions = (mixed_pred, first_pred, second_pred)
        if self.space == "probs":
            predictions = tuple(pred.softmax(dim=1) for pred in predictions)
        mixed, first, second = predictions
        return (mixed - torch.lerp(second, first, first_share)).square().mean()


def _check_shapes(name: str, *tensors: Tensor) -> None:
    """Refuse tensors that broadcasting would silently combine."""
    if len(shapes := {tuple(tensor.shape) for tensor in tensors}) > 1:
        raise ValueError(f"{name}: expected tensors of one shape, found {sorted(shapes)}. Bring them to one grid.")
