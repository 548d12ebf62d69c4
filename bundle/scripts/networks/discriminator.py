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
"""The pixel-wise discriminator D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .sizes import multiple_of


class PairDiscriminator(nn.Module):
    """A pixel-wise discriminator: is this candidate aligned with the fixed image, voxel by voxel? (DeepRS, Eq. 5)

    Wraps any network of two input channels and one output channel; the paper uses the structure of the segmentation
    network. The two optional handicaps keep it from winning at once by the interpolation blur of warped images
    (``docs/methods.md``, "Where the confidence comes from"): with both off this is the paper's discriminator.

    Args:
        network: maps (B, 2, D, H, W) to logits (B, 1, D, H, W).
        pool: average pooling of the inputs by this factor, and linear upsampling of the logits; 1 is off. Volumes so
            small that the network would end in a single voxel, which it cannot normalise, are not pooled.
        noise_std: standard deviation of Gaussian noise added to both inputs in training; 0 is off. With ``pool`` it is
            drawn behind that, as the mean of so many draws.

    Raises:
        ValueError: when ``pool`` is below 1 or ``noise_std`` is negative.
    """

    def __init__(self, network: nn.Module, pool: int = 1, noise_std: float = 0.0) -> None:
        super().__init__()
        if pool < 1 or noise_std < 0:
            raise ValueError(f"PairDiscriminator: pool must be >= 1 and noise_std >= 0, got {pool} and {noise_std}.")
        self.network, self.pool, self.noise_std = network, pool, noise_std
        self.upsample = nn.Upsample(scale_factor=float(pool), mode="trilinear")
        self.multiple = pool * multiple_of(network)

    def forward(self, candidate: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Score a candidate against the fixed image.

        Args:
            candidate: warped or reference images (B, 1, D, H, W), intensities in [0, 1].
            fixed: images of the same shape.

        Returns:
            Logits (B, 1, D, H, W); their sigmoid is the probability that the voxel is aligned.
        """
        images = torch.cat([candidate, fixed], dim=1)
        is_pooled = self.pool > 1 and max(images.shape[2:]) > self.multiple
        noise_std = self.noise_std
        if is_pooled:
            images = F.avg_pool3d(images, self.pool)
            noise_std = noise_std / self.pool**1.5  # that of a mean of pool^3 voxels
        if self.training and noise_std > 0:
            images = images + noise_std * torch.randn_like(images)
        logits = self.network(images)
        if not is_pooled:
            return logits
        if [self.pool * side for side in logits.shape[2:]] != list(candidate.shape[2:]):  # a network with strides
            return F.interpolate(logits, size=candidate.shape[2:], mode="trilinear")
        return self.upsample(logits)
