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
"""DeepAtlas: registration and segmentation that compare anatomies, known or predicted.

Xu, Niethammer: "DeepAtlas: Joint Semi-supervised Learning of Image Registration and Segmentation", MICCAI 2019.
"""

from __future__ import annotations

from functools import cached_property

import torch

from ..fields.warping import warp
from ..joint.state import PairState


class AnatomyState(PairState):
    """A pair with an anatomy for each image: its label where it has one, else what the segmentation network says."""

    @cached_property
    def moving_anatomy(self) -> torch.Tensor:
        """One-hot label of the moving image or, without one, its class probabilities."""
        return self.moving_label if "moving_label" in self.batch else self.moving_prob

    @cached_property
    def fixed_anatomy(self) -> torch.Tensor:
        """One-hot label of the fixed image or, without one, its class probabilities."""
        return self.fixed_label if "fixed_label" in self.batch else self.fixed_prob

    @cached_property
    def warped_anatomy(self) -> torch.Tensor:
        """The anatomy of the moving image, carried along by the field."""
        return warp(self.moving_anatomy, self.ddf)
