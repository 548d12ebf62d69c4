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
"""Self-similarity context: a similarity for images that show the same anatomy in different contrasts."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .shapes import check_same_shape, in_float32, without_autocast

# the twelve pairs of face neighbours that are no opposites: (axis, sign) of each
_PAIRS = [
    (first, second)
    for first, second in itertools.combinations(itertools.product(range(3), (1, -1)), 2)
    if first[0] != second[0]
]


class MINDSSC(nn.Module):
    """Mean squared difference of the self-similarity contexts of two images (MIND-SSC).

    Heinrich, Jenkinson, Papiez, Brady, Schnabel, "Towards Realtime Multimodal Fusion for Image-Guided Interventions
    Using Self-Similarities", MICCAI 2013. Each image describes a voxel by how much the patches around it differ among
    themselves, which does not say how bright tissues are. With D_c(x) the mean squared difference of the patches around
    x + a and x + b, for each of the twelve pairs c = (a, b) of the six neighbours at a distance of ``dilation`` along
    the axes that are no opposites,

        S_c = exp(-D_c / V),   V = mean_c D_c,   loss = mean of (S_c(warped) - S_c(fixed))^2.

    The descriptor of a x + b is that of x, for every a but 0: an inverted contrast costs nothing, and a non-linear one
    little where it leaves edges where they are. The paper sums absolute differences, quantised; squares are smooth
    where images agree. V is held above a thousandth of its mean over the image, so that flat regions are not all noise.

    Args:
        radius: of a patch, in voxels: its side is 2 radius + 1.
        dilation: distance of the neighbours, in voxels.

    Raises:
        ValueError: either is no whole number of at least 1.

    Example:
        >>> loss = MINDSSC()(warped_image, fixed_image)  # both (B, 1, D, H, W)
    """

    def __init__(self, radius: int = 1, dilation: int = 2) -> None:
        super().__init__()
        for name, value in (("radius", radius), ("dilation", dilation)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"MINDSSC: {name} must be a whole number of voxels, 1 or more, found {value!r}.")
        self.radius, self.dilation = radius, dilation

    def forward(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Return the dissimilarity of two images; either may receive a gradient.

        Args:
            warped: image (B, C, D, H, W).
            fixed: image of the same shape.

        Returns:
            scalar in [0, 1]; 0 for images that are alike up to brightness and contrast.

        Raises:
            ValueError: the images are not five-dimensional or their shapes differ.
        """
        check_same_shape("MINDSSC", warped, fixed, "warped", "fixed")
        if warped.ndim != 5:
            raise ValueError(f"MINDSSC: images must be (B, C, D, H, W), found {tuple(warped.shape)}.")
        with without_autocast(warped):
            first, second = (self.describe(image) for image in in_float32(warped, fixed))
            return (first - second).square().mean()

    def describe(self, image: Tensor) -> Tensor:
        """Return the twelve channels of each channel of an image, (B * C, 12, D, H, W), each in (0, 1]."""
        size, step, reach = image.shape[2:], self.dilation, self.radius
        # beyond the border lies its nearest voxel, for the neighbours as for the patches around them
        padded = F.pad(image.flatten(0, 1)[:, None], (step + reach,) * 6, mode="replicate")

        def neighbour(axis: int, sign: int) -> Tensor:
            view = padded
            for each in range(3):
                view = view.narrow(2 + each, step + sign * step * (each == axis), size[each] + 2 * reach)
            return view

        distances = [(neighbour(*a) - neighbour(*b)).square() for a, b in _PAIRS]
        distance = F.avg_pool3d(torch.cat(distances, dim=1), 2 * reach + 1, stride=1)
        variance = distance.mean(dim=1, keepdim=True)
        floor = 1e-3 * variance.mean(dim=(1, 2, 3, 4), keepdim=True) + 1e-12  # a constant image has none
        return torch.exp(-distance / torch.maximum(variance, floor))
