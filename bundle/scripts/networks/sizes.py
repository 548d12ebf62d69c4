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
"""What sizes and channels of volumes a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn


def required_multiple(networks: Sequence[nn.Module]) -> int:
    """The number that every side of a volume must be a multiple of, for all the networks at once.

    Args:
        networks: any of the networks of a config; those that state nothing (no ``multiple``, no ``strides``) need 1.

    Returns:
        Least common multiple of what each network needs.
    """
    return math.lcm(*(multiple_of(network) for network in networks))


def multiple_of(network: nn.Module) -> int:
    """What every side of a volume has to be a multiple of for one network: its ``multiple``, else by its strides."""
    if hasattr(network, "multiple"):
        return int(network.multiple)
    strides = getattr(network, "strides", ())  # of MONAI's UNet: an int or a triple for each level
    return math.prod(s if isinstance(s, int) else max(s) for s in strides)


def single_voxel_side(networks: Sequence[nn.Module]) -> int:
    """The side of a cube of which a network has a single voxel left where it is coarsest, and cannot normalise it.

    Args:
        networks: any of the networks of a config.

    Returns:
        The largest of those with instance norm; 0 where none has one.
    """
    pooled = [network for network in networks if getattr(network, "pool", 1) == 1]  # a discriminator sees to itself
    normalised = [n for n in pooled if any(isinstance(m, nn.InstanceNorm3d) for m in n.modules())]
    return max((multiple_of(network) for network in normalised), default=0)


def check_multiple(shape: Sequence[int], multiple: int, name: str) -> None:
    """Refuse a volume whose sides are not multiples of what a network needs.

    Args:
        shape: the spatial shape (D, H, W) in voxels.
        multiple: what every side must be a multiple of.
        name: who needs it, for the message.

    Raises:
        ValueError: naming the multiple and the nearest larger shape that fits.
    """
    if any(side % multiple for side in shape):
        fitting = tuple(math.ceil(side / multiple) * multiple for side in shape)
        raise ValueError(
            f"{name}: every side of a volume must be a multiple of {multiple}, got {tuple(shape)}. "
            f"Set `spatial_size` to {list(fitting)}, or use a network with fewer levels."
        )


def check_channels(found: int, expected: int, name: str) -> None:
    """Refuse images of another number of channels than the network was made for.

    Args:
        found: channels of each of the two subjects.
        expected: those of the network.
        name: whose they are, for the message.

    Raises:
        ValueError: naming both numbers, and what to look at.
    """
    if found != expected:
        raise ValueError(
            f"{name}: the recipe shows it {found} channels of each image, and it was made for {expected}. A config "
            "file replaces `registration_def`: put that file before the recipe, or after it and with the number of "
            "channels that the recipe has (`in_channels` of VoxelMorph2, half of that of a U-Net)."
        )
