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
"""DenseBiasNet: a U-Net in which each layer also sees a few maps of all layers before it; and one with a prior.

He et al.: "Dense biased networks with deep priori anatomy and hard region adaptation: Semi-supervised learning for fine
renal artery segmentation", Medical Image Analysis 2020 (MedIA below); its first form: He et al.: "DPA-DenseBiasNet",
MICCAI 2019. Written from the abstracts, and from the authors' public program, which has the first network only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import List, Optional  # noqa: UP035  (TorchScript reads no other form)

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoEncoder
from torch import nn

from .baselines import double, halvings
from .sizes import check_multiple


class DenseBiasNet(nn.Module):
    """A U-Net of two layers a level, with dense biased connections instead of skips (DBN).

    A layer is a convolution of 3 voxels, instance norm and ReLU (the authors have group norm). It sees the layer before
    it in full and, of each one before that, a bias: ``bias_channels`` maps that a convolution of 1 voxel makes of its
    output (MedIA), brought to the resolution of the layer by max-pooling or linear upsampling (MICCAI 2019).

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        channels: width of both layers of each level; the first is at full resolution, each further one at half the one
            before. On the way up the widths return.
        bias_channels: m, what each layer passes on to all later ones.
        prior_channels: channels of further features that the first layer of each level sees on the way down; None: of
            none.

    Raises:
        ValueError: with fewer than two levels, or an input whose sides are no multiples of ``multiple``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (16, 32, 64, 128),
        bias_channels: int = 4,
        prior_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.multiple = halvings("DenseBiasNet", channels)
        down = list(range(len(channels)))
        self.levels = [level for level in [*down, *down[-2::-1]] for _ in range(2)]
        self.reads_prior = [
            prior_channels is not None and number % 2 == 0 and number < 2 * len(channels)
            for number in range(len(self.levels))
        ]
        widths = [in_channels, *(channels[level] for level in self.levels)]
        layers = []
        for number, level in enumerate(self.levels):
            width = widths[number] + bias_channels * max(number - 1, 0)
            if prior_channels is not None and self.reads_prior[number]:
                width += prior_channels[level]
            layers.append(Convolution(3, width, channels[level], act="RELU", norm="INSTANCE"))
        self.layers = nn.ModuleList(layers)
        # the last layer sees the one before it in full, and nothing sees the last one
        biases: list[nn.Module] = [nn.Conv3d(width, bias_channels, kernel_size=1) for width in widths[1:-2]]
        self.biases = nn.ModuleList([*biases, nn.Identity(), nn.Identity()])
        self.score = nn.Conv3d(channels[0], out_channels, kernel_size=1)

    def forward(
        self,
        image: torch.Tensor,
        prior: Optional[List[torch.Tensor]] = None,  # noqa: UP006, UP045
    ) -> torch.Tensor:
        """Class scores (B, out_channels, D, H, W), logits, of images (B, in_channels, D, H, W).

        Args:
            image: what is segmented.
            prior: with ``prior_channels``, features of each level, the finest first, each at its level's resolution.
        """
        if not torch.jit.is_scripting():
            check_multiple(image.shape[2:], self.multiple, "DenseBiasNet")
        features, at = image, 0
        passed: list[torch.Tensor] = []
        for layer, bias in zip(self.layers, self.biases, strict=True):
            number = len(passed)
            level = self.levels[number]
            seen = [_coarser(features, level - at)]
            for earlier in range(number - 1):
                seen.append(_coarser(passed[earlier], level - self.levels[earlier]))
            if prior is not None and self.reads_prior[number]:
                seen.append(prior[level])
            features, at = layer(torch.cat(seen, dim=1)), level
            passed.append(bias(features))
        return self.score(features)


class PriorDenseBiasNet(nn.Module):
    """DPA-DBN: DenseBiasNet that also sees the features of an autoencoder of images (deep priori anatomy).

    The autoencoder, ``prior``, learns from images alone by :meth:`restore`; ``segmenter`` learns from labels. Where the
    features enter is not in the material at hand: chosen here is each scale of the encoder, beside the level of
    DenseBiasNet that has its resolution.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        channels, bias_channels: of :class:`DenseBiasNet`.
        prior_channels: width of the autoencoder at each level, as many as ``channels``.

    Raises:
        ValueError: the two have different numbers of levels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (16, 32, 64, 128),
        bias_channels: int = 4,
        prior_channels: Sequence[int] = (8, 16, 32, 64),
    ) -> None:
        super().__init__()
        if len(prior_channels) != len(channels):
            raise ValueError(
                "PriorDenseBiasNet: channels and prior_channels need a width for each level, "
                f"got {list(channels)} and {list(prior_channels)}."
            )
        strides = [1, *(2 for _ in prior_channels[1:])]
        self.prior = AutoEncoder(3, in_channels, in_channels, prior_channels, strides, act="RELU", norm="INSTANCE")
        self.segmenter = DenseBiasNet(in_channels, out_channels, channels, bias_channels, prior_channels)
        self.multiple = self.segmenter.multiple

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores (B, out_channels, D, H, W), logits, of images (B, in_channels, D, H, W)."""
        if not torch.jit.is_scripting():
            check_multiple(image.shape[2:], self.multiple, "PriorDenseBiasNet")
        features = image
        prior: list[torch.Tensor] = []
        for encode in self.prior.encode:
            features = encode(features)
            prior.append(features)
        return self.segmenter(image, prior)

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """What the autoencoder makes of images (B, in_channels, D, H, W), of the same shape."""
        return self.prior(image)


def _coarser(features: torch.Tensor, levels: int) -> torch.Tensor:
    """Features so many levels coarser, or finer where the number is negative."""
    for _ in range(levels):
        features = F.max_pool3d(features, 2)
    for _ in range(-levels):
        features = double(features)
    return features
