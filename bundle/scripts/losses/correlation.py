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

"""Mean local correlation within a region: the similarity that a pair is optimised by, with its gradient on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["LocalCorrelation", "window_sum"]


def window_sum(image: Tensor, window: int) -> Tensor:
    """Sum over the cube of side ``window`` around each voxel, zeros outside.

    Args:
        image: (B, C, D, H, W).
        window: odd.
    """
    for axis in (2, 3, 4):
        size, total = image.shape[axis], image.clone()
        for shift in range(1, min(window // 2, size - 1) + 1):
            total.narrow(axis, 0, size - shift).add_(image.narrow(axis, shift, size - shift))
            total.narrow(axis, shift, size - shift).add_(image.narrow(axis, 0, size - shift))
        image = total
    return image


class LocalCorrelation:
    """One minus the mean correlation of images with a fixed one in cubic windows, over the voxels of a region.

    Not squared, as in :class:`scripts.losses.local_ncc.LocalNCC`: images of one modality are to agree in sign, and the
    gradient does not vanish where they do not agree yet. What depends on the fixed image alone is computed once.
    Windows are cut at the border. In float32, for images in [0, 1].

    Args:
        fixed: (B, 1, D, H, W).
        region: (B, 1, D, H, W), 1 where the correlation counts; each sample has the same share.
        window: odd, in voxels.
        eps: variance that is added to that of every voxel of a window.
    """

    def __init__(self, fixed: Tensor, region: Tensor, window: int = 5, eps: float = 1e-4) -> None:
        self.fixed, self.window = fixed, window
        self.count = window_sum(torch.ones_like(fixed[:1]), window)
        sums = window_sum(torch.cat([fixed, fixed * fixed], dim=1), window)
        self.mean = sums[:, :1] / self.count
        self.floor = eps * self.count
        self.variance = (sums[:, 1:] - self.mean * sums[:, :1]).clamp_(min=0) + self.floor
        self.share = region / region.sum(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1)

    def __call__(self, warped: Tensor) -> Tensor:
        """The dissimilarity of each sample.

        Args:
            warped: as ``fixed``.

        Returns:
            (B,), from 0 (the same up to brightness and contrast) to 2 (inverted).
        """
        return _Correlation.apply(warped, self)


class _Correlation(torch.autograd.Function):
    """With cc = cross / sqrt(v_f v_w), d cc / d w(r) of a window is (f(r) - mean_f) / sqrt(v_f v_w) -
    cc / v_w (w(r) - mean_w); summed over the windows around a voxel these are four more window sums."""

    @staticmethod
    def forward(ctx: Any, warped: Tensor, of: LocalCorrelation) -> Tensor:
        sums = window_sum(torch.cat([warped, warped * warped, warped * of.fixed], dim=1), of.window)
        mean = sums[:, :1] / of.count
        cross = sums[:, 2:] - of.mean * sums[:, :1]
        variance = (sums[:, 1:2] - mean * sums[:, :1]).clamp_(min=0) + of.floor
        scale = (of.variance * variance).rsqrt()
        correlation = scale * cross
        own, other = correlation / variance * of.share, scale * of.share
        spread = window_sum(torch.cat([other, other * of.mean, own, own * mean], dim=1), of.window)
        gradient = of.fixed * spread[:, :1] - spread[:, 1:2] - warped * spread[:, 2:3] + spread[:, 3:]
        ctx.save_for_backward(gradient)
        return 1 - (correlation * of.share).sum(dim=(1, 2, 3, 4))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return -grad_output.view(-1, 1, 1, 1, 1) * gradient, None
