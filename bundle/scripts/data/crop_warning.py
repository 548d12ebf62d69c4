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

"""Says how much of a new image the networks do not see: what is segmented or registered has no data check before it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, MapTransform

from ..fields.grids import outside_grid
from ..files.datalist import case_name

__all__ = ["CropWarningd", "outside_crop_percent", "warn_of_crop"]

logger = logging.getLogger(__name__)

CROP_WARNING = 20.0  # percent: good crops around an organ lose up to 17, and nothing of any structure
SAMPLES = 2**20  # voxels of a file that are enough to say how much of it is left


def outside_crop_percent(image: MetaTensor, seen: MetaTensor) -> float:
    """Measure how much of an image the networks do not see.

    What is brighter than the mean of the image counts, so that air around it does not. Of a large file, every second
    (third, ...) voxel along each axis is looked at.

    Args:
        image: as it lies on disk, (1, X, Y, Z).
        seen: what preprocessing made of it, (1, D, H, W).

    Returns:
        Percent outside of the networks' grid, 0 when it holds everything.
    """
    step = max(1, round((image.numel() / SAMPLES) ** (1 / 3)))
    sample = image.as_tensor()[0, ::step, ::step, ::step].float()
    steps = torch.diag(torch.tensor([step, step, step, 1], dtype=torch.float64))
    outside = outside_grid(sample > sample.mean(), image.affine.double() @ steps, seen.affine, seen.shape[1:])
    return 100 * outside.float().mean().item() if len(outside) else 0.0


@lru_cache(maxsize=4096)  # once for each image, as an evaluation reads it anew for every pair
def warn_of_crop(path: str, percent: float, size: tuple[int, ...]) -> None:
    """Warn, once, when much of an image lies outside of what the networks see.

    Args:
        path: of the image.
        percent: how much, as ``outside_crop_percent`` has it.
        size: voxels along the axes of the networks' grid.
    """
    if percent > CROP_WARNING:
        logger.warning(
            "case '%s': %.0f %% of what is bright in the image lies outside of the %s voxels that the networks see, "
            "and becomes background. Cut the image to the region that they were trained on.",
            case_name(path),
            percent,
            " x ".join(map(str, size)),
        )


class CropWarningd(MapTransform):
    """Warns of images that a centre crop cuts much off, and changes nothing. Stands before the crop.

    Args:
        keys: images (1, X, Y, Z) that know their files.
        spatial_size: of the crop, in voxels.
        allow_missing_keys: do not insist on every key.
    """

    def __init__(
        self, keys: KeysCollection, spatial_size: Sequence[int] | int, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop = CenterSpatialCrop(spatial_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at the images of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            kept = self.crop.compute_slices(d[key].shape[1:])
            bright = d[key].as_tensor()[0] > d[key].mean()
            percent = 100 * (1 - bright[kept].sum() / bright.sum().clamp(min=1)).item()
            size = tuple(side.stop - side.start for side in kept)
            warn_of_crop(str(d[key].meta.get("filename_or_obj", "")), percent, size)
        return d
