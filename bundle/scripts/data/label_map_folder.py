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
"""The folder that the label maps of a segmentation go into, and what is done when a run of many cases is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..fields.volumes import write_volume
from ..files.output_folder import OutputFolder
from .transforms import confidence_name, label_map_name

__all__ = ["LabelMapFolder"]

logger = logging.getLogger(__name__)


class LabelMapFolder:
    """Collects the label maps of many cases and puts them in place together; a later run goes on with a stopped one.

    Args:
        output_dir: where ``CASE_seg.nii.gz`` go.
        overwrite: also replace files there that this product did not write, or that were corrected since.
        settings: what the label maps depend on besides the images.
        confidence: whether each comes with ``CASE_confidence.nii.gz``.
    """

    def __init__(
        self, output_dir: str | Path, overwrite: bool = False, settings: Any = None, confidence: bool = False
    ) -> None:
        self.output = OutputFolder(output_dir, overwrite, settings)
        self.confidence = confidence
        self.images: dict[str, str] = {}
        self.waiting: list[Mapping[str, str]] = []
        self.is_open = False

    def begin(self, cases: Sequence[Mapping[str, str]]) -> None:
        """Take the folder, before an image is looked at.

        Args:
            cases: ``case`` and ``image`` of each.

        Raises:
            FileExistsError: a label map would replace what this product did not write, or another process writes there.
        """
        self.output.open()
        self.is_open, self.images = True, {case["case"]: case["image"] for case in cases}
        try:
            self.output.refuse_foreign(name for case in self.images for name in self._names(case))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others have the folder."""
        self.is_open = False
        self.output.close()

    def left(self, cases: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The cases that a stopped run with the same settings has not finished."""
        self.output.resume([name for case in cases for name in self._names(case["case"])])
        self.waiting = [
            case
            for case in cases
            if any(self.output.finished(name, [case["image"]]) is None for name in self._names(case["case"]))
        ]
        return self.waiting

    def write(self, case: str, label: np.ndarray, affine: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Keep the label map (X, Y, Z) of a case ready, with its affine (4, 4), and how sure it is, (X, Y, Z)."""
        for name, volume in zip(self._names(case), (label, confidence), strict=False):
            write_volume(self.output.staging / name, volume, affine)
            self.output.finish(name, [self.images[case]])

    def _names(self, case: str) -> list[str]:
        return [label_map_name(case), *([confidence_name(case)] if self.confidence else [])]

    def run(self, segment: Callable[[], Any]) -> None:
        """Segment what is left, and put all label maps in place.

        Args:
            segment: does it, such as the method ``run`` of an evaluator.
        """
        try:
            if self.waiting:
                segment()
            self.output.place()
            logger.info("written to %s", self.output.path.resolve())
        finally:
            self.close()
