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
"""What follows from the facts of a data set and the grid that the budget allows: settings, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .budget import Expected
from .fingerprint import Fingerprint
from .grids import Grid

__all__ = [
    "Machine",
    "Setting",
    "choose_intensity",
    "choose_networks",
    "is_wide",
    "multiple_of_networks",
    "schedule",
    "settings",
    "summary",
]

WIDE_SIDE = 64  # voxels of the files' region from which on a GPU gets networks of the paper's size
DEEP_SIDE = 48  # voxels of the grid from which on S has four levels
CT_BORDER = 0.5  # of the width of the foreground's window, on either side of it: surroundings guide registration
MASKED = 0.5  # share of background from which on the upper percentile is closer to the end
_LIGHT = Path(__file__).parents[2] / "configs" / "run" / "light_augmentation.yaml"


@dataclass(frozen=True)
class Machine:
    """Where the networks will be: ``cpu`` or ``cuda``, and whether that computes in bfloat16."""

    kind: str = "cpu"
    has_bf16: bool = False


@dataclass(frozen=True)
class Setting:
    """An entry of the plan: its value and what in the data, or in the budget, led to it."""

    value: Any
    reason: str


def is_wide(fingerprint: Fingerprint, machine: Machine) -> bool:
    """Whether the networks are those of the paper: on a GPU, for volumes that have the voxels."""
    return machine.kind == "cuda" and min(fingerprint.shape) >= WIDE_SIDE


def multiple_of_networks(wide: bool) -> int:
    """What each side has to be a multiple of: the pooling of D and its halvings."""
    return 32 if wide else 8


def choose_intensity(fingerprint: Fingerprint) -> dict[str, Setting]:
    """A window for Hounsfield units, percentiles for all else."""
    low, middle, high = fingerprint.foreground
    shown = f"values {fingerprint.values[0]:.4g} to {fingerprint.values[1]:.4g}"
    if fingerprint.is_ct:
        border = CT_BORDER * (high - low)
        ends = [max(fingerprint.values[0], low - border), min(fingerprint.values[1], high + border)]
        ends = [round(end / 10) * 10 for end in ends]
        reason = f"the foreground has {low:.0f} to {high:.0f} (0.5 and 99.5 %), median {middle:.0f}; half as wide again"
        return {
            "intensity": Setting("window", f"{shown}, as Hounsfield units in every case: CT"),
            "intensity_range": Setting(ends, f"{reason} on either side, for the surroundings"),
        }
    masked = fingerprint.background >= MASKED
    reason = f"{fingerprint.background:.0%} of a volume has its lowest value"
    reason += ": a masked image, whose upper end is few voxels" if masked else ""
    return {
        "intensity": Setting(
            "percentiles", f"{shown}, which are no Hounsfield units: each volume has a scale of its own"
        ),
        "intensity_range": Setting([1, 99.5 if masked else 99], reason),
    }


def choose_networks(grid: Grid, wide: bool) -> dict[str, Setting]:
    """Widths and depths of S and D, and the levels of R."""
    side, place = min(grid.size), f"the shortest side has {min(grid.size)} voxels"
    levels = 5 if wide else 4 if side >= DEEP_SIDE else 3
    channels = [16, 32, 64, 128, 256][:levels]
    of_d = channels if wide else [16, 32, 64]
    left = f"S: {place}, {side // 2 ** (levels - 1)} are left at the lowest level"
    halved = "each level halves the sides"
    found = {
        "network_def::channels": Setting(channels, left),
        "network_def::strides": Setting([2] * (levels - 1), halved),
        "discriminator_def::network::channels": Setting(of_d, f"D: {place}, and it sees them pooled by two"),
        "discriminator_def::network::strides": Setting([2] * (len(of_d) - 1), halved),
    }
    if wide:
        return found | {
            "registration_def::encoder_channels": Setting([16, 32, 32, 32], "R: four levels, as in the paper: a GPU")
        }
    return found | {
        "registration_def::encoder_channels": Setting(
            [16, 32, 32], f"R: three levels, {side // 8} voxels of that side are left at the lowest"
        ),
        "registration_def::decoder_channels": Setting([32, 32, 32, 32], "as many on the way up"),
        "registration_def::half_resolution": Setting(
            True, "smooth fields, without the cost of convolutions at full resolution"
        ),
    }


def settings(fingerprint: Fingerprint, grid: Grid, machine: Machine, orientation: str = "RAS") -> dict[str, Setting]:
    """The entries of a plan that decide what an iteration costs.

    Args:
        fingerprint: of the cases.
        grid: that the budget allows.
        machine: where the networks will be.
        orientation: of the axes.

    Returns:
        Entry of ``train.yaml`` -> value and reason, in the order in which they stand in the plan.
    """
    files = ", ".join(f"{count} {axes}" for axes, count in fingerprint.orientations.items())
    found = {"orientation": Setting(orientation, f"the files: {files}"), **_of_grid(fingerprint, grid)}
    found |= choose_intensity(fingerprint) | choose_networks(grid, is_wide(fingerprint, machine))
    return found | {
        "batch_size": Setting(1, "a pair: what it leaves of the budget goes to voxels and iterations"),
        "amp": Setting(machine.has_bf16, f"{machine.kind}: {'bfloat16' if machine.has_bf16 else 'float32'}"),
        "num_workers": Setting(0, f"{fingerprint.cases} cases of {grid.voxels} voxels are read once and kept"),
        "augmentation": Setting(_light(), _of_augmentation(fingerprint)),
    }


def schedule(expected: Expected) -> dict[str, Setting]:
    """The entries that say how long, by what an iteration was found to cost."""
    pace = f"{expected.total} iterations, {expected.minutes:.1f} minutes"
    return {
        "max_epochs": Setting(expected.epochs, f"{pace}, by the time that two took on this machine"),
        "iterations_per_epoch": Setting(
            expected.iterations, "4 x 40 pairs, as in the paper; fewer in a short training"
        ),
    }


def _of_grid(fingerprint: Fingerprint, grid: Grid) -> dict[str, Setting]:
    spacing = _mm(fingerprint.spacing)
    same = "of every file" if fingerprint.is_uniform else "in the middle"
    reason = f"{spacing} mm {same}"
    reason += f"; coarser, {_mm(grid.voxel)} mm, for the budget" if _lost(fingerprint, grid) > 1.005 else ""
    shown = _mm([side * mm for side, mm in zip(grid.size, grid.voxel, strict=True)])
    held = f"labels reach {_mm(fingerprint.reach)} mm from the middle" if fingerprint.labeled else "the median image"
    return {
        "pixdim": Setting(list(grid.voxel) if grid.resampled else None, reason),
        "spatial_size": Setting(list(grid.size), f"{held}; this shows {shown} mm"),
    }


def _of_augmentation(fingerprint: Fingerprint) -> str:
    apart = max(fingerprint.apart.values(), default=0.0)
    sides = any("left" in name.lower() or "right" in name.lower() for name in fingerprint.volumes)
    flips = "no flips: left and right are structures of their own" if sides else "no flips: left and right differ"
    return f"light, as for {fingerprint.labeled} labels whose structures lie up to {apart:.3g} mm apart; {flips}"


def _lost(fingerprint: Fingerprint, grid: Grid) -> float:
    """How much larger than the median spacing the voxels are, along an edge."""
    ratio = 1.0
    for mm, own in zip(grid.voxel, fingerprint.spacing, strict=True):
        ratio *= mm / own
    return float(ratio ** (1 / 3))


def summary(fingerprint: Fingerprint, grid: Grid, expected: Expected) -> str:
    """What to expect, in a line."""
    lost = _lost(fingerprint, grid)
    voxels = f"voxels of {_mm(grid.voxel)} mm, {lost:.2g} times the files'" if lost > 1.005 else "no voxel size lost"
    return f"{expected.memory:.1f} GiB, {expected.minutes:.1f} minutes, {expected.total} iterations; {voxels}"


def _mm(values: Any) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _light() -> Mapping[str, Any]:
    return yaml.safe_load(_LIGHT.read_text(encoding="utf-8"))["augmentation"]
