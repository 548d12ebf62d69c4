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
"""The networks that MONAI does not have: VoxelMorph-2 as published, a U-Net that registers, a pair discriminator.

Segmentation networks come from MONAI by config. The networks here take the two images of a pair as two arguments,
so that the rest of the bundle never has to know how they are stacked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..fields.warping import integrate
from .sizes import check_channels, check_multiple, multiple_of


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=0.2)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.LeakyReLU(0.2))


class VoxelMorph2(nn.Module):
    """VoxelMorph-2, the registration network of DeepRS (Section 4.1).

    Strided convolutions down, nearest-neighbour upsampling and skip connections up, two convolutions at full
    resolution on features and raw images, and a last one to three channels. No normalisation. The last convolution
    starts with tiny weights, so an untrained network returns the identity field to within a thousandth of a voxel.

    Args:
        encoder_channels: output channels of the encoder's convolutions, each of stride 2. Four levels in the paper;
            the sides of a volume must be multiples of ``2 ** len(encoder_channels)``.
        decoder_channels: one convolution at each level from the coarsest up to half resolution, one more at half
            resolution, and two at full resolution: ``len(encoder_channels) + 3`` numbers. With ``half_resolution``
            the last two fall away.
        half_resolution: predict the field at half resolution and upsample it linearly. The field is smoother, and
            the convolutions at full resolution, most of the cost, are saved.
        flow_init_std: standard deviation of the initial weights of the last convolution.
        in_channels: channels of each of the two inputs.
        integration_steps: take what the last convolution puts out for a stationary velocity, and integrate it by this
            many squarings into a field that does not fold. 0, as in the paper: it is the field itself.

    Raises:
        ValueError: when the channel lists do not fit together.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int] = (16, 32, 32, 32),
        decoder_channels: Sequence[int] = (32, 32, 32, 32, 32, 16, 16),
        half_resolution: bool = False,
        flow_init_std: float = 1e-5,
        in_channels: int = 1,
        integration_steps: int = 0,
    ) -> None:
        super().__init__()
        levels = len(encoder_channels)
        expected = levels + (1 if half_resolution else 3)
        if levels < 1 or len(decoder_channels) != expected:
            raise ValueError(
                f"VoxelMorph2: {levels} encoder channels with half_resolution={half_resolution} "
                f"need {expected} decoder channels, got {len(decoder_channels)}: {tuple(decoder_channels)}."
            )
        self.multiple, self.in_channels = 2**levels, in_channels
        self.half_resolution, self.integration_steps = half_resolution, integration_steps
        inputs = [2 * in_channels, *encoder_channels]
        self.encoder = nn.ModuleList(_conv(i, o, stride=2) for i, o in zip(inputs, encoder_channels, strict=False))
        # decoder_channels[0] works at the coarsest level; each following one sees the skip of the next finer level
        self.bottom = _conv(encoder_channels[-1], decoder_channels[0])
        skips = list(reversed(encoder_channels[:-1]))
        self.decoder = nn.ModuleList(
            _conv(decoder_channels[i] + skip, decoder_channels[i + 1]) for i, skip in enumerate(skips)
        )
        self.at_half = _conv(decoder_channels[levels - 1], decoder_channels[levels])
        self.at_full = nn.Sequential()
        if not half_resolution:
            first, second = decoder_channels[levels + 1 :]
            self.at_full = nn.Sequential(_conv(decoder_channels[levels] + 2 * in_channels, first), _conv(first, second))
        self.upsample = nn.Upsample(scale_factor=2.0, mode="trilinear")
        self.flow = nn.Conv3d(decoder_channels[-1], 3, kernel_size=3, padding=1)
        nn.init.normal_(self.flow.weight, std=flow_init_std)
        nn.init.zeros_(self.flow.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Predict the field that pulls ``moving`` onto ``fixed``.

        Args:
            moving: images (B, in_channels, D, H, W), intensities in [0, 1].
            fixed: images of the same shape.

        Returns:
            Displacement (B, 3, D, H, W) in voxels of the fixed grid, channels in array order.

        Raises:
            ValueError: when a side of the volume is no multiple of what the network needs, or an image has other
                channels.
        """
        images = torch.cat([moving, fixed], dim=1)
        features = self._at_half(images)
        if self.half_resolution:
            return self.upsample(self._field(features, voxel=2.0))
        features = self.at_full(torch.cat([F.interpolate(features, scale_factor=2.0), images], dim=1))
        return self._field(features, voxel=1.0)

    def velocity(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """What the last convolution of a network with ``half_resolution`` puts out.

        Returns:
            (B, 3, D/2, H/2, W/2), in voxels of the fixed grid.
        """
        return self.flow(self._at_half(torch.cat([moving, fixed], dim=1)))

    def _at_half(self, images: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():
            check_multiple(images.shape[2:], self.multiple, "VoxelMorph2")
            check_channels(images.shape[1] // 2, self.in_channels, "VoxelMorph2")
        features = images
        skips: list[torch.Tensor] = []
        for encode in self.encoder:
            features = encode(features)
            skips.append(features)
        features = self.bottom(skips.pop())
        for decode in self.decoder:
            features = decode(torch.cat([F.interpolate(features, scale_factor=2.0), skips.pop()], dim=1))
        return self.at_half(features)

    def _field(self, features: torch.Tensor, voxel: float) -> torch.Tensor:
        flow = self.flow(features)  # in voxels of the full grid, of which one of this grid holds `voxel`
        if not self.integration_steps:
            return flow
        return voxel * integrate(flow.float() / voxel, self.integration_steps)


class RegistrationUNet(nn.Module):
    """A U-Net as registration network: R of PC-Reg and BRBS.

    Wraps any network that keeps the size of a volume, and predicts the field from its last features. That convolution
    is its own because a small start cannot be had from outside: the last unit of MONAI's ``UNet`` adds its input to
    what it computes. The wrapped network starts as it likes; the field starts as the identity to within a hundredth of
    a voxel.

    Args:
        network: maps the stacked images (B, 2 C, D, H, W) to features (B, ``features``, D, H, W).
        features: channels that ``network`` puts out.
        flow_init_std: standard deviation of the initial weights of the last convolution; its bias starts at 0.
    """

    def __init__(self, network: nn.Module, features: int, flow_init_std: float = 1e-5) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple_of(network)
        self.flow = nn.Conv3d(features, 3, kernel_size=3, padding=1)
        nn.init.normal_(self.flow.weight, std=flow_init_std)
        nn.init.zeros_(self.flow.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Predict the field that pulls ``moving`` onto ``fixed``.

        Args:
            moving: images, or stacks of regions, (B, C, D, H, W), intensities in [0, 1].
            fixed: the same of the fixed subject, of the same shape.

        Returns:
            Displacement (B, 3, D, H, W) in voxels of the fixed grid, channels in array order.

        Raises:
            ValueError: when a side of the volume is no multiple of what the network needs, or a stack has other
                channels.
        """
        if not torch.jit.is_scripting():
            check_multiple(fixed.shape[2:], self.multiple, "RegistrationUNet")
            if hasattr(self.network, "in_channels"):  # of MONAI's UNet, both subjects together
                check_channels(moving.shape[1], self.network.in_channels // 2, "RegistrationUNet")
        return self.flow(self.network(torch.cat([moving, fixed], dim=1)))
