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
"""Smoothness of a displacement field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .shapes import in_float32, without_autocast

__all__ = ["Smoothness"]


class Smoothness(nn.Module):
    """Mean squared forward difference of a displacement field, averaged over the three axes.

    The field of a registration is under-determined where the images are flat; this L2 penalty picks the smoothest one.
    Forward differences also see the checkerboard that central differences miss (+-1 in every component costs 4 here
    and 0 there). A constant shift, the identity included, costs nothing; the scaling ddf(p) = s p costs s^2 / 3.
    """

    def forward(self, ddf: Tensor) -> Tensor:
        """Return the penalty of a field.

        Args:
            ddf: displacement in voxels, (B, 3, D, H, W), every axis at least 2 long.

        Returns:
            scalar, in voxels squared.

        Raises:
            ValueError: the field is not five-dimensional or an axis is a single voxel.
        """
        if ddf.ndim != 5 or min(ddf.shape[2:]) < 2:
            raise ValueError(
                f"Smoothness: ddf must be (B, 3, D, H, W) with at least 2 voxels per axis, found {tuple(ddf.shape)}."
            )
        with without_autocast(ddf):
            (field,) = in_float32(ddf)
            return _MeanSquaredDifference.apply(field)


class _MeanSquaredDifference(torch.autograd.Function):
    """With its gradient on one tensor; that of a slice, as PyTorch has it, is a volume of zeros for each."""

    @staticmethod
    def forward(ctx: Any, field: Tensor) -> Tensor:
        ctx.save_for_backward(field)
        return sum(field.diff(dim=axis).square().mean() for axis in (2, 3, 4)) / 3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (field,) = ctx.saved_tensors
        of_field = torch.zeros_like(field)
        for axis in (2, 3, 4):
            difference = field.diff(dim=axis)
            difference *= grad * (2 / (3 * difference.numel()))
            length = difference.shape[axis]
            of_field.narrow(axis, 1, length).add_(difference)
            of_field.narrow(axis, 0, length).sub_(difference)
        return of_field
