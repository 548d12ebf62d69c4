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
"""How strongly a deformation field is applied when registration makes training data for segmentation.

Each sampler is called with a batch size and a device and returns one factor per sample, shape (B, 1, 1, 1, 1), to be
multiplied onto the field. Factor 0 leaves the moving image as it is, factor 1 is the plain warp.
"""

from __future__ import annotations

import torch


class Identity:
    """Always the full field: factor 1, the joint model without deep structure sampling (Table 2, rows without DSS)."""

    def __call__(self, batch_size: int, device: torch.device | str = "cpu") -> torch.Tensor:
        return torch.ones(batch_size, 1, 1, 1, 1, device=device)


class UniformScale:
    """Deep structure sampling: alpha ~ U[low, high], one draw per sample (DeepRS, Section 3.1, "DSS").

    Every point on the path from the moving to the fixed anatomy is a realistic anatomy, so the warped images stay
    diverse even when the registration network has converged.

    Args:
        low: smallest factor; 0 in the paper.
        high: largest factor; 1 in the paper.

    Raises:
        ValueError: when ``low`` is greater than ``high``.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        if low > high:
            raise ValueError(f"UniformScale: low ({low}) is greater than high ({high}).")
        self.low, self.high = low, high

    def __call__(self, batch_size: int, device: torch.device | str = "cpu") -> torch.Tensor:
        # drawn on the CPU so that one seed gives one sequence on every device
        factor = torch.rand(batch_size, 1, 1, 1, 1) * (self.high - self.low) + self.low
        return factor.to(device)


class BetaScale:
    """Factors from a Beta distribution; a = b = 0.3 puts most of the mass near 0 and 1 (BRBS, space sampling).

    Args:
        a: first shape parameter, positive.
        b: second shape parameter, positive.

    Raises:
        ValueError: when a parameter is not positive.
    """

    def __init__(self, a: float = 0.3, b: float = 0.3) -> None:
        if a <= 0 or b <= 0:
            raise ValueError(f"BetaScale: both parameters must be positive, got a={a}, b={b}.")
        self.distribution = torch.distributions.Beta(a, b)

    def __call__(self, batch_size: int, device: torch.device | str = "cpu") -> torch.Tensor:
        return self.distribution.sample((batch_size, 1, 1, 1, 1)).to(device)
