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

"""From two images to the field between them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..fields.warping import sample_voxels
from .affine import Affine, likeness, match_affine
from .scan import Scan, grid_points, pad_to_multiple
from .structures import structure_affine
from .velocity import LEVELS, Level, displacement_of, match_velocity

__all__ = ["Match", "Matching"]

logger = logging.getLogger(__name__)

# Of six pairs each of abdomens, brains and hippocampi: 0.26 to 0.97, 0.43 to 2.1. Of one kind onto another: 0.14 to 0.30
LEAST_LIKENESS, VOLUMES = 0.2, (1 / 3, 3.0)


@dataclass(frozen=True)
class Match:
    """What was found of pairs: voxel p comes from affine(p + u(p)), u being the integral of a velocity.

    Args:
        affine: from fixed to moving points.
        size: of the fixed images.
        velocity: (B, 3, d, h, w) on every ``stride``-th voxel, in voxels of the fixed images; None: the affine alone.
        stride: of the velocity.
    """

    affine: Affine
    size: tuple[int, ...]
    velocity: Tensor | None = None
    stride: int = 1

    @property
    def ddf(self) -> Tensor:
        """The displacement (B, 3, D, H, W) on the fixed grid."""
        points = grid_points(self.size, 1, self.affine.matrix.device)
        return (self.affine(points + self.integral().movedim(1, -1)) - points).movedim(-1, 1)

    def inverse(self, moving_size: Sequence[int]) -> Tensor:
        """The displacement (B, 3, *moving_size) on the moving grid that leads back: the inverse affine, then -v."""
        points = grid_points(tuple(moving_size), 1, self.affine.matrix.device)
        back = Affine(torch.linalg.inv(self.affine.matrix), self.affine.moving_point, self.affine.fixed_center)(points)
        further = sample_voxels(self.integral(-1.0), back, padding_mode="border")
        return (back + further.movedim(1, -1) - points).movedim(-1, 1)

    def integral(self, time: float = 1.0) -> Tensor:
        """Where the velocity leads in some time, back where it is negative, without the affine: (B, 3, D, H, W)."""
        if self.velocity is None:
            return self.affine.matrix.new_zeros(len(self.affine.matrix), 3, *self.size)
        whole = [side * self.stride for side in self.velocity.shape[2:]]  # the grid was continued to such multiples
        d, h, w = self.size
        return displacement_of(time * self.velocity, self.stride, whole)[..., :d, :h, :w]


class Matching:
    """Registers pairs by optimisation: an affine, then a velocity on finer and finer grids. For any anatomy.

    Class probabilities, where they are given, make the affine (without gradients, from three structures on), and with
    ``overlap`` the field, too. A field whose velocity sees images only owes nothing but its affine to the network that
    made the probabilities, and can teach it.

    Args:
        levels: stride of the velocity, pooling of the images and number of steps, coarse to fine; none: the affine.
        window: of the local correlation, in voxels.
        smoothness: weight of the squared gradient of the velocity.
        overlap: weight of the overlap of structures (soft Dice), beside the local correlation; 0: images only.
        similarity: weight of the local correlation.
        affine: whether there is one; False for images that lie on each other already.
    """

    def __init__(
        self,
        levels: Sequence[Sequence[int]] = LEVELS,
        window: int = 5,
        smoothness: float = 0.2,
        overlap: float = 0.0,
        similarity: float = 1.0,
        affine: bool = True,
    ) -> None:
        self.levels = [Level(*level) for level in levels]
        self.window, self.smoothness = window, smoothness
        self.overlap, self.similarity, self.affine = overlap, similarity, affine

    def __call__(
        self, moving: Tensor, fixed: Tensor, moving_prob: Tensor | None = None, fixed_prob: Tensor | None = None
    ) -> Tensor:
        """Register pairs; see :meth:`match`.

        Returns:
            The displacement (B, 3, D, H, W) on the fixed grid: voxel p comes from voxel p + u(p) of the moving image.
        """
        with torch.inference_mode(False):  # a network may learn from it
            return self.match(moving, fixed, moving_prob, fixed_prob).ddf

    def match(
        self, moving: Tensor, fixed: Tensor, moving_prob: Tensor | None = None, fixed_prob: Tensor | None = None
    ) -> Match:
        """Register pairs.

        Args:
            moving, fixed: (B, 1, D, H, W) in [0, 1], with voxels of one size; shapes may differ.
            moving_prob, fixed_prob: class probabilities (B, C, D, H, W) on these grids, background first.

        Returns:
            What was found, for both directions.
        """
        with torch.inference_mode(False), torch.enable_grad():  # whoever asks may be in either
            given = (moving, fixed, moving_prob, fixed_prob)
            return self._match(*(None if each is None else _for_gradients(each) for each in given))

    def _match(self, moving: Tensor, fixed: Tensor, moving_prob: Tensor | None, fixed_prob: Tensor | None) -> Match:
        scans = Scan(moving), Scan(fixed)
        known = None
        if moving_prob is not None and fixed_prob is not None:
            known = tuple(pad_to_multiple(prob.detach().float(), "constant") for prob in (moving_prob, fixed_prob))
        affine, size = self._affine(scans, known), tuple(fixed.shape[2:])
        if not self.levels:
            return Match(affine, size)
        seen = known if self.overlap else None
        velocity = match_velocity(
            *scans, affine, self.levels, self.window, self.smoothness, seen, self.overlap, self.similarity
        )
        return Match(affine, size, velocity, self.levels[-1].stride)

    def _affine(self, scans: tuple[Scan, Scan], known: tuple[Tensor, Tensor] | None) -> Affine:
        if not self.affine:
            return Affine.identity(*scans)
        if known is not None:
            affine, seen = structure_affine(*known)
            if bool(seen.all()) and not self._doubts(affine, scans):
                return affine
        affine = match_affine(*scans)
        if doubts := self._doubts(affine, scans):
            logger.warning("the affine cannot be trusted: %s. Look at the result.", doubts)
        return affine

    def _doubts(self, affine: Affine, scans: tuple[Scan, Scan]) -> str:
        """Why affines are not to be trusted; nothing where they are."""
        alike = float(likeness(affine, *scans, self.window).min())
        volumes = torch.linalg.det(affine.matrix)
        least, most = float(volumes.min()), float(volumes.max())
        if alike < LEAST_LIKENESS:
            return f"after it the images are hardly alike (local correlation {alike:.2f}, expected {LEAST_LIKENESS})"
        if least < VOLUMES[0] or most > VOLUMES[1]:
            return f"it changes volumes {(least if least < VOLUMES[0] else most):.2g}-fold, as no two subjects differ"
        return ""


def _for_gradients(tensor: Tensor) -> Tensor:
    """A plain tensor that optimisation can go through, whatever it was made as."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().clone() if plain.is_inference() else plain.detach()
