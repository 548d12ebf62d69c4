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

"""What is done to a volume before a network sees it: stated here, and read by every command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureTyped,
    Orientationd,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Transform,
)

from .crop_warning import CropWarningd
from .image_checks import CheckImaged, CheckPreprocessedd
from .readers import LoadVolumed
from .transforms import LabelsToClassesd, SafeSpacingd
from .voxel_size_warning import VoxelSizeWarningd

__all__ = ["Preprocessing"]

INTENSITIES = ("percentiles", "window")
CROPS = ("center", "foreground")


class Preprocessing(Compose):
    """From files to what the networks see: ``image`` (1, D, H, W) float32 in [0, 1] and ``label`` (1, D, H, W) uint8.

    In this order: read; ids of a label to classes; turn the axes; resample; scale intensities; crop or pad. Invertible,
    as MONAI's ``Compose`` is. A config that needs other steps gives a ``Compose`` of its own in its place.

    Args:
        spatial_size: voxels of the networks' grid; centre crop and pad.
        orientation: of the axes, such as ``RAS``.
        pixdim: voxel size in mm to resample to; ``None`` keeps that of each volume.
        crop: ``center``, or ``foreground``: first to what is above 0 after scaling.
        intensity: ``percentiles`` of each volume, or ``window`` (CT).
        intensity_range: the two percentiles, or the two ends of the window, that become 0 and 1; values beyond are
            clipped.
        label_ids: the foreground ids of labels on disk; ``None``: images alone.
        check: refuse images that nothing can be computed from, as they lie or as they come out, where no data check has
            gone before.
        voxel_size: mm of the training's voxels; other ones are told in a warning. ``None``: nothing is said.
        warn_of_crop: warn of images of which much is outside of the crop.

    Raises:
        ValueError: ``intensity`` or ``crop`` is none of their words.
    """

    def __init__(
        self,
        spatial_size: Sequence[int],
        orientation: str = "RAS",
        pixdim: Sequence[float] | None = None,
        crop: str = "center",
        intensity: str = "percentiles",
        intensity_range: Sequence[float] = (1, 99),
        label_ids: Sequence[int] | None = None,
        check: bool = False,
        voxel_size: Sequence[float] | None = None,
        warn_of_crop: bool = False,
    ) -> None:
        for name, word, words in (("intensity", intensity, INTENSITIES), ("crop", crop, CROPS)):
            if word not in words:
                raise ValueError(f"{name}: expected one of {list(words)}, found {word!r}.")
        self.image, self.label = ["image"], [] if label_ids is None else ["label"]
        self.ends = tuple(intensity_range)
        steps = [
            *self._read(label_ids, check),
            *self._place(orientation, pixdim, voxel_size),
            *self._scale(intensity),
            *self._crop(crop, spatial_size, warn_of_crop),
            *([CheckPreprocessedd(self.image)] if check else []),
        ]
        super().__init__(steps)

    def _read(self, label_ids: Sequence[int] | None, check: bool) -> Iterator[Transform]:
        yield LoadVolumed([*self.image, *self.label], ensure_channel_first=True, allow_missing_keys=True)
        if check:
            yield CheckImaged(self.image)
        if label_ids is not None:
            yield LabelsToClassesd(self.label, label_ids, allow_missing_keys=True)

    def _place(
        self, orientation: str, pixdim: Sequence[float] | None, voxel_size: Sequence[float] | None
    ) -> Iterator[Transform]:
        keys = [*self.image, *self.label]
        yield Orientationd(keys, axcodes=orientation, labels=None, allow_missing_keys=True)
        if pixdim is not None:
            modes = ["bilinear", "nearest"][: len(keys)]
            yield SafeSpacingd(keys, pixdim=pixdim, mode=modes, allow_missing_keys=True)
        if voxel_size is not None:
            yield VoxelSizeWarningd(self.image, voxel_size)

    def _scale(self, intensity: str) -> Iterator[Transform]:
        scaled = {"b_min": 0.0, "b_max": 1.0, "clip": True}
        if intensity == "percentiles":
            yield ScaleIntensityRangePercentilesd(self.image, *self.ends, **scaled)
        else:
            yield ScaleIntensityRanged(self.image, *self.ends, **scaled)

    def _crop(self, crop: str, spatial_size: Sequence[int], warn: bool) -> Iterator[Transform]:
        keys = [*self.image, *self.label]
        if crop == "foreground":
            yield CropForegroundd(keys, source_key="image", allow_missing_keys=True)
        if warn:
            yield CropWarningd(self.image, spatial_size)
        yield ResizeWithPadOrCropd(keys, spatial_size=spatial_size, allow_missing_keys=True)
        yield EnsureTyped(keys, dtype=[torch.float32, torch.uint8][: len(keys)], allow_missing_keys=True)
