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


"""A pair that is matched: an affine, then a velocity, by optimisation or by a network, with what segmentation knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..fields.warping import warp
from ..joint.state import PairState
from ..matching.match import Match, Matching

#: predictions that the field is made of
_BEFORE = ("moving_pred", "fixed_pred")


class MatchedState(PairState):
    """The quantities of a pair that is registered by an affine and a velocity behind it. Not of a paper.

    With a registration network, that one guesses the velocity in one pass, from the image and the class probabilities
    of both subjects, the moving ones moved by the affine: stacks of ``num_classes`` channels. ``refined`` goes on from
    there. Without one, optimisation alone finds the velocity. The affine follows from the class probabilities: while a
    network learns, in closed form, and later with steps behind.

    Args:
        matching: finds the affine, and optimises. With ``overlap`` above 0 the field follows the classes that
            segmentation sees, too.
        guided: whether there is a segmentation network to ask; without, the images alone decide.
        args, kwargs: as :class:`scripts.joint.state.PairState`.
    """

    drawn = None  # it optimises until that no longer pays

    def __init__(self, *args: Any, matching: Matching, guided: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.matching, self.guided = matching, guided

    @classmethod
    def required(cls, tasks: Sequence[str], guided: bool = True, **_: Any) -> list[str]:
        """A segmentation network for either task; none to register by the images alone."""
        return ["segmentation"] if guided or "segmentation" in tasks else []

    @cached_property
    def ddf(self) -> Tensor:
        """The field: displacement in voxels (B, 3, D, H, W), float32."""
        return self.match.ddf

    @cached_property
    def velocity(self) -> Tensor:
        """What the field is the integral of, before the affine: (B, 3, D/2, H/2, W/2), in voxels of the fixed grid."""
        return self.match.velocity

    @cached_property
    def match(self) -> Match:
        """The affine and the velocity."""
        pair = self._pair()
        if "registration" not in self.networks:
            with torch.inference_mode(False):
                return self.matching.match(*pair)
        begun = self._begun(pair)
        with torch.no_grad():
            ddf = begun.ddf
            moved = [warp(self.moving_image, ddf, padding_mode="border"), warp(self.moving_prob[:, 1:], ddf)]
            onto = [self.fixed_image, self.fixed_prob[:, 1:]]
        velocity = self._forward("registration", torch.cat(moved, 1), torch.cat(onto, 1), method="velocity")
        return replace(begun, velocity=velocity.float(), stride=2)

    def refined(self, steps: int) -> dict[str, Any]:
        """What to carry into a state of this pair so that its field is this one, refined by steps."""
        match = self.matching.refine(self.match, *self._pair(), steps=steps)
        seen = {name: getattr(self, name) for name in _BEFORE} if self.guided else {}
        return {"match": match, **seen}

    def _pair(self) -> tuple[Tensor, ...]:
        probabilities = (self.moving_prob, self.fixed_prob) if self.guided else ()
        return self.moving_image, self.fixed_image, *probabilities

    def _begun(self, pair: tuple[Tensor, ...]) -> Match:
        """The affine alone."""
        if self.learning:
            return self.matching.approximate(*pair)
        return self.matching.begin(*pair)

    def _segment(self, name: str) -> Tensor:
        if not self.guided or self.computed("ddf") is not None:
            return super()._segment(name)
        if name not in _BEFORE:
            _ = self.ddf  # a batch of predictions may hold warped images
            return super()._segment(name)
        wanted, self.wanted = self.wanted, [q for q in self.wanted if q.replace("_prob", "_pred") in _BEFORE]
        try:
            return super()._segment(name)
        finally:
            self.wanted = wanted

    @cached_property
    def confidence(self) -> Tensor:
        """``agreement``, detached: it tells right from wrong warped labels where no discriminator did (methods.md)."""
        return self.agreement.detach()

    @property
    def has_confidence(self) -> bool:
        """Where there is segmentation."""
        return self.guided
