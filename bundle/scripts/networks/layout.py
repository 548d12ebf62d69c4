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
"""The same networks, laid out for a processor: equal numbers but for rounding, in less time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: what oneDNN's convolutions take at a time
CHANNELS = 16


def for_processor(network: nn.Module, is_taught: bool = True) -> nn.Module:
    """Swap parts of a network for equal ones that a processor is done with sooner. Names and shapes of weights stay.

    Convolutions whose channels are no multiple of 16 have their weights channels last; instance norm is a group norm,
    linear upsampling a matrix along each axis, and PReLU has a gradient of its own. Without a gradient, for which a
    batch is two small volumes (:mod:`scripts.networks.passes`), channels last gain nothing, and a transposed
    convolution to a few channels takes half as long of one at a time.

    Args:
        network: changed in place.
        is_taught: whether it is to learn; else it is laid out to be asked.

    Returns:
        The network.
    """
    for module in network.modules():
        if type(module) is nn.Conv3d and is_taught:
            module.__class__ = _Conv3d
            if module.in_channels % CHANNELS or module.out_channels % CHANNELS:
                module.to(memory_format=torch.channels_last_3d)
        elif type(module) is nn.ConvTranspose3d and is_taught:
            module.__class__ = _TaughtConvTranspose3d
        elif type(module) is nn.ConvTranspose3d and module.out_channels < CHANNELS:
            module.__class__ = _ConvTranspose3d
        elif type(module) is nn.PReLU and module.num_parameters == 1:
            module.__class__ = _PReLU
        elif type(module) is nn.InstanceNorm3d and not module.affine and not module.track_running_stats:
            module.__class__ = _InstanceNorm3d
        elif type(module) is nn.Upsample and _is_known(module):
            module.__class__ = _Upsample
    return network


def _is_known(upsample: nn.Upsample) -> bool:
    is_linear = upsample.mode == "trilinear" and not upsample.align_corners and not upsample.recompute_scale_factor
    return is_linear and isinstance(upsample.scale_factor, float)


def _is_thin(images: Tensor, kernel_size: Sequence[int]) -> bool:
    """Whether the gradient of weights may not be a number in bfloat16: findings/torch-bf16-conv3d-gradient.sh."""
    return images.shape[2] < kernel_size[0] and torch.is_autocast_enabled("cpu")


class _Conv3d(nn.Conv3d):
    def forward(self, images: Tensor) -> Tensor:
        if _is_thin(images, self.kernel_size):
            with torch.autocast("cpu", enabled=False):
                return super().forward(images.float()).contiguous()
        return super().forward(images).contiguous()


class _TaughtConvTranspose3d(nn.ConvTranspose3d):
    def forward(self, images: Tensor) -> Tensor:
        if _is_thin(images, self.kernel_size):
            with torch.autocast("cpu", enabled=False):
                return super().forward(images.float())
        return super().forward(images)


class _ConvTranspose3d(nn.ConvTranspose3d):
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([super(_ConvTranspose3d, self).forward(image) for image in images.split(1)])


class _InstanceNorm3d(nn.InstanceNorm3d):
    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 5 or images[0, 0].numel() == 1:  # no batch; or nothing to normalise, which is refused there
            return super().forward(images)
        return F.group_norm(images.contiguous(), images.shape[1], eps=self.eps)


class _Upsample(nn.Upsample):
    def forward(self, images: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # a matrix made meanwhile has no values, and would be kept
            return super().forward(images)
        dtype = torch.float32 if torch.is_autocast_enabled("cpu") else images.dtype
        with torch.autocast("cpu", enabled=False):
            exact = images.to(torch.promote_types(images.dtype, torch.float32))
            resized = _along_axes(exact, [_by_factor(side, self.scale_factor) for side in images.shape[2:]])
            return resized.to(torch.promote_types(images.dtype, dtype))


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """What ``F.interpolate`` with ``trilinear`` makes of (B, C, D, H, W), on a CPU by a matrix along each axis."""
    if images.device.type != "cpu":
        return F.interpolate(images, size=tuple(size), mode="trilinear")
    return _along_axes(images, [_to_size(*sides) for sides in zip(images.shape[2:], size, strict=True)])


def _along_axes(images: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    first, second, third = (matrix.to(images) for matrix in matrices)
    for axis, matrix in ((2, first), (3, second)):
        shape = images.shape
        images = (matrix @ images.flatten(axis + 1).flatten(0, axis - 1)).reshape(
            *shape[:axis], len(matrix), *shape[axis + 1 :]
        )
    return images @ third.T


@lru_cache(maxsize=64)
def _by_factor(side: int, factor: float) -> Tensor:
    """What linear interpolation by a factor multiplies a line of ``side`` voxels with: (factor side, side)."""
    with torch.inference_mode(False):  # it is kept, and what is made in inference mode could not be learned with
        return F.interpolate(torch.eye(side)[None], scale_factor=factor, mode="linear")[0].T.contiguous()


@lru_cache(maxsize=64)
def _to_size(side: int, size: int) -> Tensor:
    """The same where the new size is given: (size, side)."""
    with torch.inference_mode(False):
        lines = torch.eye(side, dtype=torch.float64)[None]
        return F.interpolate(lines, size=size, mode="linear")[0].T.contiguous()


class _PReLU(nn.PReLU):
    def forward(self, features: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return super().forward(features)
        return _PReLUFunction.apply(features, self.weight)


class _PReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return F.leaky_relu(features, weight.item())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled():  # of a gradient, which depends on the slope, too
                of_features = torch.where(features > 0, grad, grad * weight.to(grad))
            else:
                of_features = torch.ops.aten.leaky_relu_backward(grad, features, weight.item(), False)
        if ctx.needs_input_grad[1]:
            exact = torch.promote_types(weight.dtype, torch.float32)
            of_weight = (grad * features.clamp_max(0)).sum(dtype=exact).to(weight.dtype).reshape(weight.shape)
        return of_features, of_weight
