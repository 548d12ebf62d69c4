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

"""What the networks will see of a case: whether preprocessing leaves them something to learn and to segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..fields.grids import change_grid, outside_grid, spacing_of

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from .volumes import Volume

__all__ = ["Preprocessed", "look_at", "value_faults", "warnings_of"]

OUTSIDE_UNIT = 1e-3  # by which values may leave [0, 1], where local correlation and the networks expect them
CUT_WARNING = 1.0  # percent of a structure that the crop takes away
ENDS_WARNING = 95.0  # percent of an image at its lowest or highest value: air alone is three quarters of many
SPACING_WARNING = 1.25  # between the voxel sizes of two cases
NAMED = 4  # cases in a warning, the worst ones


@dataclass(frozen=True)
class Preprocessed:
    """What preprocessing made of a case.

    Args:
        case: its name.
        size: voxels along the axes of the networks' grid.
        spacing: their sizes in mm.
        at_ends: percent of the image, padding aside, that has its lowest or its highest value.
        constant: the value of all voxels that are not padding, where there is but one.
        values: the lowest and the highest one.
        not_finite: how many voxels hold NaN or infinity.
        label: classes (D, H, W) on the networks' grid, uint8, of a labelled case.
        cut: structures of the file -> percent of their voxels that lie outside of the networks' grid.
        lost: those that have no voxel on it.
        needed: the ``size`` that would hold the whole label.
    """

    case: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    at_ends: float = 0.0
    constant: float | None = None
    values: tuple[float, float] = (0.0, 1.0)
    not_finite: int = 0
    label: torch.Tensor | None = None
    cut: Mapping[str, float] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    needed: tuple[int, ...] = ()

    def faults(self, multiple: int) -> list[str]:
        """What makes the case useless to the networks; ``multiple`` is that of the sizes they can halve."""
        faults = self.value_faults()
        if self.lost:
            names = ", ".join(f"{name} ({self.cut[name]:.3g} % outside)" for name in self.lost)
            remedy = (
                _enlarge([self], multiple)
                if any(self.cut[name] for name in self.lost)
                else "What lies inside is smaller than a voxel of `pixdim`, or air to `crop: foreground`.\n"
                "  Choose a smaller `pixdim`, or `crop: center`."
            )
            faults.append(f"preprocessing leaves no voxel within spatial_size {self.size} of {names}.\n  {remedy}")
        return faults

    def value_faults(self) -> list[str]:
        """What makes the image useless to the networks, whatever its label."""
        if self.not_finite:
            return [
                f"preprocessing leaves {self.not_finite} values that are not finite (NaN or infinite).\n"
                "  Look at what the file holds, and at the steps of a `preprocessing` of your own."
            ]
        if self.constant is not None:
            return [
                f"preprocessing makes the image constant: every voxel is {self.constant:g}.\n"
                "  Choose an `intensity_range` within its values, and a `spatial_size` that shows more than one tissue."
            ]
        if self.values[0] < -OUTSIDE_UNIT or self.values[1] > 1 + OUTSIDE_UNIT:
            return [
                "after preprocessing its values lie in [{:.4g}, {:.4g}], expected within [0, 1].\n".format(*self.values)
                + "  Where nearly all voxels have one value, as around a masked organ, both percentiles are that value "
                "and nothing\n  is scaled: choose a wider `intensity_range`, such as [0, 100], or `intensity: window` "
                "with the values that become\n  0 and 1. A `preprocessing` of your own has to end in [0, 1], too."
            ]
        return []


def value_faults(seen: MetaTensor, affine: Any, shape: Sequence[int]) -> list[str]:
    """Say where preprocessing has left nothing of an image that the networks could use: as training's data check does.

    Args:
        seen: the preprocessed image, (1, D, H, W), with its affine.
        affine: (4, 4), of the file that it comes from, voxel to RAS mm.
        shape: voxels of that file, (X, Y, Z).

    Returns:
        What is wrong and what to do about it; nothing for an image within [0, 1] that is not constant.
    """
    found = _values(seen.as_tensor()[0], seen.affine, affine, shape)
    return Preprocessed("", tuple(seen.shape[1:]), spacing_of(seen.affine), **found).value_faults()


def _values(seen: torch.Tensor, affine: Any, file_affine: Any, file_shape: Sequence[int]) -> dict[str, Any]:
    """What there is to say of the values of a preprocessed image (D, H, W)."""
    # padding says nothing of the image: it is what the file does not hold of the networks' grid
    everywhere = torch.ones(seen.shape, dtype=torch.bool)
    shown = seen.cpu().flatten()[~outside_grid(everywhere, affine, file_affine, file_shape)]
    if not_finite := int((~shown.isfinite()).sum()):
        return {"not_finite": not_finite}
    low, high = shown.aminmax()
    at_ends = ((shown == low) | (shown == high)).float().mean().item()
    constant = low.item() if low == high else None
    return {"at_ends": 100 * at_ends, "constant": constant, "values": (low.item(), high.item())}


def look_at(
    case: Mapping[str, str],
    image: Volume,
    label: Volume | None,
    preprocessing: Callable[[dict], Mapping[str, Any]],
    labels: Mapping[int, str],
) -> Preprocessed:
    """Preprocess a case and compare what the networks get with what lies on disk.

    Args:
        case: paths of ``image`` and, where the case is labelled, ``label``.
        image: the file of the image.
        label: the file of the label: known ids, and above them one to be ignored, on the grid of the image.
        preprocessing: dictionary transforms that start from paths; labels become the classes 1, 2, ...
        labels: ids -> names of the structures, in the order of the classes.

    Returns:
        What came of it.
    """
    data = preprocessing(dict(case))
    seen, affine = data["image"].as_tensor()[0], data["image"].affine
    grid = (affine, seen.shape)
    found = _values(seen, affine, image.affine, image.array.shape)
    if label is not None:
        classes = data["label"].as_tensor()[0].to(torch.uint8)
        classes = classes * (classes <= len(labels))  # what is to be ignored is no structure
        found |= {"label": classes, **_compare(label, classes, grid, labels)}
    return Preprocessed(case["case"], tuple(seen.shape), spacing_of(affine), **found)


def _compare(
    label: Volume, classes: torch.Tensor, grid: tuple[torch.Tensor, Sequence[int]], labels: Mapping[int, str]
) -> dict[str, Any]:
    """What the networks' grid holds of a label file."""
    mask = torch.from_numpy((label.array > 0) & (label.array <= max(labels)))  # above: to be ignored
    outside = outside_grid(mask, label.affine, *grid)
    # both go through the label in the order of its voxels
    of_file = torch.from_numpy(np.searchsorted(list(labels), label.array[mask.numpy()]))
    total, cut = of_file.bincount(minlength=len(labels)), of_file[outside].bincount(minlength=len(labels))
    left = classes.flatten().int().bincount(minlength=len(labels) + 1)[1:]
    size = torch.tensor(grid[1])
    if outside.any():
        reach = (change_grid(mask.nonzero()[outside], label.affine, grid[0]) - (size - 1) / 2).abs().amax(dim=0)
        size = size.maximum((2 * reach + 1 - 1e-3).ceil().int())  # the crop is about the centre, which stays
    present = [number for number, count in enumerate(total) if count]
    names = list(labels.values())
    return {
        "cut": {names[number]: 100 * float(cut[number] / total[number]) for number in present},
        "lost": tuple(names[number] for number in present if not left[number]),
        "needed": tuple(size.tolist()),
    }


def warnings_of(seen: Sequence[Preprocessed], multiple: int) -> Iterator[str]:
    """Tell what the networks can live with, but what is rarely meant.

    Args:
        seen: all cases, without faults.
        multiple: what sizes that are recommended are multiples of.

    Yields:
        A text for each kind of finding, with the cases it is worst in.
    """
    cut = [(max(one.cut.values()), one) for one in seen if one.cut and max(one.cut.values()) > CUT_WARNING]
    if cut:
        worst = _worst((share, f"{one.case} ({max(one.cut, key=one.cut.__getitem__)})") for share, one in cut)
        yield (
            f"spatial_size {cut[0][1].size} cuts structures off, which count as missed in an evaluation: {worst}. "
            + _enlarge([one for _, one in cut], multiple)
        )
    flat = [(one.at_ends, one.case) for one in seen if one.at_ends > ENDS_WARNING]
    if flat:
        yield (
            "the networks see hardly any grey: so much of these images has their lowest or highest value: "
            f"{_worst(flat)}. Look at the column `values`, and choose another `intensity_range`."
        )
    yield from _different_spacings(seen)
    if apart := _apart(seen):
        yield (
            "laid centre on centre, no structure of these cases overlaps with itself in any other label: "
            f"{_shorten(apart)}. Align the cases first: docs/data.md."
        )


def _different_spacings(seen: Sequence[Preprocessed]) -> Iterator[str]:
    by_axis = list(zip(*(one.spacing for one in seen), strict=True))
    axis = max(range(len(by_axis)), key=lambda a: max(by_axis[a]) / min(by_axis[a]), default=None)
    if axis is None or max(by_axis[axis]) / min(by_axis[axis]) <= SPACING_WARNING:
        return
    finest, coarsest = (pick(seen, key=lambda one: one.spacing[axis]) for pick in (min, max))
    named = " and ".join(
        f"{one.case} of {' x '.join(f'{mm:.3g}' for mm in one.spacing)} mm" for one in (finest, coarsest)
    )
    middle = ",".join(f"{np.median(sizes):.3g}" for sizes in by_axis)
    yield (
        f"voxel sizes differ between cases, and the networks count in voxels: {named}. "
        f'Set `pixdim`; the middle one is "[{middle}]".'
    )


def _apart(seen: Sequence[Preprocessed]) -> list[str]:
    """The labelled cases that share no voxel of any structure with any other."""
    labelled = [one for one in seen if one.label is not None and one.label.any()]  # an empty one lies nowhere

    def meet(one: Preprocessed, other: Preprocessed) -> bool:
        return bool(((one.label == other.label) & (one.label > 0)).any())

    return [
        one.case
        for one in labelled
        if len(labelled) > 1 and not any(meet(one, other) for other in labelled if other is not one)
    ]


def _enlarge(cut: Sequence[Preprocessed], multiple: int) -> str:
    size = tuple(-(-max(sides) // multiple) * multiple for sides in zip(*(one.needed for one in cut), strict=True))
    return f"A spatial_size of {size} would hold them; where cases lie apart, align them first (docs/data.md)."


def _worst(shares: Iterable[tuple[float, str]]) -> str:
    ordered = sorted(shares, reverse=True)
    return _shorten([f"{share:.3g} % of {name}" for share, name in ordered])


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
