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
"""One pair, from subjects in memory to the field on the networks' grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data.crop_warning import outside_crop_percent, warn_of_crop
from ..data.image_checks import seen_faults
from ..data.readers import load_volume
from ..data.transforms import LabelsToClassesd, preprocess
from ..data.volumes import Volume, lay_label
from ..fields.grids import as_affine, inverse_affine, spacing_of
from ..fields.maps import map_of_field, points_on_grid
from ..fields.transforms import AffineTransform, Chain
from ..fields.warping import warp
from ..files.datalist import case_name
from ..joint.state import PairState, required_networks
from ..losses.local_ncc import LocalNCC
from ..matching.match import Match
from .refinement import Refinement

logger = logging.getLogger(__name__)

NOISE_OF_NCC = 1e-4  # by which local NCC may fall between images that are as alike as before


@dataclass
class Subject:
    """One volume, as it lies on disk or in memory, and as the networks see it.

    Args:
        case: its name.
        file: the image of the file (1, X, Y, Z) with its affine.
        network: the preprocessed image (1, D, H, W) with its affine.
        label: label of the file as classes (1, X, Y, Z), with its affine, where there is one.
        outside_crop_percent: how much of what is bright in the file the networks do not see.
    """

    case: str
    file: Any
    network: Any
    label: Any = None
    outside_crop_percent: float = 0.0

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size of the file in mm."""
        return spacing_of(self.file.affine)


@dataclass
class Registered:
    """What registering a pair gave.

    Args:
        pair: the state of the pair on the networks' grid, for whatever else is asked of it.
        ddf: displacement (1, 3, D, H, W) in voxels of the networks' grid.
        seconds: wall time of the networks and the refinement, without files and without writing. What segmentation
            remembers of an image from an earlier pair is not in it.
        match: what the field was made of, where the state knows it.
    """

    pair: PairState
    ddf: torch.Tensor
    seconds: float
    match: Match | None = None


def load_subject(case: Mapping[str, Any], preprocessing: Callable, label_ids: Sequence[int]) -> Subject:
    """Read a case, both as it is and preprocessed, and warn where much of it is outside of what the networks see.

    Args:
        case: ``image`` and, where there is one, ``label``: paths, or volumes in memory; ``case``, its name, which is
            that of the image's file unless it is given.
        preprocessing: dictionary transforms that start from the path of ``image`` and tolerate a missing ``label``.
        label_ids: ids of the structures on disk, in the order of the classes.

    Returns:
        The subject.

    Raises:
        ValueError: when image and label do not share a grid, the label holds an id that is not known, or preprocessing
            leaves an image that is constant or not within [0, 1].
    """
    name = case.get("case") or case_name(case["image"])
    image, label = _load(case["image"], name), None
    if "label" in case:
        ids = {"label": _load(case["label"], f"{name}_label")}
        label = LabelsToClassesd(keys=["label"], label_ids=label_ids)(ids)["label"]
        label = lay_label(label, image, name)
    network, outside = preprocess(preprocessing, case["image"], name), 0.0
    if faults := seen_faults(network):
        source = case["image"]
        raise ValueError(f"case '{name}'{'' if isinstance(source, Volume) else f' ({source})'}: {faults[0]}")
    if isinstance(network, torch.Tensor):  # methods without networks, of the benchmarks, preprocess nothing
        outside = outside_crop_percent(image, network)
        warn_of_crop(str(image.meta["filename_or_obj"]), outside, tuple(network.shape[1:]))
    return Subject(name, image, network, label, outside)


def _load(volume: str | Path | Volume, name: str) -> Any:
    """As it is, (1, X, Y, Z) with its affine."""
    return volume.as_image(name) if isinstance(volume, Volume) else load_volume(volume)


@torch.no_grad()
def register_pair(
    moving: Subject,
    fixed: Subject,
    networks: Mapping[str, torch.nn.Module],
    state: Callable[..., PairState],
    device: torch.device | str = "cpu",
    amp_dtype: torch.dtype | None = None,
    refinement: Refinement | None = None,
    ddf: torch.Tensor | None = None,
) -> Registered:
    """Register ``moving`` onto ``fixed``; where a registration network is missing, centre onto centre (no field).

    Args:
        moving: the subject that is pulled.
        fixed: the subject that stays.
        networks: ``registration`` and whatever else the state of this recipe reads to register.
        state: makes the state of a pair.
        device: where the networks are.
        amp_dtype: type of the networks under autocast, or None.
        refinement: improves the field of this pair.
        ddf: what registering this pair has given before, (1, 3, D, H, W): its state is made anew, and no more.

    Returns:
        The field and its state.
    """
    batch = {"moving_image": moving.network, "fixed_image": fixed.network}
    batch = {key: image.as_tensor()[None].to(device) for key, image in batch.items()}
    carried = None if ddf is None else {"ddf": ddf}
    if ddf is None and "registration" in set(required_networks(state, ["registration"])) - networks.keys():
        carried = {"ddf": batch["fixed_image"].new_zeros(1, 3, *batch["fixed_image"].shape[2:])}
    start = time.perf_counter()
    make_state = partial(state, batch, networks, amp_dtype=amp_dtype)
    pair = make_state(carried=carried)
    if refinement is not None and ddf is None:
        pair = refinement(pair, make_state)
    ddf = pair.ddf
    if ddf.is_cuda:
        torch.cuda.synchronize(ddf.device)
    return Registered(pair, ddf, time.perf_counter() - start, pair.computed("match"))


def map_of_pair(ddf: torch.Tensor, moving: Subject, fixed: Subject, match: Match | None = None) -> Chain:
    """The map of a field on the networks' grid, points of the fixed volume to points of the moving one, in RAS mm.

    Args:
        ddf: (1, 3, D, H, W), voxels.
        moving, fixed: the pair.
        match: what the field was made of, where that is known: its affine is that of the map.
    """
    outside = None
    if match is not None:
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3] = match.affine.matrix[0]
        matrix[:3, 3] = (match.affine.moving_point - match.affine.matrix[0] @ match.affine.fixed_center[0])[0]
        to_moving, to_fixed = (as_affine(subject.network.affine) for subject in (moving, fixed))
        outside = AffineTransform(to_moving @ matrix @ inverse_affine(to_fixed))
    return map_of_field(ddf, fixed.network.affine, moving.network.affine, outside)


def points_on_fixed_file(
    ddf: torch.Tensor, moving: Subject, fixed: Subject, match: Match | None = None
) -> torch.Tensor:
    """Where each voxel of the fixed file comes from: points (X, Y, Z, 3) of the moving volume in RAS mm."""
    return points_on_grid(map_of_pair(ddf, moving, fixed, match), fixed.file.affine, fixed.file.shape[1:])


def points_without_field(moving: Subject, fixed: Subject) -> torch.Tensor:
    """The same of a field of zeros: what is one voxel to the networks is one place."""
    grids = [as_affine(subject.network.affine) for subject in (moving, fixed)]
    unmoved = AffineTransform(grids[0] @ inverse_affine(grids[1]))
    return points_on_grid(unmoved, fixed.file.affine, fixed.file.shape[1:])


@torch.no_grad()
def similarity_of(result: Registered) -> dict[str, Any]:
    """Measure how alike a pair is on the networks' grid, and whether registering has made that worse.

    Args:
        result: of registering the pair.

    Returns:
        ``local_ncc_before`` and ``local_ncc_after``, 0 to 1, and ``similarity_worse``: whether it fell.
    """
    moving, fixed = result.pair.moving_image, result.pair.fixed_image
    before, after = local_ncc(moving, fixed), local_ncc(warp(moving, result.ddf), fixed)
    return {"local_ncc_before": before, "local_ncc_after": after, "similarity_worse": after < before - NOISE_OF_NCC}


def describe_worse(pairs: Sequence[tuple[str, Mapping[str, Any]]], among: int, named: int = 4) -> str:
    """Say which registrations have made their pairs less alike, the worst first; nothing where none has.

    Args:
        pairs: name and :func:`similarity_of` of each.
        among: how many were registered.
        named: so many by name.
    """
    worse = [(name, pair) for name, pair in pairs if pair["similarity_worse"]]
    worse.sort(key=lambda entry: entry[1]["local_ncc_after"] - entry[1]["local_ncc_before"])
    if not worse:
        return ""
    told = [f"{name} (local NCC {p['local_ncc_before']:.3f} -> {p['local_ncc_after']:.3f})" for name, p in worse]
    more = f" and {len(told) - named} more" if len(told) > named else ""
    return (
        f"{len(worse)} of {among} registrations made the images less alike than they were: "
        f"{', '.join(told[:named])}{more}. Their fields are not to be trusted: look at the pictures, and whether such "
        "images are what the networks were trained on (contrast, voxel size, orientation, crop)."
    )


def local_ncc(image: torch.Tensor, fixed: torch.Tensor) -> float:
    """Mean squared local correlation of two images on one grid, 0 to 1: the similarity that registration maximises."""
    return 1 - float(LocalNCC()(image, fixed))
