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

"""What registering a pair gives, in memory: from the field on the networks' grid to everything on the fixed file's own.

Every image and label is interpolated once, from its own file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from ..fields.grids import voxel_points
from ..fields.maps import displacement_on_grid, points_on_grid
from ..fields.metrics import folding_percent, jacobian_at_grid, sdlogj
from ..fields.transforms import Chain
from ..fields.volumes import as_stored
from ..fields.world import sample_at, sample_label_at
from ..files.marks import KEY, written_by
from ..joint.state import PairState
from ..pictures.orientation import VIEWS, Frame
from ..training.pair_picture import draw_pair
from .inverse import invert_pair
from .pair import Registered, Subject, describe_worse, map_of_pair, similarity_of

logger = logging.getLogger(__name__)


#: of what registering writes, as ITK has it
DIRECTION = "points from fixed to moving, images from moving to fixed"


def field_files(moving: str, fixed: str) -> tuple[str, str]:
    """Names of the two files of a field, which say what it leads from and to: as NIfTI and as a transform of ITK."""
    return f"{moving}_to_{fixed}_warp.nii.gz", f"{moving}_to_{fixed}_transform.h5"


@dataclass(frozen=True, eq=False)
class PairResult:
    """A registered pair. What has the shape (X, Y, Z) lies on the fixed file's own grid.

    Args:
        moving: the subject that was pulled.
        fixed: the subject that stayed.
        pair: its state on the networks' grid.
        transform: the map of the pair, points of the fixed volume to points of the moving one: a field and an affine.
        inverse: the map back, where it was asked for.
        warped: (X, Y, Z), the moving image: float32, or the type of its file where that is whole numbers.
        warped_label: (X, Y, Z), the ids of its label, where there is one.
        jacobian: (X, Y, Z) float32, |J| of the map from fixed to moving points.
        confidence: (X, Y, Z) float32, where the recipe has one.
        summary: what ``summary.json`` holds.
        view: of the picture, radiological or neurological.
    """

    moving: Subject
    fixed: Subject
    pair: PairState
    transform: Chain
    inverse: Chain | None
    warped: np.ndarray
    warped_label: np.ndarray | None
    jacobian: np.ndarray
    confidence: np.ndarray | None
    summary: Mapping[str, Any]
    view: str = VIEWS[0]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), voxel to RAS mm, of the fixed file."""
        return np.asarray(self.fixed.file.affine, dtype=np.float64)

    @cached_property
    def displacement(self) -> torch.Tensor:
        """(X, Y, Z, 3) float32, moving point minus fixed point, LPS mm, on the CPU."""
        return displacement_on_grid(self.transform, self.fixed.file.affine, self.fixed.file.shape[1:])

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """The pair on the networks' grid, (H, W, 3) uint8: outlined is the carried label, else what D finds."""
        frame = Frame.of(self.fixed.network.affine, self.view)
        if self.moving.label is not None:
            fixed, label = self.fixed.network, self.moving.label
            points = points_on_grid(self.transform, fixed.affine, fixed.shape[1:])
            carried = sample_label_at(label.as_tensor(), label.affine, points)
            return draw_pair(self.pair, frame, carried[0], outlined="warped label")
        segmented = self.pair.fixed_pred[0].argmax(0) if "segmentation" in self.pair.networks else None
        return draw_pair(self.pair, frame, segmented)


@torch.no_grad()
def pair_result(
    moving: Subject,
    fixed: Subject,
    result: Registered,
    label_ids: Sequence[int],
    fill_value: float,
    names: Mapping[str, str],
    view: str = VIEWS[0],
    inverse: bool = False,
) -> PairResult:
    """Bring what was registered onto the grid of the fixed file.

    Args:
        moving: the subject that was pulled.
        fixed: the subject that stayed.
        result: their field.
        label_ids: ids of the structures, in the order of the classes.
        fill_value: of the warped image where it comes from outside the moving one.
        names: of ``moving`` and ``fixed`` in the summary, such as their paths.
        view: of the picture.
        inverse: also find the map back.

    Returns:
        All of it, in memory: beside the images up to 28 bytes a voxel of the fixed file.
    """
    summary = _summarise(moving, fixed, result, names)
    transform, back = map_of_pair(result.ddf, moving, fixed, result.match), None
    grid = fixed.file.affine, fixed.file.shape[1:]
    if inverse:
        back, told = invert_pair(result, transform, moving, fixed)
        summary["inverse"] = {"transforms": list(field_files(fixed.case, moving.case)), **told}
    warped, warped_label = _carry(moving, points_on_grid(transform, *grid), label_ids, fill_value)
    confidence = None
    if result.pair.has_confidence:
        here = voxel_points(fixed.file.shape[1:], fixed.file.affine)
        values = result.pair.confidence[0].float().cpu()
        confidence = sample_at(values, fixed.network.affine, here)[0].numpy()
    jacobian = jacobian_at_grid(partial(displacement_on_grid, transform), *grid).numpy()
    return PairResult(
        moving, fixed, result.pair, transform, back, warped, warped_label, jacobian, confidence, summary, view
    )


def _carry(
    moving: Subject, points: torch.Tensor, label_ids: Sequence[int], fill_value: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """The moving image, and the ids of its label, at points of it."""
    warped = sample_at(moving.file.as_tensor().float(), moving.file.affine, points, fill=fill_value)[0].numpy()
    warped = as_stored(warped, moving.file.meta)
    if moving.label is None:
        return warped, None
    classes = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)[0].numpy()
    ids = np.array([0, *label_ids], dtype=np.int16 if max(label_ids) < 2**15 else np.int32)
    return warped, ids[classes]


def _summarise(moving: Subject, fixed: Subject, result: Registered, names: Mapping[str, str]) -> dict[str, Any]:
    summary = {
        "moving": names["moving"],
        "fixed": names["fixed"],
        "transforms": list(field_files(moving.case, fixed.case)),  # one transform in two formats
        "direction": DIRECTION,
        "outside_crop_percent": {  # what the networks do not see
            "moving": moving.outside_crop_percent,
            "fixed": fixed.outside_crop_percent,
        },
        **similarity_of(result),
        "folding_percent": float(folding_percent(result.ddf)),
        "sdlogj": float(sdlogj(result.ddf)),
        "mean_displacement_voxels": float(result.ddf.norm(dim=1).mean()),
        "seconds": result.seconds,
        KEY: written_by(),
    }
    logger.info(
        "registered: local NCC %(local_ncc_before).3f -> %(local_ncc_after).3f, folding "
        "%(folding_percent).3f %%, %(seconds).2f s",
        summary,
    )
    told = describe_worse([(f"{moving.case} to {fixed.case}", summary)], among=1)
    summary["warnings"] = [told] if told else []
    for text in summary["warnings"]:
        logger.warning("%s", text)
    return summary
