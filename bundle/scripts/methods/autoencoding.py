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
"""Unlabelled images that teach by being reconstructed: class by class (MASSL), or out of noise (DPA-DBN).

MASSL: Chen, Bortsova, García-Uceda Juárez, van Tulder, de Bruijne: "Multi-Task Attention-Based Semi-Supervised Learning
for Medical Image Segmentation", MICCAI 2019. DPA-DBN: He et al.: "Dense biased networks with deep priori anatomy and
hard region adaptation", Medical Image Analysis 2020.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from ..joint.state import PairState


class ReconstructionState(PairState):
    """The fixed image as a :class:`scripts.networks.ReconstructingUNet` segments and reconstructs it (MASSL)."""

    @cached_property
    def fixed_decoded(self) -> torch.Tensor:
        """What both decoders make of the fixed image: logits, then reconstructions, (B, 2 C, D, H, W)."""
        return self._forward("segmentation", self.fixed_image, method="both")

    @cached_property
    def attention(self) -> torch.Tensor:
        """Class probabilities of the fixed image, by which its parts are told apart; they take part in learning."""
        return self.fixed_decoded[:, : self.num_classes].softmax(dim=1)

    @cached_property
    def reconstructions(self) -> torch.Tensor:
        """For each class, what the second decoder makes of the part of the fixed image that is of it."""
        return self.fixed_decoded[:, self.num_classes :]

    @cached_property
    def attended_image(self) -> torch.Tensor:
        """What ``reconstructions`` should be: the fixed image times the probability of each class."""
        return self.attention * self.fixed_image


class DenoisingState(PairState):
    """The fixed image restored by the autoencoder in a :class:`scripts.networks.PriorDenseBiasNet` (DPA-DBN).

    Args:
        noise_std: standard deviation of the noise that the autoencoder has to take away; 0 adds none.
        arguments, options: as for :class:`scripts.joint.state.PairState`.
    """

    def __init__(self, *arguments: Any, noise_std: float = 0.1, **options: Any) -> None:
        self.noise_std = noise_std
        super().__init__(*arguments, **options)

    @cached_property
    def noisy_image(self) -> torch.Tensor:
        """The fixed image with Gaussian noise."""
        return self.fixed_image + self.noise_std * torch.randn_like(self.fixed_image)

    @cached_property
    def restored_image(self) -> torch.Tensor:
        """What the autoencoder makes of the noisy image."""
        return self._forward("segmentation", self.noisy_image, method="restore")
