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
"""The facts of a data set that a plan goes by: shapes, spacings, intensities, and where its structures lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from scipy.ndimage import center_of_mass, find_objects

__all__ = ["CaseFacts", "Fingerprint", "Structure", "facts_of", "fingerprint_of"]

PERCENTILES = (0.5, 50.0, 99.5)
SAMPLES = 2**18  # foreground voxels of a case that tell its percentiles
AIR, BONE = -500.0, 150.0  # Hounsfield units: what a CT has below the one, and above the other
SAME_SPACING = 0.01  # relative; headers are rounded


@dataclass(frozen=True)
class Structure:
    """Where a structure lies in a case, in mm along the plan's axes, from the middle of the image.

    Args:
        volume: in mm^3.
        centre: (3,), its centre of mass.
        low: (3,), the outer faces of its first voxels.
        high: (3,), those of its last.
    """

    volume: float
    centre: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class CaseFacts:
    """What a plan needs to know of one case, with its axes turned to the plan's orientation.

    Args:
        case: its name.
        shape: voxels.
        spacing: mm.
        orientation: of the axes in the file.
        values: the lowest and the highest one.
        foreground: ``PERCENTILES`` of the voxels with a label; without one, of those above the mean.
        background: the share of voxels that have the lowest value.
        structures: label id -> where it lies; none for an unlabelled case.
    """

    case: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    values: tuple[float, float]
    foreground: tuple[float, ...]
    background: float
    structures: Mapping[int, Structure] = field(default_factory=dict)

    @property
    def extent(self) -> np.ndarray:
        """(3,) in mm."""
        return np.multiply(self.shape, self.spacing)


def facts_of(
    case: str, image: np.ndarray, affine: np.ndarray, label: np.ndarray | None = None, orientation: str = "RAS"
) -> CaseFacts:
    """Look at one case.

    Args:
        case: its name.
        image: (X, Y, Z).
        affine: (4, 4), voxel to RAS mm.
        label: whole numbers on the grid of the image, 0 being background.
        orientation: of the plan's axes.

    Returns:
        Its facts; a structure without a voxel is left out.
    """
    codes = nib.orientations.axcodes2ornt(tuple(orientation))
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), codes)
    stored = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = tuple(float(stored[np.flatnonzero(turn[:, 0] == axis)[0]]) for axis in range(3))
    turned = nib.orientations.apply_orientation(image, turn)
    low, high = float(image.min()), float(image.max())
    shown = image[label > 0] if label is not None and (label > 0).any() else image[image > image.mean(dtype=np.float64)]
    shown = shown[:: max(1, shown.size // SAMPLES)]
    structures = {} if label is None else _structures(nib.orientations.apply_orientation(label, turn), spacing)
    return CaseFacts(
        case=case,
        shape=tuple(turned.shape),
        spacing=spacing,
        orientation="".join(axis or "?" for axis in nib.aff2axcodes(affine)),
        values=(low, high),
        foreground=tuple(float(value) for value in np.percentile(shown if shown.size else image, PERCENTILES)),
        background=float(np.mean(image == image.min())),
        structures=structures,
    )


def _structures(label: np.ndarray, spacing: Sequence[float]) -> dict[int, Structure]:
    ids = np.rint(label).astype(np.int32)
    middle, size = (np.array(label.shape) - 1) / 2, np.array(spacing)
    found = {}
    for number, box in enumerate(find_objects(ids), start=1):
        if box is None:
            continue
        mask = ids[box] == number
        first, last = ([getattr(side, end) for side in box] for end in ("start", "stop"))
        found[number] = Structure(
            volume=float(mask.sum() * size.prod()),
            centre=tuple(((np.array(center_of_mass(mask)) + first - middle) * size).tolist()),
            low=tuple(((np.array(first) - 0.5 - middle) * size).tolist()),
            high=tuple(((np.array(last) - 0.5 - middle) * size).tolist()),
        )
    return found


@dataclass(frozen=True)
class Fingerprint:
    """The facts of all cases together, in mm along the plan's axes.

    Args:
        cases: how many were looked at.
        labeled: how many of them have a label.
        shape: median voxels.
        spacing: median mm.
        is_uniform: every case has this spacing.
        extent: (3,), the largest image along each axis.
        orientations: of the files -> how many.
        is_ct: values are like Hounsfield units: some below ``AIR`` and some above ``BONE`` in every case.
        values: the lowest and highest of all cases.
        foreground: medians over the cases of ``PERCENTILES`` of the foreground.
        background: median share of voxels with the lowest value.
        volumes: structure -> median and smallest volume in mm^3.
        apart: structure -> how far its centre lies from its mean place, laid centre on centre: mean over the cases.
        spread: (3,), along each axis, standard deviation of the centres about their mean places, mean over structures.
        reach: (3,), of the voxel with a label that is farthest from the middle; zeros without labels.
        border: (3,), least distance of a label from the border of its image.
        largest: voxels of the largest file.
    """

    cases: int
    labeled: int
    shape: tuple[float, ...]
    spacing: tuple[float, ...]
    is_uniform: bool
    extent: tuple[float, ...]
    orientations: Mapping[str, int]
    is_ct: bool
    values: tuple[float, float]
    foreground: tuple[float, ...]
    background: float
    volumes: Mapping[str, tuple[float, float]]
    apart: Mapping[str, float]
    spread: tuple[float, ...]
    reach: tuple[float, ...]
    border: tuple[float, ...]
    largest: int


def fingerprint_of(cases: Sequence[CaseFacts], labels: Mapping[int, str]) -> Fingerprint:
    """Put the facts of cases together.

    Args:
        cases: at least one.
        labels: ids -> names of the structures.

    Raises:
        ValueError: there is no case.
    """
    if not cases:
        raise ValueError("a plan needs cases to train on: none is labelled, unlabelled, or for validation.")
    spacings = np.array([case.spacing for case in cases])
    spacing = np.median(spacings, axis=0)
    labeled = [case for case in cases if case.structures]
    everything = [(case, one) for case in labeled for one in case.structures.values()]
    reach = np.max([np.maximum(-np.array(s.low), s.high) for _, s in everything], axis=0) if everything else np.zeros(3)
    border = [np.minimum(np.array(s.low) + c.extent / 2, c.extent / 2 - s.high) for c, s in everything]
    offsets = _offsets(labeled, labels)
    spread = [np.sqrt(np.mean(offset**2, axis=0)) for offset in offsets.values() if len(offset) > 1]
    volumes = {name: [c.structures[i].volume for c in labeled if i in c.structures] for i, name in labels.items()}
    return Fingerprint(
        cases=len(cases),
        labeled=len(labeled),
        shape=_plain(np.median([case.shape for case in cases], axis=0)),
        spacing=_plain(spacing),
        is_uniform=bool((np.abs(spacings / spacing - 1) < SAME_SPACING).all()),
        extent=_plain(np.max([case.extent for case in cases], axis=0)),
        orientations=dict(Counter(case.orientation for case in cases).most_common()),
        is_ct=all(case.values[0] <= AIR and case.values[1] >= BONE for case in cases),
        values=(min(case.values[0] for case in cases), max(case.values[1] for case in cases)),
        foreground=_plain(np.median([case.foreground for case in labeled or cases], axis=0)),
        background=float(np.median([case.background for case in cases])),
        volumes={name: (float(np.median(found)), min(found)) for name, found in volumes.items() if found},
        apart={name: float(np.linalg.norm(offset, axis=1).mean()) for name, offset in offsets.items()},
        spread=_plain(np.mean(spread, axis=0) if spread else np.zeros(3)),
        reach=_plain(reach),
        border=_plain(np.min(border, axis=0) if border else np.zeros(3)),
        largest=max(int(np.prod(case.shape)) for case in cases),
    )


def _offsets(labeled: Sequence[CaseFacts], labels: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Structure -> (cases, 3), its centres from their mean."""
    centres = {n: np.array([c.structures[i].centre for c in labeled if i in c.structures]) for i, n in labels.items()}
    return {name: places - places.mean(axis=0) for name, places in centres.items() if len(places)}


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=float).tolist())
