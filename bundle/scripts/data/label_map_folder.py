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
from ..files.tables import write_csv
from .label_map_files import confidence_name, label_map_name, probabilities_name, write_probabilities
from .review import measured_shapes
from .review_table import TABLE, ModelReview

__all__ = ["LabelMapFolder"]

logger = logging.getLogger(__name__)


class LabelMapFolder:
    """Collects the label maps of many cases and puts them in place together; a later run goes on with a stopped one.

    Args:
        output_dir: where ``CASE_seg.nii.gz`` go.
        overwrite: also replace files there that this product did not write, or that were corrected since.
        settings: what the label maps depend on besides the images.
        confidence: whether each comes with ``CASE_confidence.nii.gz``.
        probabilities: whether each comes with ``CASE_probabilities.nii.gz``.
        review: what is known of the model, to write ``review.csv`` by; None: none is written.
    """

    def __init__(
        self,
        output_dir: str | Path,
        overwrite: bool = False,
        settings: Any = None,
        confidence: bool = False,
        probabilities: bool = False,
        review: ModelReview | None = None,
    ) -> None:
        self.output = OutputFolder(output_dir, overwrite, settings)
        self.confidence, self.probabilities, self.review = confidence, probabilities, review
        self.images: dict[str, str] = {}
        self.waiting: list[Mapping[str, str]] = []
        self.found: dict[str, list[dict[str, Any]]] = {}
        self.is_open = False

    def begin(self, cases: Sequence[Mapping[str, str]]) -> None:
        """Take the folder, before an image is looked at.

        Args:
            cases: ``case`` and ``image`` of each.

        Raises:
            ValueError: what is known of the model cannot be read.
            FileExistsError: a label map would replace what this product did not write, or another process writes there.
        """
        if self.review is not None:
            self.review.read()
        self.output.open()
        self.is_open, self.images = True, {case["case"]: case["image"] for case in cases}
        try:
            names = [name for case in self.images for name in self._names(case)]
            self.output.refuse_foreign([*names, *([] if self.review is None else [TABLE])])
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
        self.waiting, self.found = [], {case["case"]: [] for case in cases}
        for case in cases:
            records = [self.output.finished(name, [case["image"]]) for name in self._names(case["case"])]
            if None in records:
                self.waiting.append(case)
            else:
                self.found[case["case"]] = records[0]["result"]
        return self.waiting

    def write(
        self,
        case: str,
        label: np.ndarray,
        affine: np.ndarray,
        confidence: np.ndarray | None = None,
        probabilities: np.ndarray | None = None,
        review: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Keep the results of a case ready.

        Args:
            case: its name.
            label: ids, (X, Y, Z).
            affine: voxel to mm (4, 4).
            confidence: how sure it is, (X, Y, Z).
            probabilities: of each class, (C, X, Y, Z).
            review: what :class:`scripts.methods.Reviewed` says of it.
        """
        if self.review is not None:
            self.found[case] = self._reviewed(label, affine, review or {})
        if self.confidence:
            write_volume(self.output.staging / confidence_name(case), confidence, affine)
        if self.probabilities:
            write_probabilities(self.output.staging / probabilities_name(case), probabilities, affine)
        write_volume(self.output.staging / label_map_name(case), label, affine)
        for name in self._names(case):
            self.output.finish(name, [self.images[case]], self.found.get(case))

    def _names(self, case: str) -> list[str]:
        names = [label_map_name(case)]
        names += [confidence_name(case)] if self.confidence else []
        return [*names, *([probabilities_name(case)] if self.probabilities else [])]

    def _reviewed(
        self, label: np.ndarray, affine: np.ndarray, review: Mapping[str, Sequence[Any]]
    ) -> list[dict[str, Any]]:
        shapes = measured_shapes(label, affine, list(self.review.names))
        for number, shape in enumerate(shapes):
            shape |= {key: review[key][number] if key in review else None for key in ("estimate", "agreement")}
            shape["touches_border"] |= review["cut_off"][number] if "cut_off" in review else False
        return shapes

    def run(self, segment: Callable[[], Any]) -> None:
        """Segment what is left, and put all label maps in place.

        Args:
            segment: does it, such as the method ``run`` of an evaluator.
        """
        try:
            if self.waiting:
                segment()
            if self.review is not None:
                rows = [row | {"image": self.images[row["case"]]} for row in self.review.rows(self.found)]
                write_csv(self.output.staging / TABLE, rows)
            self.output.place()
            logger.info("written to %s", self.output.path.resolve())
        finally:
            self.close()
