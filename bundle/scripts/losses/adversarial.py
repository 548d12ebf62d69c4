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
"""Equation 5 and the adversarial term of Equation 3: the discriminator, and registration against it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .shapes import in_float32, without_autocast

__all__ = ["AdversarialLoss", "DiscriminatorLoss"]


class AdversarialLoss(nn.Module):
    """Registration's reward for a pair that the discriminator takes for aligned, -mean log d.

    The non-saturating form has the fixed point of log(1 - d) and a gradient that does not vanish while the
    discriminator is still sure of itself.
    """

    def forward(self, alignment_logits: Tensor) -> Tensor:
        """Return -mean log sigmoid of the discriminator's logits of the warped pair, any shape."""
        with without_autocast(alignment_logits):
            (logits,) = in_float32(alignment_logits)
            return F.softplus(-logits).mean()


class DiscriminatorLoss(nn.Module):
    """Binary cross-entropy of the pixel-wise discriminator on an aligned reference and a warped pair (Eq. 5).

    Args:
        pause_below: the discriminator rests (loss and gradient 0) while its mean score of warped pairs is at or below
            this value, that is, while it is winning; None never pauses. The decision stays on the device.

    Raises:
        ValueError: `pause_below` is not in [0, 1).
    """

    def __init__(self, pause_below: float | None = None) -> None:
        super().__init__()
        if pause_below is not None and not 0 <= pause_below < 1:
            raise ValueError(
                f"DiscriminatorLoss: pause_below is a mean probability in [0, 1) or None, found {pause_below}."
            )
        self.pause_below = pause_below

    def forward(self, reference_logits: Tensor, alignment_logits: Tensor) -> Tensor:
        """Return -mean log d(reference) - mean log(1 - d(warped)).

        Args:
            reference_logits: logits of the pair that counts as aligned, any shape.
            alignment_logits: logits of the warped pair (warped image detached by the caller), any shape.

        Returns:
            scalar, 2 log 2 for a discriminator that cannot tell the two apart (logits 0).
        """
        with without_autocast(reference_logits):
            reference, alignment = in_float32(reference_logits, alignment_logits)
            loss = F.softplus(-reference).mean() + F.softplus(alignment).mean()
            if self.pause_below is None:
                return loss
            active = alignment.detach().sigmoid().mean() > self.pause_below
            return loss * active
