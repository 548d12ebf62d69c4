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
"""Local normalised cross-correlation with an analytic gradient and window sums by shift-and-add."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Elements of one slab. On a CPU its dozen float64 temporaries should stay in the cache; an accelerator prefers few and
# large kernels, and the bound only limits the memory they take.
_CPU_SLAB = 2**17
_ACCELERATOR_SLAB = 2**24


class LocalNCC(nn.Module):
    """One minus the mean squared correlation of two images in a sliding cubic window.

    Correlation within a window ignores local brightness and contrast, which differ between scans of one anatomy. With
    window sums S over n = window^3 voxels (zero padding, so n is the same at the border),

        cross = S_IJ - S_I S_J / n,   v_I = S_II - S_I^2 / n,   cc = cross^2 / (v_I v_J + eps),   loss = 1 - mean(cc).

    `eps` is added to the product of the variances: a window that is flat in one image scores 0 and has no gradient.
    The sums that cancel are taken in float64, since in float32 the rounding of a flat region of value 0.3 already
    outweighs the gradient of the whole image. Identical textured images cost almost 0, unrelated ones almost 1.

    Args:
        window: side of the window in voxels, odd, at least 3.
        eps: constant added to the product v_I v_J; it scales with intensity^4, the default suits images in [0, 1].

    Raises:
        ValueError: the window is even or too small, or eps is not positive.

    Example:
        >>> loss = LocalNCC()(warped_image, fixed_image)  # both (B, 1, D, H, W) in [0, 1]
    """

    def __init__(self, window: int = 9, eps: float = 1e-5) -> None:
        super().__init__()
        if window < 3 or window % 2 == 0:
            raise ValueError(f"LocalNCC: window must be an odd number of voxels, 3 or more, found {window}.")
        if eps <= 0:
            raise ValueError(
                f"LocalNCC: eps must be positive, found {eps}. It keeps flat windows from dividing 0 by 0."
            )
        self.window = window
        self.eps = eps

    def forward(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Return the dissimilarity of two images, averaged over batch, channels and voxels.

        Args:
            warped: image (B, C, D, H, W).
            fixed: image of the same shape; both may require a gradient, and only what is required is computed.

        Returns:
            scalar in [0, 1], float32 (float64 for float64 images).

        Raises:
            ValueError: the shapes differ or are not five-dimensional.
        """
        if warped.ndim != 5 or warped.shape != fixed.shape:
            raise ValueError(
                "LocalNCC: warped and fixed must have one shape (B, C, D, H, W), found "
                f"{tuple(warped.shape)} and {tuple(fixed.shape)}. Resample one image on the grid of the other first."
            )
        dtype = torch.promote_types(torch.promote_types(warped.dtype, fixed.dtype), torch.float32)
        # a MetaTensor would take its slow dispatch through each of a hundred operations
        images = [image.as_subclass(Tensor).to(dtype) for image in (warped, fixed)]
        with torch.autocast(device_type=warped.device.type, enabled=False):
            return _LocalNCCFunction.apply(*images, self.window, self.eps)


class _FlatLayout:
    """Volumes laid end to end in one vector, parted by zeros, so that a window sum is a sum of shifted slices.

    Each row is followed by `radius` zeros, each plane by as many zero rows and each volume by as many zero planes; the
    zeros after one row also serve as those before the next. A window that leaves its volume thus meets zeros only, and
    every addition runs over one contiguous vector. Results at padding positions are meaningless and get masked.
    """

    def __init__(self, shape: torch.Size, window: int, is_cpu: bool) -> None:
        self.shape = shape
        self.window = window
        self.radius = window // 2
        volumes = shape[0] * shape[1]
        depth, height, width = (size + self.radius for size in shape[2:])
        self.padded_shape = (volumes, depth, height, width)
        self.strides = (height * width, width, 1)
        self.lead = self.radius * sum(self.strides)  # distance from a window's first voxel to its centre
        self.length = math.prod(self.padded_shape)
        self.slab = self._balanced_slab(_CPU_SLAB if is_cpu else _ACCELERATOR_SLAB)

    def _balanced_slab(self, limit: int) -> int:
        """Return the number of elements per slab: whole planes, near `limit`, all slabs about as long."""
        planes = self.length // self.strides[0]
        # each slab reads window - 1 planes beyond its own; thinner slabs would spend most of their time on those
        planes_per_slab = max(limit // self.strides[0], 2 * self.window)
        slabs = math.ceil(planes / planes_per_slab)
        return math.ceil(planes / slabs) * self.strides[0]

    def slabs(self) -> Iterator[tuple[slice, slice, slice]]:
        """Yield, slab by slab, three slices: its results, the same voxels in a packed vector, and what they read."""
        end = self.length - self.lead
        for start in range(0, end, self.slab):
            stop = min(start + self.slab, end)
            yield (
                slice(start, stop),
                slice(start + self.lead, stop + self.lead),
                slice(start, stop + 2 * self.lead),
            )

    def zeros(self, like: Tensor) -> Tensor:
        """Return an empty packed vector: `lead` zeros, then the padded volumes."""
        return like.new_zeros(self.lead + self.length)

    def unpacked(self, values: Tensor) -> Tensor:
        """Return the view (B * C, D, H, W) of the voxels in a vector of `length` elements."""
        depth, height, width = self.shape[2:]
        return values.view(self.padded_shape)[:, :depth, :height, :width]

    def pack(self, volume: Tensor) -> Tensor:
        """Copy a (B, C, D, H, W) tensor into a packed vector."""
        packed = self.zeros(volume)
        self.unpacked(packed[self.lead :]).copy_(volume.flatten(0, 1))
        return packed

    def window_sum(self, values: Tensor) -> Tensor:
        """Sum over the cubic window that starts at each element; the result is shorter by 2 * lead.

        Along each axis, sums over 2, 4, 8, ... elements come from adding the previous ones to themselves, shifted, and
        those of the binary digits of `window` make up the total: four additions for nine elements.
        """
        for stride in self.strides:
            total, covered = values, 1
            power, width = values, 1
            while covered < self.window:
                power = power[: -width * stride] + power[width * stride :]
                width *= 2
                if self.window & width:
                    beyond = power[covered * stride :]
                    total = total[: beyond.numel()] + beyond
                    covered += width
            values = total
        return values

    def statistics(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Return cross, v_I, v_J, S_I and S_J of every window of two vectors, summed in float64."""
        count = self.window**3
        dtype = first.dtype
        first, second = first.double(), second.double()
        sum_first, sum_second = self.window_sum(first), self.window_sum(second)
        cross = self.window_sum(first * second).addcmul_(sum_first, sum_second, value=-1 / count)
        # rounding may leave a variance just below zero, and with raw Hounsfield units eps would not make up for it
        var_first = self.window_sum(first * first).addcmul_(sum_first, sum_first, value=-1 / count).clamp_(min=0)
        var_second = self.window_sum(second * second).addcmul_(sum_second, sum_second, value=-1 / count).clamp_(min=0)
        return [value.to(dtype) for value in (cross, var_first, var_second, sum_first, sum_second)]


class _LocalNCCFunction(torch.autograd.Function):
    """Value of `LocalNCC` with its analytic gradient.

    With q = cross / (v_I v_J + eps), the derivative of the sum of cc with respect to voxel I(r) is the sum over the
    windows that contain r of

        2 [ q (J(r) - S_J / n) + b (I(r) - S_I / n) ],   b = -q^2 v_J,

    hence three more window sums, of q, b and c = -(q S_J + b S_I) / n, whose weights the forward pass leaves
    behind. The same holds for J with the roles exchanged.
    """

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, window: int, eps: float) -> Tensor:
        layout = _FlatLayout(warped.shape, window, warped.device.type == "cpu")
        images = layout.pack(warped), layout.pack(fixed)
        inside = layout.pack(torch.ones_like(warped))[layout.lead :]
        wanted = ctx.needs_input_grad[:2]
        weights = [layout.zeros(warped) for _ in range(1 + 2 * sum(wanted))] if any(wanted) else []
        total = warped.new_zeros(())
        for results, voxels, reads in layout.slabs():
            cross, *moments = layout.statistics(images[0][reads], images[1][reads])
            cross.mul_(inside[results])
            ratio = cross / (moments[0] * moments[1]).add_(eps)
            total += torch.dot(cross, ratio)
            if weights:
                _store_weights([weight[voxels] for weight in weights], ratio, moments, wanted, window**3)
        ctx.layout, ctx.wanted = layout, wanted
        ctx.save_for_backward(*(images if weights else ()), *weights)
        return 1 - total / warped.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        first, second, ratio, *weights = ctx.saved_tensors
        layout = ctx.layout
        scale = -2 * grad_output / math.prod(layout.shape)
        grads = [first.new_empty(layout.length) if wanted else None for wanted in ctx.wanted]
        for results, voxels, reads in layout.slabs():
            ratio_sum = layout.window_sum(ratio[reads])
            pairs = iter(weights)
            for grad, own, other in zip(grads, (first, second), (second, first), strict=True):
                if grad is not None:
                    own_sum, constant = layout.window_sum(next(pairs)[reads]), layout.window_sum(next(pairs)[reads])
                    constant.addcmul_(ratio_sum, other[voxels]).addcmul_(own_sum, own[voxels])
                    torch.mul(constant, scale, out=grad[results])
        return (*(None if grad is None else layout.unpacked(grad).reshape(layout.shape) for grad in grads), None, None)


def _store_weights(
    weights: list[Tensor], ratio: Tensor, moments: list[Tensor], wanted: tuple[bool, ...], count: int
) -> None:
    """Write q, then b and c for each input that wants a gradient, into slices of the packed `weights`."""
    var_first, var_second, sum_first, sum_second = moments
    weights[0].copy_(ratio)
    square = ratio * ratio
    slots = iter(weights[1:])
    for is_wanted, own_sum, other_sum, other_var in (
        (wanted[0], sum_first, sum_second, var_second),
        (wanted[1], sum_second, sum_first, var_first),
    ):
        if is_wanted:
            own_weight, constant = next(slots), next(slots)
            torch.mul(square, other_var, out=own_weight).neg_()
            torch.mul(ratio, other_sum, out=constant).addcmul_(own_weight, own_sum).mul_(-1 / count)
