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
"""What BRBS computes from three images: registration both ways, space-style samples, and mixtures of misaligned images.

He et al., "Learning Better Registration to Learn Better Few-Shot Medical Image Segmentation: Authenticity, Diversity,
and Robustness", IEEE TNNLS 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import permutations
from typing import Any

import torch

from ..data.pairs import ROLES
from ..fields.warping import warp
from ..joint.sampling import BetaScale
from .style import StyledState

#: the three pairs of a triplet, each in both orders
_DIRECTIONS = tuple(permutations(ROLES, 2))


class TripletState(StyledState):
    """The quantities of a triplet: a labelled moving image x_l, an unlabelled fixed one x_u2, and x_u1, the style.

    To learn to register, two of the three are drawn at random, a ``source`` and a ``target``, and registered both ways:
    u = R(source, target) is ``forward_ddf``, v = R(target, source) ``backward_ddf``.

    To learn to segment, x_l gets alpha of the shape of x_u2 and beta of the style of x_u1:
    ``sampled_image`` = W(x_l + beta (W(x_u1, R(x_u1, x_l)) - x_l), alpha R(x_l, x_u2)), and ``sampled_label`` moves
    along (S3P). Intensities may leave [0, 1], as in the authors' program. And x_u1 at the place of x_u2, misaligned as
    it is, is mixed with it, gamma of the one and 1 - gamma of the other: ``mixed_image`` (MMR).

    Evaluation and registration ask for ``ddf`` and so on, and get what :class:`scripts.joint.state.PairState` gives.

    Args:
        style_sampling: how beta is drawn, as ``sampling`` draws alpha; None leaves the style as it is (beta = 0).
        mix_sampling: how gamma is drawn; None is Beta(0.3, 0.3), as published.
        arguments, options: as for :class:`scripts.joint.state.PairState`; the batch also holds ``style_image``.
    """

    drawn = None  # which two of the three images are registered

    def __init__(
        self,
        *arguments: Any,
        style_sampling: Callable[..., torch.Tensor] | None = None,
        mix_sampling: Callable[..., torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        self.style_sampling = style_sampling
        self.mix_sampling = BetaScale() if mix_sampling is None else mix_sampling
        super().__init__(*arguments, **options)

    @staticmethod
    def of_field(ddf: torch.Tensor) -> dict[str, torch.Tensor]:
        """What to carry into a state so that ``ddf`` is its field: that of its first direction, moving onto fixed."""
        return {"ddf": ddf, "forward_ddf": ddf, "direction": torch.tensor(_DIRECTIONS.index(("moving", "fixed")))}

    # ---- registration, both ways

    @cached_property
    def direction(self) -> torch.Tensor:
        """Which two of the three images are registered: a number from 0 to 5, one draw for the whole batch."""
        return torch.randint(len(_DIRECTIONS), ())  # on the CPU, so that one seed gives one sequence on every device

    @cached_property
    def source_image(self) -> torch.Tensor:
        """x_a: the image that the forward field pulls."""
        return getattr(self, f"{self._role(0)}_image")

    @cached_property
    def target_image(self) -> torch.Tensor:
        """x_b: the image that the backward field pulls."""
        return getattr(self, f"{self._role(1)}_image")

    @cached_property
    def forward_ddf(self) -> torch.Tensor:
        """u = R(x_a, x_b), in voxels of the target (B, 3, D, H, W)."""
        return self._forward("registration", self.source_image, self.target_image)

    @cached_property
    def backward_ddf(self) -> torch.Tensor:
        """v = R(x_b, x_a), in voxels of the source (B, 3, D, H, W)."""
        return self._forward("registration", self.target_image, self.source_image)

    @cached_property
    def warped_source_image(self) -> torch.Tensor:
        """W(x_a, u): the source on the target's grid."""
        return warp(self.source_image, self.forward_ddf)

    @cached_property
    def warped_target_image(self) -> torch.Tensor:
        """W(x_b, v): the target on the source's grid."""
        return warp(self.target_image, self.backward_ddf)

    @cached_property
    def source_regions(self) -> torch.Tensor:
        """m_a: one-hot label of the source or, where it has none, its predicted class probabilities, detached."""
        return self._regions(0)

    @cached_property
    def target_regions(self) -> torch.Tensor:
        """m_b: label of the target or, where it has none, its predicted class probabilities, detached."""
        return self._regions(1)

    @cached_property
    def warped_source_regions(self) -> torch.Tensor:
        """W(m_a, u)."""
        return warp(self.source_regions, self.forward_ddf)

    @cached_property
    def warped_target_regions(self) -> torch.Tensor:
        """W(m_b, v)."""
        return warp(self.target_regions, self.backward_ddf)

    # ---- space-style sampling (S3P)

    @cached_property
    def style_factor(self) -> torch.Tensor:
        """beta: how much of the style is taken, one draw per sample (B, 1, 1, 1, 1)."""
        if self.style_sampling is None:
            return self.moving_image.new_zeros(len(self.moving_image), 1, 1, 1, 1)
        return self.style_sampling(len(self.moving_image), self.moving_image.device)

    @cached_property
    def styled_image(self) -> torch.Tensor:
        """x_l with beta of the difference in style between it and the third image."""
        if self.style_sampling is None:  # then neither the third image nor its field is needed
            return self.moving_image
        return self.moving_image + self.style_factor * (self.style_on_moving - self.moving_image)

    @cached_property
    def sampled_image(self) -> torch.Tensor:
        """The labelled image with part of the style of the third and part of the shape of the fixed one."""
        return warp(self.styled_image, self.sampled_ddf)

    # ---- mixtures of misaligned images (MMR)

    @cached_property
    def misaligned_image(self) -> torch.Tensor:
        """x_w: the third image on the grid of the labelled one, and from there on that of the fixed one."""
        return warp(self.style_on_moving, self.ddf)

    @cached_property
    def mix_factor(self) -> torch.Tensor:
        """gamma: the share of the misaligned image, one draw per sample (B, 1, 1, 1, 1)."""
        return self.mix_sampling(len(self.fixed_image), self.fixed_image.device)

    @cached_property
    def mixed_image(self) -> torch.Tensor:
        """gamma x_w + (1 - gamma) x_u2."""
        return torch.lerp(self.fixed_image, self.misaligned_image, self.mix_factor)

    @cached_property
    def misaligned_pred(self) -> torch.Tensor:
        """S(x_w), logits."""
        return self._forward("segmentation", self.misaligned_image)

    @cached_property
    def mixed_pred(self) -> torch.Tensor:
        """S of ``mixed_image``, logits."""
        return self._forward("segmentation", self.mixed_image)

    # ---- how they are computed

    def _role(self, position: int) -> str:
        """The name of the source (0) or the target (1) among the three images."""
        return _DIRECTIONS[int(self.direction)][position]

    def _regions(self, position: int) -> torch.Tensor:
        role = self._role(position)
        if f"{role}_label" in self.batch:
            return self._one_hot(f"{role}_label")
        with torch.no_grad():
            return self._forward("segmentation", getattr(self, f"{role}_image")).softmax(dim=1)
