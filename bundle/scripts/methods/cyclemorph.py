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
"""CycleMorph: two registration networks, one each way, that have to undo each other.

Kim, Kim, Lee, Kim, Kim, Ye: "CycleMorph: Cycle consistent unsupervised deformable image registration", Medical Image
Analysis 2021.
"""

from __future__ import annotations

from functools import cached_property

import torch

from ..fields.warping import warp
from ..joint.state import PairState


class CycleState(PairState):
    """The quantities of a pair that is registered both ways: moving -> fixed -> moving, and the other way round.

    ``registration`` registers the moving onto the fixed image, as everywhere; ``backward_registration`` the fixed onto
    the moving one. The two warped images are then registered again, each by the other network, which should lead back
    to where they came from.
    """

    @cached_property
    def backward_ddf(self) -> torch.Tensor:
        """The field of the second network, that pulls the fixed image: in voxels of the moving grid."""
        return self._forward("backward_registration", self.fixed_image, self.moving_image)

    @cached_property
    def backward_image(self) -> torch.Tensor:
        """The fixed image, warped on the moving one."""
        return warp(self.fixed_image, self.backward_ddf)

    @cached_property
    def returned_moving_image(self) -> torch.Tensor:
        """The moving image after the whole cycle: to the fixed one, and back by the second network."""
        back = self._forward("backward_registration", self.warped_image, self.backward_image)
        return warp(self.warped_image, back)

    @cached_property
    def returned_fixed_image(self) -> torch.Tensor:
        """The fixed image after the whole cycle: to the moving one, and back by the first network."""
        return warp(self.backward_image, self._forward("registration", self.backward_image, self.warped_image))

    @cached_property
    def unmoved_fixed_image(self) -> torch.Tensor:
        """The fixed image, registered onto itself by the first network."""
        return warp(self.fixed_image, self._forward("registration", self.fixed_image, self.fixed_image))

    @cached_property
    def unmoved_moving_image(self) -> torch.Tensor:
        """The moving image, registered onto itself by the second network."""
        onto_itself = self._forward("backward_registration", self.moving_image, self.moving_image)
        return warp(self.moving_image, onto_itself)
