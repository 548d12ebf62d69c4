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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.local_ncc import LocalNCC

__all__ = [
    "AdversarialLoss",
    "AlignmentConfidenceLoss",
    "DiscriminatorLoss",
    "LocalNCC",
    "RegionConstraint",
    "Smoothness",
    "WarpedCrossEntropy",
    "soft_cross_entropy",
]


def _check_same_shape(name: str, first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Refuse a pair of tensors that broadcasting would silently combine."""
    if first.shape != second.shape:
        raise ValueError(
            f"{name}: {first_name} and {second_name} must have one shape, found {tuple(first.shape)} and "
            f"{tuple(second.shape)}. Resample or one-hot encode one of them first."
        )


def _check_channel_reduction(name: str, channel_reduction: str) -> None:
    """Refuse a reduction that the cross-entropy does not know."""
    if channel_reduction not in ("sum", "mean"):
        raise ValueError(f"{name}: channel_reduction must be 'sum' or 'mean', found {channel_reduction!r}.")


def _in_float32(*tensors: Tensor) -> list[Tensor]:
    """Raise half precision to float32, leave float64 as it is, and drop subclasses, whose dispatch costs time."""
    return [tensor.as_subclass(Tensor).to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def _without_autocast(tensor: Tensor) -> torch.autocast:
    """Return the context that switches autocast off on the device of `tensor`."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


class Smoothness(nn.Module):
    """Mean squared forward difference of a displacement field, averaged over the three axes.

    The field of a registration is under-determined where the images are flat; this L2 penalty picks the smoothest one.
    Forward differences also see the checkerboard that central differences miss (+-1 in every component costs 4 here
    and 0 there). A constant shift, the identity included, costs nothing; the scaling ddf(p) = s p costs s^2 / 3.
    """

    def forward(self, ddf: Tensor) -> Tensor:
        """Return the penalty of a field.

        Args:
            ddf: displacement in voxels, (B, 3, D, H, W), every axis at least 2 long.

        Returns:
            scalar, in voxels squared.

        Raises:
            ValueError: the field is not five-dimensional or an axis is a single voxel.
        """
        if ddf.ndim != 5 or min(ddf.shape[2:]) < 2:
            raise ValueError(
                f"Smoothness: ddf must be (B, 3, D, H, W) with at least 2 voxels per axis, found {tuple(ddf.shape)}."
            )
        with _without_autocast(ddf):
            (field,) = _in_float32(ddf)
            return sum(field.diff(dim=axis).square().mean() for axis in (2, 3, 4)) / 3


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
    _check_channel_reduction("soft_cross_entropy", channel_reduction)
    entropy = _voxel_cross_entropy("soft_cross_entropy", pred, target, "target").mean()
    return entropy / pred.shape[1] if channel_reduction == "mean" else entropy


def _voxel_cross_entropy(name: str, pred: Tensor, target: Tensor, target_name: str) -> Tensor:
    """Return -sum_c target log softmax(pred) of every voxel, (B, 1, D, H, W)."""
    _check_same_shape(name, pred, target, "pred", target_name)
    with _without_autocast(pred):
        logits, weights = _in_float32(pred, target)
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
        _check_channel_reduction("WarpedCrossEntropy", channel_reduction)
        self.channel_reduction = channel_reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of logits `pred` against the soft label `target`, both (B, C, D, H, W)."""
        return soft_cross_entropy(pred, target, self.channel_reduction)


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
        entropy = _voxel_cross_entropy("AlignmentConfidenceLoss", fixed_pred, warped_label.detach(), "warped_label")
        return (confidence.detach() * entropy).mean()


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
        _check_same_shape("RegionConstraint", warped_prob, fixed_prob, "warped_prob", "fixed_prob")
        with _without_autocast(warped_prob):
            warped, fixed = _in_float32(warped_prob, fixed_prob.detach())
            return (warped - fixed).square().mean()


class AdversarialLoss(nn.Module):
    """Registration's reward for a pair that the discriminator takes for aligned, -mean log d.

    The non-saturating form has the fixed point of log(1 - d) and a gradient that does not vanish while the
    discriminator is still sure of itself.
    """

    def forward(self, alignment_logits: Tensor) -> Tensor:
        """Return -mean log sigmoid of the discriminator's logits of the warped pair, any shape."""
        with _without_autocast(alignment_logits):
            (logits,) = _in_float32(alignment_logits)
            return F.softplus(-logits).mean()


class DiscriminatorLoss(nn.Module):
    """Binary cross-entropy of the pixel-wise discriminator on an aligned reference and a warped pair (Eq. 5).

    Args:
        pause_below: the discriminator rests (loss and gradient 0) while its mean score of warped pairs is at or below
            this value, that is, while it is winning; None never pauses. The decision stays on the device.

    Raises:
        ValueError: `pause_below` is not in [0, 1).
    """

    def __init__(self, pause_below: float | None = None) -> None:
        super().__init__()
        if pause_below is not None and not 0 <= pause_below < 1:
            raise ValueError(
                f"DiscriminatorLoss: pause_below is a mean probability in [0, 1) or None, found {pause_below}."
            )
        self.pause_below = pause_below

    def forward(self, reference_logits: Tensor, alignment_logits: Tensor) -> Tensor:
        """Return -mean log d(reference) - mean log(1 - d(warped)).

        Args:
            reference_logits: logits of the pair that counts as aligned, any shape.
            alignment_logits: logits of the warped pair (warped image detached by the caller), any shape.

        Returns:
            scalar, 2 log 2 for a discriminator that cannot tell the two apart (logits 0).
        """
        with _without_autocast(reference_logits):
            reference, alignment = _in_float32(reference_logits, alignment_logits)
            loss = F.softplus(-reference).mean() + F.softplus(alignment).mean()
            if self.pause_below is None:
                return loss
            active = alignment.detach().sigmoid().mean() > self.pause_below
            return loss * active
