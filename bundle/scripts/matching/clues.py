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

"""What a pair of images says, voxel by voxel, about whether one lies right on the other, and how to learn from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DIFFERENCE", "WINDOWS", "Judge", "find_clues", "learn_judge"]

WINDOWS = (3, 5, 9)  # voxels; clues are the local correlations over these, then the logarithms of local differences
DIFFERENCE = len(WINDOWS)  # index of the first of the latter
FLOOR, VARIANCE = 1e-3, 1e-4  # of a squared difference, and of a variance, of images in [0, 1]
STEPS, DECAY = 50, 1e-4


def find_clues(warped: Tensor, fixed: Tensor) -> Tensor:
    """Local correlation of two images, and the logarithm of their mean squared difference, over each of ``WINDOWS``.

    Args:
        warped, fixed: (B, 1, D, H, W) in [0, 1].

    Returns:
        (B, 6, D, H, W).
    """
    correlations, differences, apart = [], [], (warped - fixed).square()
    for window in WINDOWS:
        sums = _mean(torch.cat([warped, fixed, warped * warped, fixed * fixed, warped * fixed, apart], dim=1), window)
        a, b, aa, bb, ab, difference = sums.split(1, dim=1)
        spread = ((aa - a * a).clamp(min=0) + VARIANCE) * ((bb - b * b).clamp(min=0) + VARIANCE)
        correlations.append((ab - a * b) / spread.sqrt())
        differences.append((difference + FLOOR).log())
    return torch.cat(correlations + differences, dim=1)


def _mean(volume: Tensor, window: int) -> Tensor:
    return F.avg_pool3d(volume, window, stride=1, padding=window // 2, count_include_pad=False)


@dataclass(frozen=True)
class Judge:
    """Tells from clues whether a warped label is right: the discriminator's true task, as a logistic regression.

    Args:
        weights: (K + 1,), of the clues and of 1.
    """

    weights: Tensor

    def __call__(self, clues: Tensor) -> Tensor:
        """The logit (B, 1, D, H, W) of being right, of clues (B, K, D, H, W)."""
        weights = self.weights.to(clues.device)
        return torch.einsum("bkdhw,k->bdhw", clues, weights[:-1])[:, None] + weights[-1]


def learn_judge(clues: Tensor, right: Tensor) -> Judge:
    """Fit a judge by maximum likelihood.

    Args:
        clues: (N, K).
        right: (N,), 1 where the warped label was that of the image.
    """
    mean, scale = clues.mean(dim=0), clues.std(dim=0).clamp(min=1e-6)
    with torch.inference_mode(False), torch.enable_grad():
        inputs, truth = ((clues - mean) / scale).clone(), right.float().clone()
        weights = torch.zeros(clues.shape[1] + 1, device=clues.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits = inputs @ weights[:-1] + weights[-1]
            value = F.binary_cross_entropy_with_logits(logits, truth) + DECAY * weights[:-1].square().sum()
            value.backward()
            return value

        optimizer.step(loss)
    of_clues = weights.detach()[:-1] / scale
    return Judge(torch.cat([of_clues, (weights.detach()[-1] - of_clues @ mean)[None]]).cpu())
