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
"""What one group of updates takes from the groups before it, instead of computing it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from monai.networks.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from .parts import Shared


class Exchange:
    """Quantities of a pair that are exact for the next group of updates: no network they are made by has moved since.

    Networks whose forward pass is another one each time (dropout, statistics of batches) share nothing.

    Args:
        networks: name -> network, of the trainer.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = networks
        self.held: dict[str, tuple[Tensor, Shared]] = {}

    def take(self, state: Any, quantities: Mapping[str, Tensor], moved: Collection[str]) -> None:
        """Keep what may be shared, unless a network that it is made by is among those that have moved since.

        Args:
            state: the class of the state, or a partial of it.
            quantities: that a group has computed.
            moved: names of networks.
        """
        for name, source in sharing(state).items():
            if name in quantities and all(map(self._repeats, source.made_by)):
                self.held[name] = (quantities[name], source)
        self.held = {name: held for name, held in self.held.items() if not held[1].made_by & set(moved)}

    def given(self, learning: Collection[str]) -> dict[str, Tensor]:
        """What a group may take that teaches these networks: with the graph where it teaches one, else without."""
        given = {}
        for name, (value, source) in self.held.items():
            if not source.taught & set(learning):
                given[name] = value.detach()
            elif value.requires_grad:
                given[name] = value
        return given

    def _repeats(self, name: str) -> bool:
        return name in self.networks and not any(map(_is_drawn, self.networks[name].modules()))


def sharing(state: Any) -> Mapping[str, Shared]:
    """What a state class, or a partial of it, shares; a function that makes a state shares nothing."""
    return getattr(state.func if isinstance(state, partial) else state, "shared", {})


def keeping(state: Any) -> frozenset[str]:
    """Names of the networks whose graph is worth keeping for the next group, where that one teaches them."""
    return frozenset().union(*(source.taught for source in sharing(state).values()))


def _is_drawn(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, (DropPath, nn.RReLU)):
        return getattr(module, "drop_prob", 1) > 0
    return isinstance(module, _NormBase) and module.track_running_stats
