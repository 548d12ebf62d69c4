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
"""VAEAug: training images made of a labelled one, with a shape and intensities drawn from what two VAEs have learnt.

Ding, Yu, Yang: "Modeling the Probabilistic Distribution of Unlabeled Data for One-shot Medical Image Segmentation",
AAAI 2021.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from ..fields.warping import warp
from .style import StyledState


class DeformationSamplingState(StyledState):
    """The quantities of a labelled moving image x_l, and of two VAEs, :class:`scripts.networks.CoarseVAE`.

    ``shape_vae`` learns the fields from x_l to fixed images, ``intensity_vae`` what would have to be added to x_l to
    give it the intensities of a third image, brought onto it. What they decode of random codes makes new images of x_l.

    Args:
        temperature: standard deviation of all random codes, in units of that which they should have; 0 takes the mean.
        arguments, options: as for :class:`scripts.joint.state.PairState`; the batch also holds ``style_image``.
    """

    def __init__(self, *arguments: Any, temperature: float = 1.0, **options: Any) -> None:
        self.temperature = temperature
        super().__init__(*arguments, **options)

    # ---- what the VAEs learn from

    @cached_property
    def intensity_change(self) -> torch.Tensor:
        """The third image on the grid of x_l, less x_l, (B, 1, D, H, W)."""
        return self.style_on_moving - self.moving_image

    @cached_property
    def shape_code(self) -> torch.Tensor:
        """Mean and log variance of the code of the field, (B, 2, L)."""
        return self._forward("shape_vae", self.ddf, method="encode")

    @cached_property
    def intensity_code(self) -> torch.Tensor:
        """Mean and log variance of the code of the intensity change, (B, 2, L)."""
        return self._forward("intensity_vae", self.intensity_change, method="encode")

    @cached_property
    def shape_mean(self) -> torch.Tensor:
        """Mean of the code of the field, (B, L)."""
        return self.shape_code[:, 0]

    @cached_property
    def shape_log_variance(self) -> torch.Tensor:
        """Logarithm of the variance of the code of the field, (B, L)."""
        return self.shape_code[:, 1]

    @cached_property
    def intensity_mean(self) -> torch.Tensor:
        """Mean of the code of the intensity change, (B, L)."""
        return self.intensity_code[:, 0]

    @cached_property
    def intensity_log_variance(self) -> torch.Tensor:
        """Logarithm of the variance of the code of the intensity change, (B, L)."""
        return self.intensity_code[:, 1]

    @cached_property
    def restored_ddf(self) -> torch.Tensor:
        """The field, decoded from a draw of its code, in voxels (B, 3, D, H, W)."""
        return self._decode("shape_vae", self.shape_mean, self.shape_log_variance)

    @cached_property
    def restored_change(self) -> torch.Tensor:
        """The intensity change, decoded from a draw of its code."""
        return self._decode("intensity_vae", self.intensity_mean, self.intensity_log_variance)

    # ---- what the segmentation network learns from

    @cached_property
    def drawn_ddf(self) -> torch.Tensor:
        """A field that no pair has, decoded from a draw of N(0, I), in voxels (B, 3, D, H, W)."""
        return self._draw("shape_vae")

    @cached_property
    def drawn_change(self) -> torch.Tensor:
        """An intensity change that no pair has, likewise, (B, 1, D, H, W)."""
        return self._draw("intensity_vae")

    @cached_property
    def generated_image(self) -> torch.Tensor:
        """x_l with the drawn intensities, in the drawn shape."""
        return warp(self.moving_image + self.drawn_change, self.drawn_ddf)

    @cached_property
    def generated_label(self) -> torch.Tensor:
        """Its label, soft."""
        return warp(self.moving_label, self.drawn_ddf)

    @cached_property
    def generated_pred(self) -> torch.Tensor:
        """S of the generated image, logits."""
        return self._forward("segmentation", self.generated_image)

    # ---- how they are computed

    def _draw(self, name: str) -> torch.Tensor:
        standard = self.moving_image.new_zeros(len(self.moving_image), self.networks[name].latent_size)
        return self._decode(name, standard, standard)

    def _decode(self, name: str, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        spread = self.temperature * (0.5 * log_variance).exp()
        return self._forward(name, mean + spread * torch.randn_like(mean), method="decode")
