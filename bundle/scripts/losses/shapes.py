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
"""What the losses ask of their arguments, and the precision that they compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def check_same_shape(name: str, first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Refuse a pair of tensors that broadcasting would silently combine."""
    if first.shape != second.shape:
        raise ValueError(
            f"{name}: {first_name} and {second_name} must have one shape, found {tuple(first.shape)} and "
            f"{tuple(second.shape)}. Resample or one-hot encode one of them first."
        )


def check_channel_reduction(name: str, channel_reduction: str) -> None:
    """Refuse a reduction that the cross-entropy does not know."""
    if channel_reduction not in ("sum", "mean"):
        raise ValueError(f"{name}: channel_reduction must be 'sum' or 'mean', found {channel_reduction!r}.")


def in_float32(*tensors: Tensor) -> list[Tensor]:
    """Raise half precision to float32, leave float64 as it is, and drop subclasses, whose dispatch costs time."""
    return [tensor.as_subclass(Tensor).to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Return the context that switches autocast off on the device of `tensor`."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)
