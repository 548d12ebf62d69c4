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
"""Figures: one pair or one case as a picture, for the training log and for the report.

All functions take NumPy arrays on one grid, (X, Y, Z), and the frame that says how it lies in the patient, and return a
matplotlib figure that shows the axial, coronal and sagittal slice through the centre of the structures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from .orientation import Frame
from .panels import (
    CONFIDENCE,
    CONFIDENCE_COLORS,
    PURPLE,
    VERMILION,
    VOLUME_CHANGE,
    VOLUME_CHANGE_COLORS,
    YELLOW,
    dimmed,
    draw_color_bar,
    draw_grid,
    draw_image,
    draw_map,
    draw_outlines,
    intensity_window,
    panel_sheet,
    volume_change,
)
from .planes import label_center, planes_through

FOOTER = 0.45
VOLUME_CHANGE_TICKS = {0.5: "½", 1.0: "|J| = 1", 2.0: "2"}
CONFIDENCE_TICKS = {0.0: "0", 0.5: "confidence", 1.0: "1"}
# What is wrong with a voxel: nothing, a structure missed, a structure invented, one structure taken for another.
MISSED, INVENTED, CONFUSED = 1, 2, 3
ERRORS = {MISSED: ("missed", VERMILION), INVENTED: ("invented", YELLOW), CONFUSED: ("wrong structure", PURPLE)}
ERROR_COLORS = ListedColormap(["none", *(color for _, color in ERRORS.values())])


def pair_figure(
    moving: np.ndarray,
    fixed: np.ndarray,
    warped: np.ndarray,
    ddf: np.ndarray,
    confidence: np.ndarray | None = None,
    pred: np.ndarray | None = None,
    label: np.ndarray | None = None,
    frame: Frame | None = None,
    outlined: str = "segmentation",
) -> Figure:
    """Draw a registered pair: moving, fixed and warped image, deformation grid, confidence map and outlines.

    It is the picture that tells, while training goes on and of each registered pair, whether the warped image comes to
    resemble the fixed one, whether the field stays smooth, and whether the outlines follow the anatomy.

    Args:
        moving: the moving image, (X, Y, Z).
        fixed: the fixed image, (X, Y, Z), on the same grid.
        warped: the moving image resampled by ``ddf``, (X, Y, Z).
        ddf: displacement in voxels of the fixed grid, (3, X, Y, Z); zero draws a straight grid.
        confidence: alignment confidence in 0..1, (X, Y, Z); its column is left out when absent.
        pred: classes on the fixed image, predicted or carried over from the moving one, (X, Y, Z), drawn as coloured
            outlines.
        label: the fixed image's true classes, (X, Y, Z), drawn as broken white lines; the slices go through its centre.
        frame: how the grid lies in the patient, and is looked at; voxels of 1 mm and no letters when absent.
        outlined: what the outlines are, the title of their column.

    Returns:
        A figure with a row for each plane.

    Raises:
        ValueError: if the volumes do not share one shape.
    """
    volumes = {"moving": moving, "fixed": fixed, "warped": warped, "confidence": confidence}
    volumes |= {"pred": pred, "label": label}
    shape = _common_shape(volumes, ddf)
    planes = planes_through(label_center(label if label is not None else pred, shape), frame)
    titles = ["moving", "fixed", "warped", "deformation"]
    titles += ["confidence"] if confidence is not None else []
    titles += [outlined] if pred is not None or label is not None else []
    figure, sheet = panel_sheet(planes, shape, titles, footer=FOOTER)
    windows = {name: intensity_window(fixed if name == "fixed" else moving) for name in ("moving", "fixed", "warped")}
    change = volume_change(ddf)
    for plane, row in zip(planes, sheet, strict=True):
        panels = dict(zip(titles, row, strict=True))
        for name, window in windows.items():
            draw_image(panels[name], plane, volumes[name], window)
        draw_map(panels["deformation"], plane, change, VOLUME_CHANGE_COLORS, VOLUME_CHANGE)
        draw_grid(panels["deformation"], plane, ddf)
        if confidence is not None:
            draw_map(panels["confidence"], plane, confidence, CONFIDENCE_COLORS, CONFIDENCE)
        if outlined in panels:
            draw_image(panels[outlined], plane, fixed, dimmed(windows["fixed"], 1.2))
        if label is not None:
            draw_outlines(panels[outlined], plane, label, color="white", dashed=True)
        if pred is not None:
            draw_outlines(panels[outlined], plane, pred)
    _add_color_bars(figure, dict(zip(titles, sheet[-1], strict=True)))
    return figure


def images_figure(
    moving: np.ndarray, fixed: np.ndarray, warped: np.ndarray, center: Sequence[int], frame: Frame
) -> Figure:
    """Draw moving, fixed and warped image beside each other; ``warped`` should look like ``fixed``."""
    planes = planes_through(center, frame)
    figure, sheet = panel_sheet(planes, fixed.shape, ["moving image", "fixed image", "warped image"])
    windows = [intensity_window(moving), intensity_window(fixed), intensity_window(moving)]
    for plane, row in zip(planes, sheet, strict=True):
        for panel, image, window in zip(row, (moving, fixed, warped), windows, strict=True):
            draw_image(panel, plane, image, window)
    return figure


def alignment_figure(
    fixed: np.ndarray,
    fixed_label: np.ndarray,
    moving_label: np.ndarray,
    warped_label: np.ndarray,
    center: Sequence[int],
    frame: Frame,
) -> Figure:
    """Draw the moving structures over the fixed image before and after the warp, the fixed ones as broken white lines.

    Registration is good where the coloured lines of the right column lie on the white ones.
    """
    planes = planes_through(center, frame)
    figure, sheet = panel_sheet(planes, fixed.shape, ["before registration", "after registration"])
    window = dimmed(intensity_window(fixed), 1.5)
    for plane, row in zip(planes, sheet, strict=True):
        for panel, label in zip(row, (moving_label, warped_label), strict=True):
            draw_image(panel, plane, fixed, window)
            draw_outlines(panel, plane, fixed_label, color="white", dashed=True)
            draw_outlines(panel, plane, label)
    return figure


def deformation_figure(ddf: np.ndarray, confidence: np.ndarray | None, center: Sequence[int], frame: Frame) -> Figure:
    """Draw the warped grid, the change of volume |J| and, where there is one, the confidence map.

    Below 1 (blue) the moving image is stretched, above 1 (orange) it is squeezed; folds are black.
    """
    titles = ["deformation grid", "volume change"] + (["confidence"] if confidence is not None else [])
    planes = planes_through(center, frame)
    figure, sheet = panel_sheet(planes, ddf.shape[1:], titles, footer=FOOTER)
    change = volume_change(ddf)
    for plane, row in zip(planes, sheet, strict=True):
        draw_grid(row[0], plane, ddf)
        draw_map(row[1], plane, change, VOLUME_CHANGE_COLORS, VOLUME_CHANGE)
        if confidence is not None:
            draw_map(row[2], plane, confidence, CONFIDENCE_COLORS, CONFIDENCE)
    _add_color_bars(figure, dict(zip(titles, sheet[-1], strict=True)))
    return figure


def segmentation_figure(
    image: np.ndarray, label: np.ndarray, pred: np.ndarray, center: Sequence[int], frame: Frame
) -> Figure:
    """Draw the reference, the prediction and the voxels where the two differ.

    In the last column, on a darker image, a missed voxel is vermilion, an invented one yellow, one that was given to
    the wrong structure purple.
    """
    planes = planes_through(center, frame)
    figure, sheet = panel_sheet(planes, image.shape, ["reference", "prediction", "errors"])
    window, errors = intensity_window(image), segmentation_errors(pred, label)
    windows = [dimmed(window, by) for by in (1.2, 1.2, 1.8)]
    for plane, row in zip(planes, sheet, strict=True):
        for panel, window in zip(row, windows, strict=True):
            draw_image(panel, plane, image, window)
        draw_outlines(row[0], plane, label)
        draw_outlines(row[1], plane, pred)
        draw_map(row[2], plane, errors, ERROR_COLORS, Normalize(0, CONFUSED))
    return figure


def segmentation_errors(pred: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return for each voxel 0 (right), MISSED, INVENTED or CONFUSED; equal arrays give zeros."""
    errors = np.where(pred != label, CONFUSED, 0)
    errors[(pred == 0) & (label > 0)] = MISSED
    errors[(pred > 0) & (label == 0)] = INVENTED
    return errors


def figure_to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    # as it comes, 6, takes twice as long for a seventh less
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 3})
    return buffer.getvalue()


def figure_to_array(figure: Figure, dpi: int = 100) -> np.ndarray:
    """Render a figure as an image (H, W, 3) of uint8, as TensorBoard takes it with ``dataformats='HWC'``."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _common_shape(volumes: Mapping[str, np.ndarray | None], ddf: np.ndarray) -> tuple[int, int, int]:
    shapes = {name: np.shape(volume) for name, volume in volumes.items() if volume is not None}
    shape = shapes["fixed"]
    found = shapes | {"ddf": np.shape(ddf)}
    if len(shape) != 3 or any(other != shape for other in shapes.values()) or found["ddf"] != (3, *shape):
        table = "".join(f"\n  {name:<10} {size}" for name, size in found.items())
        raise ValueError(
            "a pair is drawn from volumes of one shape (X, Y, Z) and a field of (3, X, Y, Z), without batch or"
            f" channel axis, but these came:{table}\n  Pass `volume[0, 0]` of a batch, and `ddf[0]`."
        )
    return shape


def _add_color_bars(figure: Figure, lowest: Mapping[str, object]) -> None:
    for title, panel in lowest.items():
        if title in ("deformation", "volume change"):
            draw_color_bar(figure, panel, VOLUME_CHANGE_COLORS, VOLUME_CHANGE, VOLUME_CHANGE_TICKS)
        elif title == "confidence":
            draw_color_bar(figure, panel, CONFIDENCE_COLORS, CONFIDENCE, CONFIDENCE_TICKS)
