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

import copy
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

# Local correlation after the affine of two abdomens, brains or hippocampi: 0.26 to 0.97 by images, 0.19 to 0.49 by
# structures of abdomens, whose volumes differ up to 3.5-fold; of two not of a kind: 0.14 to 0.30, of noise: 0.04
LEAST_BY_IMAGES, LEAST_BY_STRUCTURES, VOLUMES = 0.2, 0.1, (1 / 6, 6.0)


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

    def seeing(self, overlap: float) -> Matching:
        """The same with another weight of the overlap of structures."""
        other = copy.copy(self)
        other.overlap = overlap
        return other

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
            return self._match(moving, fixed, moving_prob, fixed_prob)

    def begin(
        self, moving: Tensor, fixed: Tensor, moving_prob: Tensor | None = None, fixed_prob: Tensor | None = None
    ) -> Match:
        """The affine alone; arguments as for :meth:`match`."""
        with torch.inference_mode(False), torch.enable_grad():
            scans, known = _scanned(moving, fixed, moving_prob, fixed_prob)
            return Match(self._affine(scans, known), tuple(fixed.shape[2:]))

    def approximate(self, moving: Tensor, fixed: Tensor, moving_prob: Tensor, fixed_prob: Tensor) -> Match:
        """The affine in closed form, from the centres of the structures: for training, where each pair comes once.

        Where fewer than three structures are seen, the images are laid centre on centre.

        Args:
            moving, fixed, moving_prob, fixed_prob: as for :meth:`match`, on grids of one shape.
        """
        size = tuple(fixed.shape[2:])
        scans = Scan(moving), Scan(fixed)
        if not self.affine:
            return Match(Affine.identity(*scans), size)
        found, seen = structure_affine(moving_prob.detach().float(), fixed_prob.detach().float(), steps=0)
        eye = torch.eye(3, device=seen.device).expand_as(found.matrix)
        with torch.no_grad():
            return Match(
                Affine(
                    torch.where(seen[:, None, None], found.matrix, eye),
                    torch.where(seen[:, None], found.fixed_center, scans[1].center),
                    torch.where(seen[:, None], found.moving_point, scans[0].center),
                ),
                size,
            )

    def refine(
        self,
        match: Match,
        moving: Tensor,
        fixed: Tensor,
        moving_prob: Tensor | None = None,
        fixed_prob: Tensor | None = None,
        steps: int = 20,
        learning_rate: float = 0.4,
    ) -> Match:
        """Go on from a match by steps on its velocity, with the images as they are.

        Args:
            match: has a velocity.
            moving, fixed, moving_prob, fixed_prob: as for :meth:`match`.
            steps: how many.
            learning_rate: about how far a point moves in a step, in voxels.
        """
        if not steps:
            return match
        with torch.inference_mode(False), torch.enable_grad():
            scans, known = _scanned(moving, fixed, moving_prob, fixed_prob)
            affine = Affine(*(_for_gradients(each) for each in vars(match.affine).values()))
            velocity = match_velocity(
                *(*scans, affine, [Level(match.stride, 1, steps)], self.window, self.smoothness),
                *(known if self.overlap else None, self.overlap, self.similarity),
                learning_rate=learning_rate,
                start=_for_gradients(match.velocity),
            )
        return Match(affine, match.size, velocity, match.stride)

    def _match(self, moving: Tensor, fixed: Tensor, moving_prob: Tensor | None, fixed_prob: Tensor | None) -> Match:
        scans, known = _scanned(moving, fixed, moving_prob, fixed_prob)
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
            if bool(seen.all()) and not self._doubts(affine, scans, LEAST_BY_STRUCTURES):
                return affine
        affine = match_affine(*scans)
        if doubts := self._doubts(affine, scans, LEAST_BY_IMAGES):
            logger.warning("the affine cannot be trusted: %s. Look at the result.", doubts)
        return affine

    def _doubts(self, affine: Affine, scans: tuple[Scan, Scan], expected: float) -> str:
        """Why affines are not to be trusted; nothing where they are."""
        alike = float(likeness(affine, *scans, self.window).min())
        volumes = torch.linalg.det(affine.matrix)
        least, most = float(volumes.min()), float(volumes.max())
        if alike < expected:
            return f"after it the images are hardly alike (local correlation {alike:.2f}, expected {expected})"
        if least < VOLUMES[0] or most > VOLUMES[1]:
            return f"it changes volumes {(least if least < VOLUMES[0] else most):.2g}-fold, as no two subjects differ"
        return ""


def _scanned(
    moving: Tensor, fixed: Tensor, moving_prob: Tensor | None, fixed_prob: Tensor | None
) -> tuple[tuple[Scan, Scan], tuple[Tensor, Tensor] | None]:
    """Both images, and the classes of both, where they are known, on the grids of the scans."""
    scans = Scan(_for_gradients(moving)), Scan(_for_gradients(fixed))
    if moving_prob is None or fixed_prob is None:
        return scans, None
    known = (pad_to_multiple(_for_gradients(prob).float(), "constant") for prob in (moving_prob, fixed_prob))
    return scans, tuple(known)


def _for_gradients(tensor: Tensor) -> Tensor:
    """A plain tensor that optimisation can go through, whatever it was made as."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().clone() if plain.is_inference() else plain.detach()
