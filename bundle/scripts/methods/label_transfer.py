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
"""LT-Net: an atlas is carried onto an image and back again, and has to come back as it was.

Wang, Cao, Wei, Wang, Ma, Wang, Meng, Zheng: "LT-Net: Label Transfer by Learning Reversible Voxel-wise Correspondence
for One-shot Medical Image Segmentation", CVPR 2020.
"""

from __future__ import annotations

from functools import cached_property

import torch

from ..fields.warping import warp
from ..joint.state import PairState


class LabelTransferState(PairState):
    """The quantities of a labelled moving image, the atlas, that goes to the fixed image and from there back.

    ``registration`` brings the atlas onto the fixed image, as everywhere; ``backward_registration`` brings the warped
    atlas onto the atlas as it was. ``image_discriminator`` looks at one image, and says whether it is a real one.
    """

    @cached_property
    def backward_ddf(self) -> torch.Tensor:
        """The field that pulls the warped atlas back, in voxels of the moving grid (B, 3, D, H, W)."""
        return self._forward("backward_registration", self.warped_image, self.moving_image)

    @cached_property
    def returned_image(self) -> torch.Tensor:
        """The atlas after the cycle."""
        return warp(self.warped_image, self.backward_ddf)

    @cached_property
    def returned_label(self) -> torch.Tensor:
        """The label of the atlas after the cycle, soft."""
        return warp(self.warped_label, self.backward_ddf)

    @cached_property
    def real_logits(self) -> torch.Tensor:
        """The discriminator on the fixed image."""
        return self._forward("image_discriminator", self.fixed_image)

    @cached_property
    def warped_logits(self) -> torch.Tensor:
        """The discriminator on the warped atlas."""
        return self._forward("image_discriminator", self.warped_image)
