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
"""Networks of the methods compared with that MONAI does not have: 3D FCN, 3D SegNet, the appearance network of DataAug.

And two wrappers that let networks of MONAI stand where one volume comes in and one of the same size goes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from .sizes import check_multiple, required_multiple


def two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions of 3 voxels, each with instance norm and ReLU."""
    widths = [in_channels, out_channels, out_channels]
    return nn.Sequential(
        *(Convolution(3, i, o, act="RELU", norm="INSTANCE") for i, o in zip(widths, widths[1:], strict=False))
    )


class FCN(nn.Module):
    """A fully convolutional network in 3D: scores at several scales, upsampled and summed.

    Long, Shelhamer, Darrell: "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. As there, features
    are never brought back to a finer scale, only class scores are: those of the coarsest level are upsampled, added to
    the scores of the next finer one, and so on up to half resolution (stride 8 there), then upsampled to full
    resolution. Upsampling is linear, which is how the learnt one of the publication starts.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        channels: width of each level; the first is at full resolution, each further one at half the one before.

    Raises:
        ValueError: with fewer than two levels, or an input whose sides are no multiples of ``multiple``.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.multiple = halvings("FCN", channels)
        inputs = [in_channels, *channels]
        self.levels = nn.ModuleList(two_convolutions(i, o) for i, o in zip(inputs, channels, strict=False))
        self.scores = nn.ModuleList(nn.Conv3d(width, out_channels, kernel_size=1) for width in channels[1:])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores (B, out_channels, D, H, W), logits, of images (B, in_channels, D, H, W)."""
        if not torch.jit.is_scripting():
            check_multiple(image.shape[2:], self.multiple, "FCN")
        features: list[torch.Tensor] = []
        for depth, level in enumerate(self.levels):
            features.append(level(F.max_pool3d(features[-1], 2) if depth > 0 else image))
        scores: list[torch.Tensor] = []
        for depth, score in enumerate(self.scores, start=1):
            scores.append(score(features[depth]))
        total = scores.pop()
        while scores:
            total = double(total) + scores.pop()
        return double(total)


class SegNet(nn.Module):
    """SegNet in 3D: an encoder, and a decoder that puts features back to where max-pooling took them from.

    Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
    Segmentation", TPAMI 2017. There are no skip connections: what the decoder learns of places are the indices of the
    pooling. Instance norm instead of batch norm, and two convolutions at each level.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        channels: width of each level; the first is at full resolution, each further one at half the one before.

    Raises:
        ValueError: with fewer than two levels, or an input whose sides are no multiples of ``multiple``.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.multiple = halvings("SegNet", channels)
        inputs = [in_channels, *channels]
        self.encoder = nn.ModuleList(two_convolutions(i, o) for i, o in zip(inputs, channels, strict=False))
        # before it is unpooled, a map needs the width of the level whose indices it is unpooled with
        upwards = list(zip(channels[1:], channels, strict=False))[::-1]
        self.narrow = nn.ModuleList(Convolution(3, i, o, act="RELU", norm="INSTANCE") for i, o in upwards)
        self.decoder = nn.ModuleList(two_convolutions(o, o) for _, o in upwards)
        self.score = nn.Conv3d(channels[0], out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Class scores (B, out_channels, D, H, W), logits, of images (B, in_channels, D, H, W)."""
        if not torch.jit.is_scripting():
            check_multiple(image.shape[2:], self.multiple, "SegNet")
        features = image
        indices: list[torch.Tensor] = []
        for depth, encode in enumerate(self.encoder):
            if depth > 0:
                features, index = F.max_pool3d(features, 2, return_indices=True)
                indices.append(index)
            features = encode(features)
        for narrow, decode in zip(self.narrow, self.decoder, strict=True):
            features = decode(F.max_unpool3d(narrow(features), indices.pop(), 2))
        return self.score(features)


class AppearanceNetwork(nn.Module):
    """Predicts what has to be added to an image to give it the intensities of another one on the same grid.

    The appearance transform of DataAug (Zhao, Balakrishnan, Durand, Guttag, Dalca: "Data augmentation using learned
    transformations for one-shot medical image segmentation", CVPR 2019, Section 3.1). Other than the plain difference
    of the two images, its output is smooth within a structure, so it holds no traces of misaligned anatomy.

    Args:
        network: maps the two images (B, 2, D, H, W) to one map (B, 1, D, H, W), such as a U-Net.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.multiple = required_multiple([network])

    def forward(self, image: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Predict the change of intensity psi.

        Args:
            image: what is to be changed (B, 1, D, H, W), intensities in [0, 1].
            style: what it is to look like, on the same grid.

        Returns:
            psi (B, 1, D, H, W), to be added to ``image``.
        """
        return self.network(torch.cat([image, style], dim=1))


class Padded(nn.Module):
    """Lets a network take volumes of any size: pads them with zeros around, and crops the output back.

    Args:
        network: one tensor in, one of the same spatial shape out.
        multiple: what every side has to be a multiple of for ``network``. Other sides are padded up to the next one.

    Raises:
        ValueError: when ``multiple`` is below 1.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        if multiple < 1:
            raise ValueError(f"Padded: multiple must be at least 1, got {multiple}.")
        self.network, self.to_multiple = network, multiple

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The output of ``network`` for images (B, C, D, H, W), on their own grid."""
        missing = [-side % self.to_multiple for side in image.shape[2:]]
        widths: list[int] = []
        for lack in missing[::-1]:  # F.pad counts from the last axis on
            widths += [lack // 2, lack - lack // 2]
        output = self.network(F.pad(image, widths))
        for axis, lack in enumerate(missing, start=2):
            output = output.narrow(axis, lack // 2, image.shape[axis])
        return output


class LastOutput(nn.Module):
    """Takes the last one of the outputs of a network that returns a list of them, such as MONAI's U-Net++.

    Args:
        network: one tensor in, a list of tensors out, the final one last.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The last output of ``network``."""
        return self.network(image)[-1]


def halvings(name: str, channels: Sequence[int]) -> int:
    """What every side must be a multiple of for a network with that many levels."""
    if len(channels) < 2:
        raise ValueError(f"{name}: a network needs at least two levels, got channels={list(channels)}.")
    return 2 ** (len(channels) - 1)


def double(scores: torch.Tensor) -> torch.Tensor:
    return F.interpolate(scores, scale_factor=2.0, mode="trilinear")
