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
"""From the warped labels of several atlases to one segmentation."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

RADIUS = 2  # voxels: half the window in which images are compared
POWER = 2.0  # of the inverse difference; 0 would be the majority vote
SMALLEST_DIFFERENCE = 1e-6  # of images of unit variance: what an atlas that fits exactly is taken to have


def majority_vote(shares: np.ndarray) -> np.ndarray:
    """Give every voxel the class that most atlases have there.

    Args:
        shares: shape (atlases, classes, X, Y, Z), what a warped label has of each class at a voxel, 0 to 1: between
            voxels of the atlas a label is interpolated, and its vote is split.

    Returns:
        Classes, shape (X, Y, Z); of equals the lowest. One atlas gives its own label.
    """
    return shares.mean(axis=0).argmax(axis=0)


def locally_weighted_vote(target: np.ndarray, images: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Give every voxel the class that has most atlases there, each weighing what its image resembles the target nearby.

    The weight is (local mean squared difference)^-2 of the images, each of them brought to mean 0 and variance 1, in a
    window of 5 voxels: the inverse local difference of Artaechevarria, Munoz-Barrutia, Ortiz-de-Solorzano (2009),
    "Combination strategies in multi-atlas image segmentation", IEEE TMI 28(8).

    Args:
        target: the image to segment, shape (X, Y, Z).
        images: the warped images of the atlases, shape (atlases, X, Y, Z).
        shares: as of ``majority_vote``.

    Returns:
        Classes, shape (X, Y, Z). An atlas whose image is the target outvotes all that differ from it.
    """
    weights = np.stack([_resemblance(target, image) for image in images])
    return (weights[:, None] * shares).sum(axis=0).argmax(axis=0)


def _resemblance(target: np.ndarray, image: np.ndarray) -> np.ndarray:
    difference = (_standardised(target) - _standardised(image)) ** 2
    local = uniform_filter(difference, size=2 * RADIUS + 1, mode="nearest")
    return np.maximum(local, SMALLEST_DIFFERENCE) ** -POWER


def _standardised(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float64)
    return (image - image.mean()) / max(image.std(), 1e-12)


VOTES = {"majority": majority_vote, "weighted": locally_weighted_vote}
