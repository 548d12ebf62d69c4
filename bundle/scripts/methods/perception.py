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
"""PC-Reg: registration that sees regions, not images, through masks that the segmentation network makes.

He et al., "Few-shot Learning for Deformable Medical Image Registration with Perception-Correspondence Decoupling and
Reverse Teaching", IEEE JBHI 2022. With reverse teaching, its second stage, it is PC-Reg-RT; that needs no quantity
beyond those of :class:`scripts.joint.state.PairState`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.utils import one_hot
from torch import Tensor, nn

from ..fields.warping import warp
from ..joint.parts import Shared
from ..joint.state import PairState
from ..losses.local_ncc import LocalNCC

#: the predictions that masks are made of, and so the field
_PERCEIVED = ("moving_pred", "fixed_pred")
#: predictions that need the field first
_OF_WARPED = ("warped_pred", "sampled_pred")


class PerceptionState(PairState):
    """The quantities of a pair whose registration network is shown one masked image per structure.

    ``moving_mask`` and ``fixed_mask`` are what the segmentation network sees, without background and without a
    gradient; ``moving_regions`` = mask times image has a channel per structure, and the field is
    R(``moving_regions``, ``fixed_regions``). So registration teaches segmentation nothing through the masks.
    All else, images and labels warped by that field included, is as in :class:`scripts.joint.state.PairState`.

    Args:
        masks: ``hard``, the most probable class of each voxel, or ``soft``, its class probabilities.
        arguments, options: as for :class:`scripts.joint.state.PairState`; the networks include ``segmentation``.

    Raises:
        ValueError: ``masks`` is neither; when masks are read, there is no segmentation network.
    """

    shared = {
        **PairState.shared,
        **dict.fromkeys(
            ("ddf", "warped_image", "warped_label", "warped_regions"),
            Shared(frozenset({"segmentation", "registration"}), frozenset({"registration"})),
        ),
        "perceived": Shared(frozenset({"segmentation"})),
    }

    def __init__(self, *arguments: Any, masks: str = "hard", **options: Any) -> None:
        if masks not in ("hard", "soft"):
            raise ValueError(f"PerceptionState: masks should be 'hard' or 'soft', found {masks!r}.")
        self.masks = masks
        super().__init__(*arguments, **options)

    @cached_property
    def perceived(self) -> Tensor:
        """S(x_m) and S(x_f), logits without a gradient (2 B, num_classes, D, H, W): what masks are made of."""
        self._refuse_missing()
        images = torch.cat([self.moving_image, self.fixed_image])
        if "segmentation" in self.learning and self.wanted & {*_PERCEIVED} and not self.wanted & {*_OF_WARPED}:
            # these very passes teach; beside a warped image, one of the two would cost its gradient for nothing
            self.__dict__.update(zip(_PERCEIVED, self._forward("segmentation", images).chunk(2), strict=True))
        if all(self.computed(name) is not None for name in _PERCEIVED):
            return torch.cat([getattr(self, name) for name in _PERCEIVED]).detach()
        with torch.no_grad():
            return self._forward("segmentation", images)

    @cached_property
    def moving_mask(self) -> Tensor:
        """Where each structure is in the moving image, (B, num_classes - 1, D, H, W) in [0, 1], detached."""
        return self._mask(self.perceived.chunk(2)[0])

    @cached_property
    def fixed_mask(self) -> Tensor:
        """Where each structure is in the fixed image, detached."""
        return self._mask(self.perceived.chunk(2)[1])

    @cached_property
    def moving_regions(self) -> Tensor:
        """The moving image once per structure, 0 outside it: (B, num_classes - 1, D, H, W)."""
        return self.moving_mask * self.moving_image

    @cached_property
    def fixed_regions(self) -> Tensor:
        """The fixed image once per structure, 0 outside it."""
        return self.fixed_mask * self.fixed_image

    @cached_property
    def ddf(self) -> Tensor:
        """The field, from the regions alone: displacement in voxels (B, 3, D, H, W), float32."""
        return self._forward("registration", self.moving_regions, self.fixed_regions)

    @cached_property
    def warped_regions(self) -> Tensor:
        """The regions of the moving image on the fixed grid; the edges of the masks move along."""
        return warp(self.moving_regions, self.ddf)

    def _mask(self, pred: Tensor) -> Tensor:
        if self.masks == "soft":
            return pred.softmax(dim=1)[:, 1:]
        return one_hot(pred.argmax(dim=1, keepdim=True), self.num_classes, dtype=torch.float32)[:, 1:]

    def _refuse_missing(self) -> None:
        if "segmentation" not in self.networks:
            raise ValueError(
                "PC-Reg registers through the masks of its own segmentation network, which is missing. "
                "Keep `model.pt` in the folder of `model_registration.pt`."
            )

    def _segment(self, name: str) -> Tensor:
        self._refuse_missing()
        perceived = self.perceived.chunk(2)  # which may make predictions on the way
        if "segmentation" not in self.learning:
            self.__dict__.update(zip(_PERCEIVED, perceived, strict=True))
        return self.__dict__[name] if name in self.__dict__ else super()._segment(name)


class GuidedState(PerceptionState):
    """The quantities of a pair whose registration network is shown the image and, beside it, one mask per structure.

    PC-Reg takes the image away outside the structures, so that nothing else can lead the field astray; here it stays,
    and the field follows it where segmentation has nothing to say. The network gets ``num_classes`` channels of each
    subject. Not of a paper.
    """

    shared = PerceptionState.shared

    @cached_property
    def ddf(self) -> Tensor:
        """The field, from images and masks: displacement in voxels (B, 3, D, H, W), float32."""
        moving = torch.cat([self.moving_image, self.moving_mask], dim=1)
        fixed = torch.cat([self.fixed_image, self.fixed_mask], dim=1)
        return self._forward("registration", moving, fixed)

    @cached_property
    def confidence(self) -> Tensor:
        """``agreement``, detached: it tells right from wrong warped labels where no discriminator did (methods.md)."""
        moving, fixed = self.perceived.softmax(dim=1).chunk(2)
        return (warp(moving, self.ddf) * fixed).sum(dim=1, keepdim=True).detach()

    @property
    def has_confidence(self) -> bool:
        """Always, as there is no field without segmentation."""
        return True


class RegionalNCC(LocalNCC):
    """The sum over the structures of 1 - mean squared local correlation, each of its own masked images.

    With C structures it is between 0 and C. A structure that is absent from either image costs 1 and has no gradient.
    Windows outside a structure are flat and score 0 but count in its mean, so a small structure costs almost 1 however
    well it is aligned, and pulls in proportion to its size; :class:`RegionalAgreement` shows how it does.

    Args:
        window, eps: as for :class:`scripts.losses.local_ncc.LocalNCC`.
    """

    def forward(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Return the sum of the dissimilarities of masked images (B, C, D, H, W), each averaged over its voxels."""
        return fixed.shape[1] * super().forward(warped, fixed)


class RegionalAgreement(nn.Module):
    """How well structures agree where they are, for the curves: it has no gradient.

    As :class:`RegionalNCC`, but averaged over the windows that hold some of the structure, and over the structures that
    are there. 0 where all agree, and 1 where there is none.

    Args:
        window, eps: as for :class:`scripts.losses.local_ncc.LocalNCC`.
    """

    def __init__(self, window: int = 9, eps: float = 1e-5) -> None:
        super().__init__()
        self.dissimilarity, self.window = LocalNCC(window, eps), window

    @torch.no_grad()
    def forward(self, warped: Tensor, fixed: Tensor) -> Tensor:
        """Return the mean dissimilarity of masked images (B, C, D, H, W) where they are not 0."""
        some = ((warped != 0) | (fixed != 0)).float()
        windows = F.max_pool3d(some, self.window, stride=1, padding=self.window // 2).sum(dim=(0, 2, 3, 4))
        scores = [
            1 - (1 - self.dissimilarity(warped[:, c : c + 1], fixed[:, c : c + 1])) * fixed[:, c].numel() / windows[c]
            for c in range(fixed.shape[1])
        ]
        there = windows > 0
        mean = torch.where(there, torch.stack(scores), 0).sum() / there.sum().clamp(min=1)
        return torch.where(there.any(), mean, 1)  # which stays on the device
