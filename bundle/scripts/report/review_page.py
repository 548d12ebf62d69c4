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
"""The report of segmentations without labels to compare with: which of them to look at, and what they look like."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..data.review_table import TABLE
from ..data.volumes import read_volume
from ..files.output_folder import settle
from ..files.tables import told_of
from ..pictures.orientation import VIEWS, Frame
from ..pictures.panels import dimmed, draw_image, draw_outlines, intensity_window, panel_sheet, structure_color
from ..pictures.planes import focus, label_center, planes_through
from .examples import ROW_INCHES
from .page import (
    UNDEFINED,
    aside,
    count,
    key_figures,
    legend,
    number,
    page,
    paragraph,
    picture,
    section,
    table,
    text,
)
from .page import row as beside

__all__ = ["is_review", "outliers", "read_review", "review_html"]

NUMBERS = ("estimated_dice", "low", "high", "volume_ml", "volume_z", "agreement", "elongation")
COLUMNS = ("case", "structure", *NUMBERS, "pieces", "touches_border", "flag", "reason", "label", "image")
DRAWN = 6  # cases
FEWEST = 5  # cases that tell what is usual
FARTHEST = 3.5  # robust standard deviations
EMPTY = "Nothing stands out. Of fewer than five cases that have a structure nothing is said."
USUAL = (
    "Cases of this folder whose volume or elongation (longest over shortest principal axis) lies more than 3.5 robust"
    " standard deviations from the median, on a logarithmic scale. Anatomy has outliers, too."
)
ABOUT = (
    "The worst first. Without a calibration by validation cases, estimated Dice is how sure the model is of itself,"
    " and there is no interval. z counts standard deviations of the volume from labelled cases."
)


def is_review(folder: Path) -> bool:
    """Whether a folder holds segmentations of new images, and no evaluation."""
    return (folder / TABLE).is_file() and not (folder / "metrics.json").is_file()


def read_review(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``review.csv``; numbers that do not exist are NaN.

    Raises:
        ValueError: it cannot be read, or lacks a column.
    """
    settle(folder)
    path = folder / TABLE
    with told_of(path), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise ValueError(f"'{path}' lacks the columns {missing}: segment the images again.")
        rows = list(reader)
    return [row | {name: float(row[name] or "nan") for name in NUMBERS} for row in rows]


def review_html(folder: Path, title: str, view: str = VIEWS[0]) -> str:
    """The page of a folder of segmentations.

    Args:
        folder: what ``segment`` wrote.
        title: of the page.
        view: of the pictures, one of ``VIEWS``.
    """
    rows = read_review(folder)
    cases = list(dict.fromkeys(row["case"] for row in rows))  # the worst first
    flagged = [row for row in rows if row["flag"] == "yes"]
    headline = key_figures(
        [
            ("Segmented", str(len(cases)), "images"),
            ("To be looked at", str(len({row["case"] for row in flagged})), "images"),
            ("Flagged", str(len(flagged)), f"of {count(len(rows), 'structure')}"),
        ]
    )
    pictures = "".join(_pictures(folder, case, rows, view) for case in cases[:DRAWN])
    colors = {row["structure"]: structure_color(index) for index, row in enumerate(_by_label(rows), start=1)}
    body = (
        section("Review", paragraph(ABOUT), _table(rows))
        + section("Unusual in this folder", paragraph(USUAL), _unusual(rows))
        + section("The worst", legend(colors), pictures)
    )
    return page(title, f"{folder.resolve().name}: {count(len(cases), 'image')} without labels", headline, body)


def outliers(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[Mapping[str, Any], float]]:
    """Rows whose value is unusual among those of their structure, each with the median.

    Args:
        rows: of a review.
        column: of positive numbers, whose logarithms are compared by median and median absolute deviation.
    """
    found = []
    for structure in dict.fromkeys(row["structure"] for row in rows):
        own = [row for row in rows if row["structure"] == structure and row[column] > 0]
        if len(own) < FEWEST:
            continue
        logs = np.log([row[column] for row in own])
        away = np.abs(logs - np.median(logs))
        width = max(1.4826 * float(np.median(away)), 0.01)
        found += [
            (row, float(np.exp(np.median(logs)))) for row, far in zip(own, away, strict=True) if far > FARTHEST * width
        ]
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["case", "structure", "estimated Dice", "90 %", "ml", "z", "pieces", "agreement", "why"]
    lines = [
        [
            text(row["case"]),
            text(row["structure"]),
            number(row["estimated_dice"], 3),
            UNDEFINED if np.isnan(row["low"]) else f"{number(row['low'], 2)} to {number(row['high'], 2)}",
            number(row["volume_ml"], 2),
            number(row["volume_z"], 1),
            text(row["pieces"]),
            number(row["agreement"], 3),
            text(row["reason"]),
        ]
        for row in rows
    ]
    return table(head, lines)


def _unusual(rows: Sequence[Mapping[str, Any]]) -> str:
    found = [
        [text(row["case"]), text(row["structure"]), name, number(row[column], 2), number(usual, 2)]
        for column, name in (("volume_ml", "volume, ml"), ("elongation", "elongation"))
        for row, usual in outliers(rows, column)
    ]
    return table(["case", "structure", "what", "here", "median"], found) if found else paragraph(EMPTY)


def _by_label(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of each structure, in the order of their ids."""
    return sorted({row["label"]: row for row in rows}.values(), key=lambda row: int(row["label"]))


def _pictures(folder: Path, case: str, rows: Sequence[Mapping[str, Any]], view: str) -> str:
    own = [line for line in rows if line["case"] == case]
    reasons = "; ".join(f"{line['structure']}: {line['reason']}" for line in own if line["reason"]) or "nothing is odd"
    faults: list[str] = []
    image = read_volume(own[0]["image"], "image", faults)
    label = read_volume(str(folder / f"{case}_seg.nii.gz"), "label", faults)
    if image is None or label is None or image.array.shape != label.array.shape:
        return f"<h3>{text(case)}</h3>\n" + paragraph(
            f"{reasons}. Not drawn: {' '.join(faults) or 'its grid changed.'}"
        )
    classes = np.zeros(label.array.shape, np.uint8)
    for index, line in enumerate(_by_label(rows), start=1):
        classes[label.array == int(line["label"])] = index
    figure = _figure(image.array, classes, Frame.of(label.affine, view))
    words = aside(paragraph(reasons), ROW_INCHES - figure.get_figwidth())
    return f"<h3>{text(case)}</h3>\n" + beside(picture(figure, f"{case}: image and segmentation."), words)


def _figure(image: np.ndarray, classes: np.ndarray, frame: Frame) -> Figure:
    """The image, and the structures on it, in three planes through their centre."""
    part = focus((classes,), margin=0.5)
    image, classes = np.asarray(image[part], dtype=np.float32), classes[part]
    planes = planes_through(label_center(classes, classes.shape), frame)
    figure, sheet = panel_sheet(planes, image.shape, ["image", "segmentation"])
    window = intensity_window(image)
    for plane, panels in zip(planes, sheet, strict=True):
        draw_image(panels[0], plane, image, window)
        draw_image(panels[1], plane, image, dimmed(window, 1.2))
        draw_outlines(panels[1], plane, classes)
    return figure
