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
"""A network that remembers what it said of an image: in a set of pairs each image comes again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .passes import passed

REMEMBERED = 2**30  # bytes of answers


class Remembering(nn.Module):
    """A network that is not taught, whose answer to an image it has seen is taken from memory.

    Images are told apart by their voxels. What is to get a gradient, as a warped image does, passes through as ever.

    Args:
        network: maps (B, C, D, H, W) to a tensor, each member of a batch by itself, in evaluation mode.
        bytes_kept: of answers; those longest unasked for are given up first.
    """

    def __init__(self, network: nn.Module, bytes_kept: int = REMEMBERED) -> None:
        super().__init__()
        self.train(network.training)
        self.network, self.bytes_kept = network, bytes_kept
        self._known: OrderedDict[tuple, Tensor] = OrderedDict()
        self._bytes = 0

    def forward(self, images: Tensor) -> Tensor:
        """What the network says of a batch; those of it that are new are passed together."""
        if images.requires_grad and torch.is_grad_enabled():
            return self.network(images)
        keys = [self._key(image) for image in images]
        answers = {key: self._known[key] for key in keys if key in self._known}
        if new := {key: image for key, image in zip(keys, images, strict=True) if key not in answers}:
            with torch.no_grad():
                answers |= zip(new, passed(self.network, torch.stack(list(new.values()))).unbind(), strict=True)
        for key in keys:
            self._remember(key, answers[key])
        return torch.stack([answers[key] for key in keys])

    def _key(self, image: Tensor) -> tuple:
        kind = image.device.type
        amp = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return amp, image.dtype, tuple(image.shape), hash(image.detach().cpu().contiguous().numpy().tobytes())

    def _remember(self, key: tuple, answer: Tensor) -> None:
        if key not in self._known:
            self._known[key] = answer.clone()  # a member of a batch would keep all of it in memory
            self._bytes += answer.nbytes
        self._known.move_to_end(key)
        while self._bytes > self.bytes_kept:
            self._bytes -= self._known.popitem(last=False)[1].nbytes


def remembering(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Networks by name, with a segmentation network that remembers: it sees the same images in pair after pair."""
    return {name: Remembering(each) if name == "segmentation" else each for name, each in networks.items()}
