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
"""The slice viewer of a report: what it shows is packed here, and drawn by `viewer.js` in the reader's browser.

A volume travels as bytes, compressed, inside the page: nothing is fetched, and one slider moves all panels through it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap, to_hex
from torch.nn.functional import interpolate

from ..pictures.figures import ERROR_COLORS, segmentation_errors
from ..pictures.panels import (
    CONFIDENCE_COLORS,
    DIFFERENCE_COLORS,
    STRUCTURE_COLORS,
    VOLUME_CHANGE,
    VOLUME_CHANGE_COLORS,
    intensity_window,
    volume_change,
)
from ..pictures.planes import PLANES, Plane, focus, label_center, planes_through
from .evaluation_folder import Example
from .page import paragraph, text

# Larger volumes are shrunk: three pairs of this size make a page of about seven megabytes.
MOST_VOXELS = 300_000
# Around the structures, as a fraction of their longest side; what lies beyond is not in the page.
MARGIN = 0.4
FOLDED = 255
COLORS = {
    "gray": colormaps["gray"],
    "difference": DIFFERENCE_COLORS,
    "change": VOLUME_CHANGE_COLORS,
    "confidence": colormaps[CONFIDENCE_COLORS],
    "errors": ERROR_COLORS,
}


@dataclass(frozen=True)
class Panel:
    """One picture of the viewer, as layers that `viewer.js` draws over each other.

    Args:
        title: what stands under it.
        layers: (kind, colours, volumes...): ``map``, ``difference``, ``checkerboard``, ``outline`` or ``grid``.
        bar: what is written under its colour bar: left, middle, right.
        follows: whether it shows the moving image in place of the warped one when the reader asks for "before".
    """

    title: str
    layers: Sequence[tuple[str, ...]]
    bar: tuple[str, ...] = ()
    follows: bool = False


PANELS = {
    "registration": (
        Panel("moving", [("map", "gray", "moving")]),
        Panel("fixed", [("map", "gray", "fixed")]),
        Panel("warped", [("map", "gray", "warped")]),
        Panel(
            "difference", [("difference", "difference", "warped", "fixed")], ("darker", "as fixed", "brighter"), True
        ),
        Panel("checkerboard", [("checkerboard", "gray", "warped", "fixed")], follows=True),
        Panel(
            "contours",
            [
                ("map", "dimmed", "fixed"),
                ("outline", "structures", "warped_label"),
                ("outline", "white", "fixed_label"),
            ],
            follows=True,
        ),
        Panel("deformation grid", [("grid", "ink", "ddf_0", "ddf_1", "ddf_2")]),
        Panel("volume change, |J|", [("map", "change", "change")], ("½", "1", "2")),
        Panel("confidence", [("map", "confidence", "confidence")], ("0", "½", "1")),
    ),
    "segmentation": (
        Panel("image", [("map", "gray", "image")]),
        Panel("reference", [("map", "dimmed", "image"), ("outline", "structures", "label")]),
        Panel("prediction", [("map", "dimmed", "image"), ("outline", "structures", "pred")]),
        Panel("errors", [("map", "dimmed", "image"), ("map", "errors", "errors")]),
    ),
}
HINTS = {
    "registration": (
        "Contours: in colour the warped structures, in white those of the fixed image. The checkerboard changes between"
        ' the warped and the fixed image. "Before registration" shows the moving image in place of the warped one.'
    ),
    "segmentation": "Errors: vermilion was missed, yellow was invented, purple is another structure.",
}


def viewer(task: str, runs: Mapping[str, Sequence[Example]]) -> str:
    """Return a slice viewer: a column of panels for each run, moved by one slider.

    Args:
        task: ``segmentation`` or ``registration``.
        runs: name -> its examples. With one run the name is not shown.

    Returns:
        HTML, to stand in a page that ends with :func:`viewer_colors` and `viewer.js`.
    """
    columns = "".join(
        _run(task, f"{task}-{number}", name if len(runs) > 1 else "", examples)
        for number, (name, examples) in enumerate(runs.items())
    )
    hint = paragraph(HINTS[task], kind="note") + "<noscript>The slice viewer needs JavaScript.</noscript>"
    return (
        f'<div class="viewer" id="{task}-viewer">\n{_controls(task)}<div class="runs">\n{columns}</div>\n{hint}</div>\n'
    )


def _controls(task: str) -> str:
    planes = "".join(
        f'<label><input type="radio" name="{task}-plane" value="{name}"{" checked" * (name == "axial")}> {name}</label>'
        for name in PLANES
    )
    position = (
        '<label class="position">slice <input type="range" class="slice" min="0" max="0" value="0" step="1">'
        "<output></output></label>"
    )
    before = '<label><input type="checkbox" class="before"> before registration</label>'
    return (
        f'<div class="controls"><span role="radiogroup">{planes}</span>{position}'
        f"{before if task == 'registration' else ''}</div>\n"
    )


def viewer_colors() -> str:
    """Return the colours that all viewers of a page share, as the element that `viewer.js` reads."""
    tables = {name: _bytes(_table(colors)) for name, colors in COLORS.items()}
    return _json("viewer-colors", {"tables": tables, "structures": STRUCTURE_COLORS})


def _run(task: str, identity: str, name: str, examples: Sequence[Example]) -> str:
    options = "".join(
        f'<option value="{identity}-{number}">{text(example.rank.capitalize())}: {" → ".join(map(text, example.case))}'
        "</option>"
        for number, example in enumerate(examples)
    )
    held = set.intersection(*(set(example.arrays) for example in examples))
    panels = [panel for panel in PANELS[task] if panel.title != "confidence" or "confidence" in held]
    data = "".join(_json(f"{identity}-{number}", pack(task, example)) for number, example in enumerate(examples))
    title = f"<h4>{text(name)}</h4>" if name else ""
    return (
        f'<div class="run">{title}<select aria-label="example">{options}</select>\n'
        f'<div class="panels">{"".join(map(_panel, panels))}</div>\n{data}</div>\n'
    )


def _panel(panel: Panel) -> str:
    colors = panel.layers[0][1]
    bar = ""
    if panel.bar:
        stops = ", ".join(to_hex(COLORS[colors](place)) for place in np.linspace(0, 1, 9))
        ticks = "".join(f"<span>{text(tick)}</span>" for tick in panel.bar)
        bar = f'<i style="background: linear-gradient(to right, {stops})"></i><small>{ticks}</small>'
    layers = text(json.dumps(panel.layers))
    follows = " data-follows" if panel.follows else ""
    return (
        f'<figure data-layers="{layers}"{follows}><canvas role="img" aria-label="{text(panel.title)}"></canvas>'
        f"<figcaption>{text(panel.title)}{bar}</figcaption></figure>\n"
    )


def pack(task: str, example: Example) -> dict[str, Any]:
    """Return what the viewer needs of an example, ready for JSON.

    Returns:
        ``shape``; ``spacing`` in mm; ``center``: the voxel to begin with; ``limit``: half the range of ``ddf_*`` in mm;
        ``planes``: name -> array ``axes`` (across, up, cut), which of them are ``flipped``, and the ``letters`` at
        left, right, bottom and top, null where the orientation is not known;
        ``volumes``: name -> gzipped bytes in base64, the last axis running fastest. A byte is an intensity within its
        window, a class, a colour of its map, or, in ``ddf_0..2``, 1 to 255 for -limit to limit.
    """
    arrays = example.arrays
    reference = "label" if task == "segmentation" else "fixed_label"
    view = focus([arrays[name] for name in (reference, "pred" if task == "segmentation" else "moving_label")], MARGIN)
    spacing = np.asarray(arrays["spacing"], dtype=float)
    limit = 1.0
    if task == "segmentation":
        smooth = {"image": _windowed(arrays["image"], arrays["image"])}
        sharp = {"label": arrays["label"], "pred": arrays["pred"]}
        sharp["errors"] = segmentation_errors(arrays["pred"], arrays["label"])
    else:
        smooth, limit = _field(arrays["ddf"], spacing)
        smooth |= {name: _windowed(arrays[name], arrays["moving"]) for name in ("moving", "warped")}
        smooth["fixed"] = _windowed(arrays["fixed"], arrays["fixed"])
        if "confidence" in arrays:
            smooth["confidence"] = 255 * np.clip(arrays["confidence"], 0, 1)
        sharp = {name: arrays[name] for name in ("moving_label", "fixed_label", "warped_label")}
        sharp["change"] = _change(arrays["ddf"])
    volumes = {name: _shrunk(volume[view], "area") for name, volume in smooth.items()}
    volumes |= {name: _shrunk(volume[view], "nearest-exact") for name, volume in sharp.items()}
    shape, full = volumes[reference].shape, arrays[reference][view].shape
    return {
        "shape": shape,
        "spacing": [round(float(size * n / m), 4) for size, n, m in zip(spacing, full, shape, strict=True)],
        "center": label_center(volumes[reference], shape),
        "limit": limit,
        "planes": {plane.name: _turned(plane) for plane in planes_through((0, 0, 0), example.frame)},
        "volumes": {name: _bytes(gzip.compress(volume.tobytes(), 9, mtime=0)) for name, volume in volumes.items()},
    }


def _turned(plane: Plane) -> dict[str, Any]:
    axes = [plane.horizontal, plane.vertical, plane.axis]
    return {"axes": axes, "flipped": plane.flipped, "letters": plane.letters}


def _field(ddf: np.ndarray, spacing: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """The components of a field in voxels as numbers 1..255, and the mm that the two ends stand for."""
    millimetres = ddf * spacing[:, None, None, None]
    limit = max(float(np.abs(millimetres).max()), 1e-3)
    return {f"ddf_{axis}": 128 + 127 * part / limit for axis, part in enumerate(millimetres)}, limit


def _change(ddf: np.ndarray) -> np.ndarray:
    """|J| of a field as numbers 0..254 of the colour map, and ``FOLDED`` where the field folds."""
    change = volume_change(ddf)
    colors = 254 * VOLUME_CHANGE(np.nan_to_num(change.ravel(), nan=1.0)).reshape(change.shape)
    return np.where(np.isnan(change), FOLDED, colors)


def _windowed(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    low, high = intensity_window(reference)
    return 255 * np.clip((image - low) / (high - low), 0, 1)


def _shrunk(volume: np.ndarray, mode: str) -> np.ndarray:
    """A volume as bytes, of at most ``MOST_VOXELS`` voxels."""
    factor = min((MOST_VOXELS / volume.size) ** (1 / 3), 1.0)
    if factor < 1:
        shape = [max(int(size * factor), 1) for size in volume.shape]
        tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
        volume = interpolate(tensor, size=shape, mode=mode)[0, 0].numpy()
    return np.ascontiguousarray(np.rint(volume)).astype(np.uint8)


def _table(colors: Colormap) -> bytes:
    """The 256 colours of a map as red, green, blue, opacity; a map of few colours has them under their numbers."""
    indices = np.arange(256)
    if colors is VOLUME_CHANGE_COLORS:
        values = np.ma.masked_equal(indices, FOLDED) / 254
    else:
        values = indices if colors.N < 256 else indices / 255
    return colors(values, bytes=True).tobytes()


def _bytes(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _json(identity: str, content: Any) -> str:
    return f'<script type="application/json" id="{identity}">{json.dumps(content)}</script>\n'
