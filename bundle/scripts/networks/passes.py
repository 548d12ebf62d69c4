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
"""How a network is passed through where nothing is to be learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TWICE = 2**17  # voxels: of more, two passes take longer than one


def passed(network: nn.Module, *inputs: Tensor, method: str = "__call__") -> Tensor:
    """What a network says; of one small volume on a CPU in float32, of which it is shown a batch of two.

    Where batch, channels and slices of a volume come to 20,480 or less, PyTorch's convolution of one takes two to three
    times as long as that of two. The network treats the members of a batch alone, as with instance norm.

    Args:
        network: in evaluation mode, or else it is shown what there is.
        inputs: volumes (B, C, D, H, W), of one size.
        method: of the network.
    """
    first = inputs[0]
    is_slow = first.device.type == "cpu" and len(first) == 1 and first[0, 0].numel() <= TWICE
    is_float32 = first.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (is_slow and is_float32) or network.training or torch.is_grad_enabled():
        return getattr(network, method)(*inputs)
    return getattr(network, method)(*(torch.cat([each, each]) for each in inputs))[:1].clone()
