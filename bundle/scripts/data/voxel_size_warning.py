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

"""Says that a new image has other voxels than the networks were trained on, which count in voxels, not in mm."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..fields.grids import spacing_of
from ..files.datalist import case_name
from .preprocessed_checks import SPACING_WARNING

__all__ = ["VoxelSizeWarningd"]

logger = logging.getLogger(__name__)


@lru_cache(maxsize=4096)  # once for each image, as an evaluation reads it anew for every pair
def _warn(path: str, found: tuple[float, ...], expected: tuple[float, ...]) -> None:
    if max(max(a / b, b / a) for a, b in zip(found, expected, strict=True)) > SPACING_WARNING:
        sizes = [" x ".join(f"{mm:.3g}" for mm in size) for size in (found, expected)]
        logger.warning(
            "case '%s': voxels of %s mm, where the networks were trained on voxels of %s mm and count in voxels. "
            'Resample by --pixdim "[%s]".',
            case_name(path),
            *sizes,
            ",".join(f"{mm:g}" for mm in expected),
        )


class VoxelSizeWarningd(MapTransform):
    """Warns of images with other voxels than those of the training, and changes nothing. Stands after the resampling.

    Args:
        keys: images (1, X, Y, Z) in the orientation of the training, which know their affine and their files.
        voxel_size: mm along each axis of the networks' grid; None where it is not known, and nothing is said.
        allow_missing_keys: do not insist on every key.
    """

    def __init__(
        self, keys: KeysCollection, voxel_size: Sequence[float] | None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.voxel_size = None if voxel_size is None else tuple(voxel_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Look at the images of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.voxel_size is not None:
                _warn(str(d[key].meta.get("filename_or_obj", "")), spacing_of(d[key].affine), self.voxel_size)
        return d
