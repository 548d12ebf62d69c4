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


"""A pair whose field is found by optimisation, for this pair alone, with what segmentation knows of both images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..joint.state import PairState
from ..matching.match import Match, Matching

#: predictions that the field is made of
_BEFORE = ("moving_pred", "fixed_pred")


class MatchedState(PairState):
    """The quantities of a pair without a registration network: an affine and a velocity, optimised. Not of a paper.

    Args:
        matching: optimises. With ``overlap`` above 0 the field follows the classes that segmentation sees, too.
        guided: whether there is a segmentation network to ask; without, the images alone decide.
        args, kwargs: as :class:`scripts.joint.state.PairState`.

    Attributes:
        match: what the field was made of, once there is one; None where another field was carried over.
    """

    def __init__(self, *args: Any, matching: Matching, guided: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.matching, self.guided = matching, guided
        self.match: Match | None = None

    @classmethod
    def required(cls, tasks: Sequence[str], guided: bool = True, **_: Any) -> list[str]:
        """A segmentation network for either task; none to register by the images alone."""
        return ["segmentation"] if guided or "segmentation" in tasks else []

    @cached_property
    def ddf(self) -> Tensor:
        """The field: displacement in voxels (B, 3, D, H, W), float32."""
        probabilities = (self.moving_prob, self.fixed_prob) if self.guided else ()
        with torch.inference_mode(False):
            self.match = self.matching.match(self.moving_image, self.fixed_image, *probabilities)
            return self.match.ddf

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
