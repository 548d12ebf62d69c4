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
"""Networks that give back what they are shown: the U-Net with two decoders of MASSL, and a variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import VarAutoEncoder
from torch import nn

from .baselines import double, halvings, two_convolutions
from .sizes import check_multiple


class ReconstructingUNet(nn.Module):
    """One encoder and two decoders: one segments, with skip connections; the other reconstructs, without (MASSL).

    Chen et al.: "Multi-Task Attention-Based Semi-Supervised Learning for Medical Image Segmentation", MICCAI 2019. As
    in the authors' public program, the reconstruction has no skip connections, through which it could learn to copy.

    Args:
        in_channels: channels of the image.
        out_channels: classes; the reconstruction has as many channels, one for the part of the image of each class.
        channels: width of each level; the first is at full resolution, each further one at half the one before.

    Raises:
        ValueError: with fewer than two levels, or an input whose sides are no multiples of ``multiple``.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.multiple = halvings("ReconstructingUNet", channels)
        inputs = [in_channels, *channels]
        self.encoder = nn.ModuleList(two_convolutions(i, o) for i, o in zip(inputs, channels, strict=False))
        upwards = list(zip(channels[1:], channels, strict=False))[::-1]
        self.segment = nn.ModuleList(two_convolutions(i + o, o) for i, o in upwards)
        self.score = nn.Conv3d(channels[0], out_channels, kernel_size=1)
        self.reconstruct = nn.ModuleList(two_convolutions(i, o) for i, o in upwards)
        self.paint = nn.Conv3d(channels[0], out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores (B, out_channels, D, H, W), logits, of images (B, in_channels, D, H, W)."""
        return self._segment(self._encode(image))

    def both(self, image: torch.Tensor) -> torch.Tensor:
        """The scores and then the reconstructions, (B, 2 out_channels, D, H, W), from one pass of the encoder."""
        levels = self._encode(image)
        features = levels[-1]
        for decode in self.reconstruct:
            features = decode(double(features))
        return torch.cat([self._segment(levels), self.paint(features)], dim=1)

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        if not torch.jit.is_scripting():
            check_multiple(image.shape[2:], self.multiple, "ReconstructingUNet")
        levels: list[torch.Tensor] = []
        for depth, encode in enumerate(self.encoder):
            levels.append(encode(F.max_pool3d(levels[-1], 2) if depth > 0 else image))
        return levels

    def _segment(self, levels: list[torch.Tensor]) -> torch.Tensor:
        features, finer = levels[-1], len(levels) - 1
        for decode in self.segment:
            finer -= 1
            features = decode(torch.cat([double(features), levels[finer]], dim=1))
        return self.score(features)


class CoarseVAE(nn.Module):
    """MONAI's variational autoencoder for volumes without fine detail: it sees them at a lower resolution.

    No normalisation, which would take away how large a field is. Upsampling is linear, so what is decoded is smooth.

    Args:
        channels_of_volume: of what is encoded: 3 for a field, 1 for an intensity change.
        spatial_size: sides (D, H, W) of all volumes, multiples of ``multiple``.
        latent_size: numbers in a code.
        channels: width of each level, each at half the resolution of the one before.
        pool: by how much the resolution is lower than that of the volumes.

    Raises:
        ValueError: a side is no multiple of ``multiple``.
    """

    def __init__(
        self,
        channels_of_volume: int,
        spatial_size: Sequence[int],
        latent_size: int = 32,
        channels: Sequence[int] = (16, 32),
        pool: int = 2,
    ) -> None:
        super().__init__()
        self.pool, self.latent_size, self.multiple = pool, latent_size, pool * 2 ** len(channels)
        check_multiple(spatial_size, self.multiple, "CoarseVAE")
        self.network = VarAutoEncoder(
            3,
            in_shape=[channels_of_volume, *(side // pool for side in spatial_size)],
            out_channels=channels_of_volume,
            latent_size=latent_size,
            channels=channels,
            strides=[2] * len(channels),
            act="LEAKYRELU",
            norm=None,
            use_sigmoid=False,
        )

    def encode(self, volume: torch.Tensor) -> torch.Tensor:
        """Mean and log variance of the codes of volumes (B, C, D, H, W): (B, 2, latent_size)."""
        return torch.stack(self.network.encode_forward(F.avg_pool3d(volume, self.pool)), dim=1)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """The volumes (B, C, D, H, W) of codes (B, latent_size)."""
        coarse = self.network.decode_forward(code, use_sigmoid=False)
        return F.interpolate(coarse, scale_factor=float(self.pool), mode="trilinear")

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Volumes (B, C, D, H, W) as their mean codes have them."""
        return self.decode(self.encode(volume)[:, 0])
