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
"""Charts: numbers of an evaluation as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .panels import BLUE, FAINT_INK, INK, ORANGE, plain

METHOD_COLORS = {"segmentation": BLUE, "registration": ORANGE, "no registration": "#9ca3af"}
# So narrow that the letters stay readable when a telephone shrinks the picture to its own width.
WIDTH_INCHES, GROUP_INCHES, MARGIN_INCHES = 6.2, 0.24, 0.95
NAME_LETTERS, LETTER_INCHES = 20, 0.082
MEDIAN_WIDTH, POINT_SIZE, MOST_POINTS = 1.6, 3.2, 60


def dice_box_plot(
    samples: Mapping[str, Mapping[str, Sequence[float]]], colors: Mapping[str, str] = METHOD_COLORS
) -> Figure:
    """Draw the Dice coefficients of every method as boxes, grouped by structure.

    Box: first to third quartile with the median; whiskers: the furthest value within 1.5 box lengths; points: the
    single cases, left out when there are too many to see. Values that are not defined (NaN) are left out.

    Args:
        samples: method -> structure -> Dice of its cases; all methods have the structures of the first, which are drawn
            from top to bottom.
        colors: method -> colour.

    Returns:
        A figure with one horizontal axis, Dice from 0 to 1.
    """
    methods, structures = list(samples), list(next(iter(samples.values())))
    group = GROUP_INCHES * (len(methods) + 1)
    height = MARGIN_INCHES + group * len(structures)
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white")
    names = [textwrap.fill(structure, NAME_LETTERS) for structure in structures]
    left = 0.25 + LETTER_INCHES * max(len(line) for name in names for line in name.splitlines())
    box = (left / WIDTH_INCHES, 0.45 / height, 1 - (left + 0.15) / WIDTH_INCHES, 1 - MARGIN_INCHES / height)
    axes = figure.add_axes(box)
    slots = len(methods) + 1
    for row, structure in enumerate(structures):
        for slot, method in enumerate(methods):
            values = np.asarray(samples[method][structure], dtype=float)
            _draw_box(axes, row * slots + slot, values[np.isfinite(values)], colors[method])
    middle = (len(methods) - 1) / 2
    axes.set_yticks([row * slots + middle for row in range(len(structures))], [plain(name) for name in names])
    axes.set(xlim=(0, 1), ylim=(slots * len(structures) - 1.2, -0.8), xlabel="Dice")
    _quieten(axes)
    for row in range(1, len(structures)):
        axes.axhline(row * slots - 1, color="#e5e7eb", linewidth=0.6)
    handles = [Patch(facecolor=colors[method], label=plain(method)) for method in methods]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(methods), frameon=False, **LEGEND)
    return figure


LEGEND = {"fontsize": 10, "handlelength": 0.9, "handleheight": 0.9, "borderaxespad": 0.2, "columnspacing": 1.4}


def _draw_box(axes: Axes, position: float, values: np.ndarray, color: str) -> None:
    if values.size == 0:
        return
    axes.boxplot(
        values,
        positions=[position],
        orientation="horizontal",
        widths=0.66,
        patch_artist=True,
        showfliers=values.size > MOST_POINTS,
        manage_ticks=False,
        boxprops={"facecolor": color, "alpha": 0.45, "edgecolor": color, "linewidth": 1.0},
        medianprops={"color": INK, "linewidth": MEDIAN_WIDTH},
        whiskerprops={"color": color, "linewidth": 1.0},
        capprops={"color": color, "linewidth": 1.0},
        flierprops={"marker": ".", "markersize": 2.5, "markeredgecolor": "none", "markerfacecolor": color},
    )
    if values.size <= MOST_POINTS:
        scatter = np.random.default_rng(0).uniform(-0.22, 0.22, values.size)
        look = {"markersize": POINT_SIZE, "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3}
        axes.plot(values, position + scatter, "o", color=color, **look)


def _quieten(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d1d5db")
    axes.grid(axis="x", color="#eef0f2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK, pad=8)
    axes.tick_params(axis="x", length=0, labelsize=10, labelcolor=FAINT_INK)
    axes.xaxis.label.set(size=10, color=FAINT_INK)
