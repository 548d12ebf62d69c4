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

"""The files of a segmented case: names, and how each is written."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import KeysCollection
from monai.transforms import SaveImaged

from ..fields.volumes import save_nifti, write_volume
from ..files.datalist import case_name
from ..files.marks import is_marked

__all__ = ["SaveLabelMapd"]

logger = logging.getLogger(__name__)

#: what `inferring` adds to the name of a case
ENDINGS = SEGMENTED, CONFIDENCE, PROBABILITIES = "_seg", "_confidence", "_probabilities"


class SaveLabelMapd(SaveImaged):
    """MONAI's ``SaveImaged`` for label maps: ``CASE_seg.nii.gz``, in the type of the ids, and as a whole or not at all.

    The name is the ``case`` of the data and, where there is none, that of the image's file: of two images ``t1.nii.gz``
    in folders of their own, ``SaveImaged`` would keep the second.

    Args:
        keys: label maps (1, X, Y, Z) with their affines, on the grids of their files. Beside one goes the
            ``confidence`` of the data, where it has one: ``CASE_confidence.nii.gz``, 0 to 1; and its ``probabilities``
            (C, X, Y, Z): ``CASE_probabilities.nii.gz``.
        output_dir: where they go. A file that is there and that this product did not write is not replaced.
        results: the :class:`scripts.data.LabelMapFolder` that collects those of a run.
    """

    def __init__(self, keys: KeysCollection, output_dir: str, results: Any = None) -> None:
        super().__init__(
            keys, output_dir=output_dir, output_dtype=None, separate_folder=False, resample=False, print_log=False
        )
        self.output_dir, self.results = Path(output_dir), results

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the label maps of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            name = d.get("case") or case_name(str(d[key].meta.get("filename_or_obj", key)))
            write = self._write if self.results is None or not self.results.is_open else self.results.write
            confidence = d["confidence"][0].numpy() if "confidence" in d else None
            probabilities = d["probabilities"].numpy(force=True) if "probabilities" in d else None
            write(name, d[key][0].numpy(), np.asarray(d[key].affine), confidence, probabilities, d.get("review"))
            logger.info("segmented: %s", name)
        return d

    def _write(
        self,
        case: str,
        label: np.ndarray,
        affine: np.ndarray,
        confidence: np.ndarray | None,
        probabilities: np.ndarray | None,
        _: Any,
    ) -> None:
        names = (label_map_name(case), confidence_name(case), probabilities_name(case))
        volumes = dict(zip(names, (label, confidence, probabilities), strict=True))
        volumes = {self.output_dir / name: volume for name, volume in volumes.items() if volume is not None}
        for path in volumes:
            if path.exists() and not is_marked(path):
                raise FileExistsError(f"case '{case}': '{path}' is there, and DeepRS did not write it as it is.")
        for path, volume in volumes.items():
            (write_probabilities if volume.ndim == 4 else write_volume)(path, volume, affine)


def label_map_name(case: str) -> str:
    """The file of a case's label map."""
    return f"{case}{SEGMENTED}.nii.gz"


def confidence_name(case: str) -> str:
    """The file of how sure a case's label map is."""
    return f"{case}{CONFIDENCE}.nii.gz"


def probabilities_name(case: str) -> str:
    """The file of the probabilities of a case's classes."""
    return f"{case}{PROBABILITIES}.nii.gz"


def write_probabilities(path: str | Path, prob: np.ndarray, affine: np.ndarray) -> None:
    """Write probabilities (C, X, Y, Z) as one NIfTI (X, Y, Z, C), in steps of 1/255; what is missing is background.

    Args:
        path: ends in ``.nii.gz``.
        prob: the background first. Outside the networks' grid nothing has any: that is background.
        affine: voxel to mm (4, 4).
    """
    scaled = np.empty((*prob.shape[1:], len(prob)), np.uint8)
    for number in range(1, len(prob)):
        scaled[..., number] = np.rint(255 * np.clip(prob[number], 0, 1))
    scaled[..., 0] = np.rint(255 * np.clip(1 - prob[1:].sum(axis=0), 0, 1))
    image = nibabel.Nifti1Image(scaled, np.asarray(affine, dtype=np.float64))
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1 / 255, 0)
    save_nifti(image, path)
