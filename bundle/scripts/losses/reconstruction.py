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
"""What autoencoders are taught by that neither PyTorch nor MONAI has: MASSL's reconstruction, a VAE's divergence."""

from __future__ import annotations

from torch import Tensor, nn

from .shapes import in_float32, without_autocast

__all__ = ["AttentionReconstruction", "StandardNormalDivergence"]


class AttentionReconstruction(nn.Module):
    """Each class's part of an image reconstructed by a map of its own (MASSL).

    Chen et al.: "Multi-Task Attention-Based Semi-Supervised Learning for Medical Image Segmentation", MICCAI 2019. The
    sum over classes c of w_c times the mean square of r_c - a_c x, with w_c the share of class c in the attention, as
    in the authors' public program (for foreground and background). 0 where each r_c is a_c x.
    """

    def forward(self, reconstructions: Tensor, attention: Tensor, image: Tensor) -> Tensor:
        """Return the loss; all but ``image`` may receive a gradient.

        Args:
            reconstructions: r, a map for each class, (B, C, D, H, W).
            attention: a, class probabilities that sum to 1, same shape.
            image: x, (B, 1, D, H, W).

        Returns:
            scalar, in squared intensities.

        Raises:
            ValueError: the shapes do not fit together.
        """
        if attention.shape != reconstructions.shape or image.shape != (len(attention), 1, *attention.shape[2:]):
            raise ValueError(
                "AttentionReconstruction: reconstructions and attention must have one shape (B, C, D, H, W), and image "
                f"(B, 1, D, H, W), found {tuple(reconstructions.shape)}, {tuple(attention.shape)} and "
                f"{tuple(image.shape)}."
            )
        with without_autocast(image):
            maps, shares, volume = in_float32(reconstructions, attention, image)
            errors = (maps - shares * volume).square().mean(dim=(0, 2, 3, 4))
            return (shares.mean(dim=(0, 2, 3, 4)) * errors).sum()


class StandardNormalDivergence(nn.Module):
    """Kullback-Leibler divergence of independent normal distributions from N(0, 1), the prior of a VAE.

    Kingma, Welling: "Auto-Encoding Variational Bayes", ICLR 2014, Appendix B; a mean over the numbers of a code, where
    the publication has the sum. 0 for means of 0 and variances of 1.
    """

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return the mean over batch and code, in nats, of tensors of one shape (B, L)."""
        with without_autocast(mean):
            mu, log = in_float32(mean, log_variance)
            return 0.5 * (mu.square() + log.exp() - 1 - log).mean()
