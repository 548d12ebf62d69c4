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
"""Semi-supervised segmentation without registration: a mean teacher that knows what it does not know, and two students.

Both look at the fixed, unlabelled image of a pair. UA-MT: Yu, Wang, Li, Fu, Heng: "Uncertainty-aware Self-ensembling
Model for Semi-supervised 3D Left Atrium Segmentation", MICCAI 2019. CPS: Chen, Yuan, Zeng, Wang: "Semi-Supervised
Semantic Segmentation with Cross Pseudo Supervision", CVPR 2021.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from monai.networks.utils import one_hot
from torch import nn

from ..joint.state import PairState


class MeanTeacherState(PairState):
    """What a teacher, the moving average of the segmentation network, says of the fixed image, and how surely (UA-MT).

    ``teacher`` is an entry of ``networks`` that no update teaches. In training it is in training mode, so that its
    dropout draws anew at each pass.

    Args:
        passes: forward passes of the teacher, with dropout and noise, of which its uncertainty is estimated.
        noise_std: standard deviation of the noise on the teacher's input, cut at twice that.
        certain_below: share of the largest possible entropy, ln C for C classes, under which a voxel is certain.
        arguments, options: as for :class:`scripts.joint.state.PairState`.
    """

    def __init__(
        self, *arguments: Any, passes: int = 8, noise_std: float = 0.1, certain_below: float = 0.75, **options: Any
    ) -> None:
        self.passes, self.noise_std, self.certain_below = passes, noise_std, certain_below
        super().__init__(*arguments, **options)

    @cached_property
    def teacher_prob(self) -> torch.Tensor:
        """Class probabilities that the teacher gives to the fixed image with noise."""
        return self._ask_teacher()

    @cached_property
    def teacher_entropy(self) -> torch.Tensor:
        """Predictive entropy of the teacher in nats (B, 1, D, H, W): of its mean prediction over ``passes`` passes."""
        mean = self.fixed_image.new_zeros(len(self.fixed_image), self.num_classes, *self.fixed_image.shape[2:])
        for _ in range(self.passes):
            mean += self._ask_teacher() / self.passes
        return -torch.special.xlogy(mean, mean).sum(dim=1, keepdim=True)

    @cached_property
    def teacher_certainty(self) -> torch.Tensor:
        """1 where the teacher is certain enough to be followed, else 0 (B, 1, D, H, W)."""
        return (self.teacher_entropy < self.certain_below * math.log(self.num_classes)).float()

    @torch.no_grad()
    def _ask_teacher(self) -> torch.Tensor:
        noise = self.noise_std * torch.randn_like(self.fixed_image)
        noise = noise.clamp(-2 * self.noise_std, 2 * self.noise_std)
        return self._forward("teacher", self.fixed_image + noise).softmax(dim=1)


class CrossPseudoState(PairState):
    """Two segmentation networks, ``segmentation`` and ``second_segmentation``, that label images for each other (CPS).

    They start from different weights, and what both agree on is more often right than what one believes.
    """

    @cached_property
    def second_moving_pred(self) -> torch.Tensor:
        """Logits that the second network gives to the moving image."""
        return self._forward("second_segmentation", self.moving_image)

    @cached_property
    def second_fixed_pred(self) -> torch.Tensor:
        """Logits that the second network gives to the fixed image."""
        return self._forward("second_segmentation", self.fixed_image)

    @cached_property
    def fixed_pseudo_label(self) -> torch.Tensor:
        """One-hot label of the fixed image that the first network thinks most likely; carries no gradient."""
        return self._most_likely(self.fixed_pred)

    @cached_property
    def second_fixed_pseudo_label(self) -> torch.Tensor:
        """One-hot label of the fixed image that the second network thinks most likely; carries no gradient."""
        return self._most_likely(self.second_fixed_pred)

    def _most_likely(self, pred: torch.Tensor) -> torch.Tensor:
        return one_hot(pred.detach().argmax(dim=1, keepdim=True), self.num_classes, dtype=torch.float32)


class CertainConsistency(nn.Module):
    """Mean squared difference of two class probabilities over the voxels that are certain (UA-MT, Eq. 4).

    Where nothing is certain the loss is 0, and so it is for equal probabilities.
    """

    def forward(self, prob: torch.Tensor, teacher_prob: torch.Tensor, certainty: torch.Tensor) -> torch.Tensor:
        """Return the mean over certain voxels and classes; only ``prob`` receives a gradient.

        Args:
            prob: probabilities of the network that learns (B, C, D, H, W).
            teacher_prob: those it should agree with, same shape.
            certainty: weight of each voxel, 0 or 1 (B, 1, D, H, W).

        Returns:
            scalar in [0, 1].

        Raises:
            ValueError: the shapes do not fit together.
        """
        if teacher_prob.shape != prob.shape or certainty.shape != (prob.shape[0], 1, *prob.shape[2:]):
            raise ValueError(
                "CertainConsistency: probabilities must have one shape (B, C, D, H, W), and certainty (B, 1, D, H, W), "
                f"found {tuple(prob.shape)}, {tuple(teacher_prob.shape)} and {tuple(certainty.shape)}."
            )
        differences = (prob - teacher_prob.detach()).square().mean(dim=1, keepdim=True)
        weights = certainty.detach()
        return (weights * differences).sum() / weights.sum().clamp(min=1)
