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
"""Register one volume file onto another: from files, through the networks' grid, to the fixed file's own grid.

The networks see preprocessed volumes on a small grid. What is written is on the grid of the fixed file as it lies on
disk, and every image and label is interpolated once, from its own file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.image_checks import check_files, fill_number
from ..fields.grids import spacing_of, voxel_points
from ..fields.metrics import folding_percent, jacobian_at_grid, sdlogj
from ..fields.transform_files import write_displacement, write_field_transform
from ..fields.volumes import write_volume
from ..fields.warping import warp
from ..fields.world import displacement_lps, moving_points, sample_at, sample_label_at
from ..files.datalist import case_name
from ..files.output_folder import OutputFolder
from ..files.writing import write_result
from ..joint.state import PairState
from ..training.pair_picture import draw_pair, write_picture
from .pair import Registered, Subject, load_subject, local_ncc, points_on_fixed_file, register_pair
from .refinement import Refinement

logger = logging.getLogger(__name__)


#: of what registering writes, as ITK has it
DIRECTION = "points from fixed to moving, images from moving to fixed"


#: what registering may write beside the field, which is named after its pair
VOLUMES = ("warped", "warped_label", "jacobian", "confidence")


RESULTS = {*(f"{name}.nii.gz" for name in VOLUMES), "picture.png", "summary.json"}


def field_files(moving: str, fixed: str) -> tuple[str, str]:
    """Names of the two files of a field, which say what it leads from and to: as NIfTI and as a transform of ITK."""
    return f"{moving}_to_{fixed}_warp.nii.gz", f"{moving}_to_{fixed}_transform.h5"


def result_names(moving: str, fixed: str) -> list[str]:
    """All files that registering one image onto another may write."""
    return [*sorted(RESULTS), *field_files(case_name(moving), case_name(fixed))]


class RegisterFiles:
    """Registers one file onto another and writes everything that a user could want of it.

    Into ``output_dir``, all on the fixed file's own grid: ``warped.nii.gz``, with ``moving_label`` also
    ``warped_label.nii.gz`` in the original ids, ``jacobian.nii.gz`` and, where the recipe has one,
    ``confidence.nii.gz``. The field twice, named after the two files since it goes into other programs:
    ``MOVING_to_FIXED_warp.nii.gz`` (intent 1007) and ``MOVING_to_FIXED_transform.h5`` (ITK), the same numbers in LPS
    mm. Beside them ``summary.json``, and ``picture.png`` of the pair on the networks' grid. The result that was there
    before is replaced as a whole, once the new one is complete; fields of other pairs stay.

    Args:
        moving: path of the image that is pulled.
        fixed: path of the image that stays.
        output_dir: where the files go.
        preprocessing: as in training.
        networks: ``registration``, and whatever else the state of the recipe reads.
        state: makes the state of a pair.
        labels: ids of the structures -> names.
        moving_label: path of a label of the moving image.
        fill_value: intensity of the warped image where it comes from outside the moving one (-1024 for CT).
        refinement: improves the field of this pair.
        device: where the networks are.
        overwrite: also replace files in ``output_dir`` that this product did not write.
    """

    def __init__(
        self,
        moving: str,
        fixed: str,
        output_dir: str,
        preprocessing: Callable,
        networks: Mapping[str, torch.nn.Module],
        state: Callable[..., PairState],
        labels: Mapping[str, str],
        moving_label: str | None = None,
        fill_value: float = 0.0,
        refinement: Refinement | None = None,
        device: torch.device | str = "cpu",
        overwrite: bool = False,
    ) -> None:
        self.paths = {"moving": moving, "fixed": fixed, "moving_label": moving_label}
        self.output, self.preprocessing = OutputFolder(output_dir, overwrite), preprocessing
        self.networks, self.state, self.device = dict(networks), state, device
        self.refinement = refinement
        self.label_ids = sorted(int(i) for i in labels if int(i) != 0)
        self.fill_value = fill_number(fill_value)

    def run(self) -> dict[str, Any]:
        """Register and write.

        Returns:
            What ``summary.json`` holds.

        Raises:
            FileNotFoundError: when a file is missing, before anything is computed.
            FileExistsError: when a result would replace what this product did not write, or another process writes
                there; before anything is computed.
            ValueError: when a file is not one volume that can be registered, the label does not lie on the moving
                image's grid, or it holds ids that are not known; before anything is computed.
        """
        for name, path in self.paths.items():
            if path is None and name != "moving_label":
                raise ValueError(f"--{name} is missing: registering takes --moving FILE --fixed FILE --output_dir DIR.")
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"no such file: --{name} '{path}'.")
        check_files((name, path) for name, path in self.paths.items() if path is not None)
        with self.output:
            self.output.refuse_foreign(result_names(self.paths["moving"], self.paths["fixed"]))
            return self._register()

    def _register(self) -> dict[str, Any]:
        label = {"label": self.paths["moving_label"]} if self.paths["moving_label"] else {}
        moving = load_subject({"image": self.paths["moving"], **label}, self.preprocessing, self.label_ids)
        fixed = load_subject({"image": self.paths["fixed"]}, self.preprocessing, self.label_ids)
        result = register_pair(moving, fixed, self.networks, self.state, self.device, refinement=self.refinement)
        summary = self._summarise(moving, fixed, result)
        with self.output.replacing(RESULTS) as folder:
            self._write(folder, moving, fixed, result)
            write_result(folder / "summary.json", summary)
        logger.info("written to %s", self.output.path.resolve())
        return summary

    @torch.no_grad()
    def _write(self, folder: Path, moving: Subject, fixed: Subject, result: Registered) -> None:
        _write_field(folder, moving, fixed, result.ddf)  # first, as it refuses grids that no ITK image can have
        self._write_warped(folder, moving, fixed, result.ddf)
        if result.pair.has_confidence:
            confidence = result.pair.confidence[0].float().cpu()
            here = voxel_points(fixed.file.shape[1:], fixed.file.affine)
            _write_map(folder / "confidence.nii.gz", sample_at(confidence, fixed.network.affine, here)[0], fixed)
        write_picture(folder / "picture.png", self._draw(moving, fixed, result.pair))

    def _write_warped(self, folder: Path, moving: Subject, fixed: Subject, ddf: torch.Tensor) -> None:
        points = points_on_fixed_file(ddf, moving, fixed)
        warped = sample_at(moving.file.as_tensor().float(), moving.file.affine, points, fill=self.fill_value)
        _write_map(folder / "warped.nii.gz", warped[0], fixed)
        if moving.label is not None:
            classes = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)[0].numpy()
            ids = np.array([0, *self.label_ids], dtype=np.int16 if max(self.label_ids) < 2**15 else np.int32)
            write_volume(folder / "warped_label.nii.gz", ids[classes], fixed.file.affine)

    def _draw(self, moving: Subject, fixed: Subject, pair: PairState) -> np.ndarray:
        spacing = spacing_of(fixed.network.affine)
        if moving.label is not None:
            grid = (fixed.network.affine, fixed.network.shape[1:])
            points = moving_points(pair.ddf.cpu(), fixed.network.affine, moving.network.affine, *grid)
            carried = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)[0]
            return draw_pair(pair, spacing, carried, outlined="warped label")
        segmented = pair.fixed_pred[0].argmax(0) if "segmentation" in pair.networks else None
        return draw_pair(pair, spacing, segmented)

    def _summarise(self, moving: Subject, fixed: Subject, result: Registered) -> dict[str, Any]:
        summary = {
            "moving": str(self.paths["moving"]),
            "fixed": str(self.paths["fixed"]),
            "transforms": list(field_files(moving.case, fixed.case)),  # one transform in two formats
            "direction": DIRECTION,
            "outside_crop_percent": {  # what the networks do not see
                "moving": moving.outside_crop_percent,
                "fixed": fixed.outside_crop_percent,
            },
            "local_ncc_before": local_ncc(result.pair.moving_image, result.pair.fixed_image),
            "local_ncc_after": local_ncc(warp(result.pair.moving_image, result.ddf), result.pair.fixed_image),
            "folding_percent": float(folding_percent(result.ddf)),
            "sdlogj": float(sdlogj(result.ddf)),
            "mean_displacement_voxels": float(result.ddf.norm(dim=1).mean()),
            "seconds": result.seconds,
        }
        logger.info(
            "registered: local NCC %(local_ncc_before).3f -> %(local_ncc_after).3f, folding "
            "%(folding_percent).3f %%, %(seconds).2f s",
            summary,
        )
        return summary


def _write_field(folder: Path, moving: Subject, fixed: Subject, ddf: torch.Tensor) -> None:
    field = (ddf.cpu(), fixed.network.affine, moving.network.affine, fixed.file.affine, fixed.file.shape[1:])
    displacement_mm = displacement_lps(*field)
    warp_file, transform_file = (folder / name for name in field_files(moving.case, fixed.case))
    write_displacement(warp_file, displacement_mm, fixed.file.affine)
    write_field_transform(transform_file, displacement_mm, fixed.file.affine)
    _write_map(folder / "jacobian.nii.gz", jacobian_at_grid(*field), fixed)


def _write_map(path: Path, volume: torch.Tensor, fixed: Subject) -> None:
    write_volume(path, volume.numpy().astype(np.float32), fixed.file.affine)
