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
"""Panels: slices of 3D volumes drawn side by side, with outlines, maps and deformation grids.

Everything is drawn with matplotlib's object interface, never with pyplot: no global state, no display and no backend
to choose, so that a training handler and a headless server draw the same pictures. The colours are those of Okabe and
Ito, told apart by colour-blind eyes too; maps run from blue to orange or are even in lightness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..fields.metrics import jacobian_determinant
from .planes import Plane

ORANGE, SKY, GREEN, YELLOW, PURPLE, VERMILION, BLUE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#CC79A7",
    "#D55E00",
    "#0072B2",
)
STRUCTURE_COLORS = (ORANGE, SKY, GREEN, YELLOW, PURPLE, VERMILION, BLUE)
INK, FAINT_INK = "#1b1f24", "#6b7280"

DIFFERENCE_COLORS = LinearSegmentedColormap.from_list("difference", [BLUE, "#f7f7f7", VERMILION])
VOLUME_CHANGE_COLORS = DIFFERENCE_COLORS.with_extremes(bad=INK)  # where the field folds
VOLUME_CHANGE = LogNorm(0.5, 2.0, clip=True)
CONFIDENCE_COLORS, CONFIDENCE = "cividis", Normalize(0.0, 1.0)

COLUMN_INCHES = 2.2
GAP, TITLE, SIDE = 0.06, 0.28, 0.24
TALLEST_PANEL = 1.8


def structure_color(index: int) -> str:
    """Return the colour of class ``index`` (1..K); after seven structures the colours start again."""
    return STRUCTURE_COLORS[(index - 1) % len(STRUCTURE_COLORS)]


def plain(text: str) -> str:
    """Return ``text`` so that matplotlib prints it as it is, instead of reading what stands between ``$`` as maths."""
    return text.replace("$", r"\$")


def panel_sheet(
    planes: Sequence[Plane], shape: Sequence[int], titles: Sequence[str], footer: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """Lay out empty panels, a row for each plane and a column for each title, with no space wasted.

    Every row is as high as its slice, so that panels touch but for a narrow gap, and figures of the same volume that
    stand side by side have rows of equal height.

    Args:
        planes: the slices, from top to bottom.
        shape: voxels along the three axes of the volume.
        titles: what each column shows.
        footer: inches kept free below the panels, for colour bars.

    Returns:
        The figure and its axes, an array of (planes, titles).
    """
    heights = [COLUMN_INCHES * min(_height_over_width(plane, shape), TALLEST_PANEL) for plane in planes]
    width = SIDE + len(titles) * (COLUMN_INCHES + GAP)
    height = TITLE + sum(heights) + GAP * len(planes) + footer
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = np.empty((len(planes), len(titles)), dtype=object)
    top = height - TITLE
    for row, plane in enumerate(planes):
        for column, title in enumerate(titles):
            left = SIDE + column * (COLUMN_INCHES + GAP)
            box = (left / width, (top - heights[row]) / height, COLUMN_INCHES / width, heights[row] / height)
            axes[row, column] = _bare_axes(figure, box, plane, shape)
            _draw_letters(axes[row, column], plane)
            if row == 0:
                center = (left + COLUMN_INCHES / 2) / width
                figure.text(center, (height - TITLE + 0.09) / height, plain(title), ha="center", size=10, color=INK)
        middle = (top - heights[row] / 2) / height
        size = SMALL if plane.oblique else FAINT  # two lines
        figure.text(0.5 * SIDE / width, middle, plane.title, rotation=90, ha="center", va="center", **size)
        top -= heights[row] + GAP
    return figure, axes


FAINT = {"size": 8, "color": FAINT_INK}
SMALL = {"size": 6, "color": FAINT_INK, "linespacing": 1.0}
# Where the letters of the left, right, bottom and top of a slice stand in its axes, and by which side of themselves.
SIDES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.02, "center", "bottom"),
    (0.5, 0.98, "center", "top"),
)


def _draw_letters(axes: Axes, plane: Plane) -> None:
    """Write the sides of the patient at the edges of a slice, where they are known; a dark rim shows them on white."""
    for letter, (x, y, horizontal, vertical) in zip(plane.letters or (), SIDES, strict=False):
        written = axes.text(
            x,
            y,
            letter,
            ha=horizontal,
            va=vertical,
            transform=axes.transAxes,
            size=9,
            weight="bold",
            color="white",
            zorder=10,
        )
        written.set_path_effects([withStroke(linewidth=2.0, foreground="black")])


def _height_over_width(plane: Plane, shape: Sequence[int]) -> float:
    left, right, bottom, top = plane.extent(shape)
    return (top - bottom) / (right - left)


def _bare_axes(figure: Figure, box: tuple[float, float, float, float], plane: Plane, shape: Sequence[int]) -> Axes:
    axes = figure.add_axes(box)
    left, right, bottom, top = plane.extent(shape)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def intensity_window(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of an image: what is drawn black, and what white."""
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high) if high > low else float(low) + 1.0


def dimmed(window: tuple[float, float], by: float) -> tuple[float, float]:
    """Return a window in which the brightest tissue is darker by the factor ``by``, so that lines stand out on it."""
    low, high = window
    return low, low + by * (high - low)


def draw_image(axes: Axes, plane: Plane, image: np.ndarray, window: tuple[float, float]) -> None:
    """Draw a slice of a grey-scale image (X, Y, Z)."""
    low, high = window
    axes.imshow(
        plane.take(image),
        cmap="gray",
        vmin=low,
        vmax=high,
        origin="lower",
        extent=plane.extent(image.shape),
        interpolation="bilinear",
    )


def draw_outlines(axes: Axes, plane: Plane, label: np.ndarray, color: str | None = None, dashed: bool = False) -> None:
    """Draw the outline of every structure of a slice of ``label`` (X, Y, Z; classes 0..K), each in its own colour.

    A dark rim keeps the line readable on bright tissue.

    Args:
        axes: where to draw.
        plane: the slice.
        label: integer classes.
        color: one colour for all structures, instead of their own.
        dashed: draw broken lines, to tell a reference from what is compared with it.
    """
    # A border of background closes the outline of a structure that the edge of the volume cuts.
    classes = np.pad(plane.take(label), 1)
    right, up = (
        np.concatenate([[at[0] - step], at, [at[-1] + step]])
        for at, step in zip(
            plane.millimetres(label.shape),
            (plane.spacing[plane.horizontal], plane.spacing[plane.vertical]),
            strict=True,
        )
    )
    for index in np.unique(classes[classes > 0]):
        lines = axes.contour(
            right,
            up,
            classes == index,
            levels=[0.5],
            colors=[color or structure_color(int(index))],
            linewidths=0.9 if dashed else 1.5,
            linestyles=[(0, (3.0, 2.0))] if dashed else "solid",
        )
        lines.set_path_effects([withStroke(linewidth=1.5 if dashed else 2.6, foreground="black", alpha=0.55)])


def draw_map(
    axes: Axes, plane: Plane, volume: np.ndarray, colors: str | LinearSegmentedColormap, norm: Normalize
) -> None:
    """Draw a slice of a map of numbers (X, Y, Z) in colour, voxel by voxel."""
    extent = plane.extent(volume.shape)
    axes.imshow(
        plane.take(volume), cmap=colors, norm=norm, origin="lower", extent=extent, interpolation="nearest", alpha=1.0
    )


def draw_grid(axes: Axes, plane: Plane, ddf: np.ndarray, lines: int = 16, color: str = INK) -> None:
    """Draw how the moving image's regular grid looks after the warp, in the fixed image's slice.

    A line of the moving grid is where a sampling coordinate ``p + ddf(p)`` is constant, so the curves are exactly the
    warp of straight lines, at any resolution, and a fold shows as a line that turns back or closes on itself. Without
    a displacement the grid is straight.

    Args:
        axes: where to draw.
        plane: the slice.
        ddf: displacement in voxels, (3, X, Y, Z), channels in axis order.
        lines: about how many lines to draw along the longer side.
        color: of the lines.
    """
    shape = ddf.shape[1:]
    right, up = plane.millimetres(shape)
    step = max(right[-1], up[-1], 1e-6) / lines
    for axis, sign, start in zip((plane.horizontal, plane.vertical), plane.signs, np.meshgrid(right, up), strict=True):
        position = start + sign * plane.take(ddf[axis]) * plane.spacing[axis]
        first, last = np.ceil(position.min() / step), np.floor(position.max() / step)
        levels = np.arange(first, last + 1) * step
        if levels.size and min(position.shape) > 1:
            axes.contour(right, up, position, levels=levels, colors=[color], linewidths=0.6, linestyles="solid")


def volume_change(ddf: np.ndarray) -> np.ndarray:
    """Return |J| of a field (3, X, Y, Z) in voxels as (X, Y, Z), NaN where the field folds (|J| <= 0)."""
    jacobian = jacobian_determinant(torch.from_numpy(np.ascontiguousarray(ddf, dtype=np.float32))[None])[0, 0].numpy()
    return np.where(jacobian > 0, jacobian, np.nan)


def draw_color_bar(
    figure: Figure, above: Axes, colors: str | LinearSegmentedColormap, norm: Normalize, ticks: dict[float, str]
) -> None:
    """Draw a slim horizontal colour bar under the panel ``above``; ``ticks`` maps values to what is written there."""
    box, inch = above.get_position(), 1 / figure.get_figheight()
    place = (box.x0 + 0.1 * box.width, box.y0 - 0.17 * inch, 0.8 * box.width, 0.08 * inch)
    bar = figure.colorbar(ScalarMappable(norm, colors), cax=figure.add_axes(place), orientation="horizontal")
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0, labelsize=7.5, labelcolor=FAINT_INK, pad=3)
    bar.outline.set_visible(False)
