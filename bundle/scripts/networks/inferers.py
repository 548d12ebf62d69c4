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
"""How a segmentation network is applied to a volume, beyond passing it once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.layers import AffineTransform
from monai.transforms.utils import create_rotate, create_scale, create_translate
from torch import Tensor

from ..fields.trilinear import Places

COPIES_AT_ONCE = 2  # in float32 PyTorch's convolutions of one small volume are slow on CPUs; more gain nothing there
LARGEST_KEPT = 2**18  # voxels: of smaller volumes it is kept where a move takes them, 16 bytes a voxel
KEPT = 32  # moves, there and back


class MovedCopiesInferer(Inferer):
    """Averages what a network says of the volume and of slightly moved copies of it, each brought back.

    What is random in a prediction differs between copies and averages out (test-time augmentation). The moves are drawn
    once, from ``seed``, so the same volume always gets the same prediction. With no copies it is one plain pass. The
    network sees two or three copies at a time, as a batch, whose members it must treat alone, as with instance norm.

    Args:
        copies: how many, beside the volume itself.
        degrees: largest rotation about each axis.
        scale: largest relative change of size.
        shift: largest translation along each axis, in voxels.
        seed: of the moves.

    Raises:
        ValueError: ``copies`` is negative.
    """

    def __init__(
        self, copies: int = 12, degrees: float = 5.0, scale: float = 0.05, shift: float = 2.0, seed: int = 0
    ) -> None:
        super().__init__()
        if copies < 0:
            raise ValueError(f"MovedCopiesInferer: `copies` should be 0 or more, found {copies}.")
        drawn = 2 * torch.rand(copies, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1
        radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)).item()
        self.moves = [_move(radians * d[:3], 1 + scale * d[3], shift * d[4:]) for d in drawn]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Apply the network.

        Args:
            inputs: volumes (B, C, D, H, W).
            network: gives logits (B, K, D, H, W).
            args, kwargs: for the network.

        Returns:
            Logarithms of the mean class probabilities, (B, K, D, H, W): logits like any others.
        """
        moves = [None, *self.moves]
        groups = max(len(moves) // COPIES_AT_ONCE, 1)  # none has a single copy, unless there is no other
        total = 0.0
        for group in (moves[first::groups] for first in range(groups)):
            copies = torch.cat([inputs if move is None else _moved(inputs, move) for move in group])
            probabilities = network(copies, *args, **kwargs).float().softmax(dim=1).chunk(len(group))
            for probability, move in zip(probabilities, group, strict=True):
                total = total + (probability if move is None else _moved(probability, torch.linalg.inv(move)))
        return (total / len(moves)).clamp_min(1e-7).log()


def _move(angles: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Rotation and scale about the centre, then a shift, in voxels: (4, 4)."""
    size = create_scale(3, [float(scale)] * 3)
    matrix = create_translate(3, shift.tolist()) @ create_rotate(3, angles.tolist()) @ size
    return torch.as_tensor(matrix, dtype=torch.float64)


def _moved(volume: Tensor, move: Tensor) -> Tensor:
    center = [(side - 1) / 2 for side in volume.shape[2:]]
    there, back = (torch.as_tensor(create_translate(3, [sign * c for c in center])) for sign in (1, -1))
    matrix = there @ move @ back
    if volume.device.type == "cpu" and volume[0, 0].numel() <= LARGEST_KEPT and not torch.is_grad_enabled():
        return _places(tuple(volume.shape[2:]), tuple(matrix[:3].flatten().tolist())).read(volume.float())
    # not `zero_centered`, whose shifts are off by a factor of (side - 1) / side
    resample = AffineTransform(normalized=False, padding_mode="border", align_corners=True)
    # in bfloat16, as under the `amp` of training, a grid is off by a quarter of a voxel and more
    with torch.autocast(volume.device.type, enabled=False):
        return resample(volume.float(), matrix.to(volume.device, torch.float32))


@lru_cache(maxsize=KEPT)
def _places(shape: tuple[int, ...], matrix: tuple[float, ...]) -> Places:
    """Where a move takes the voxels of a volume from, by the upper three rows of its matrix."""
    with torch.inference_mode(False):
        voxels = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in shape), indexing="ij")
        matrix = torch.tensor(matrix, dtype=torch.float64).view(3, 4)
        points = matrix[:, :3] @ torch.stack(voxels).flatten(1) + matrix[:, 3:]
        return Places(points.view(3, *shape))
