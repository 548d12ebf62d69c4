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
"""The part of a report that is looked at: worst, median and best case of each task, drawn beside their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..pictures.figures import (
    ERRORS,
    alignment_figure,
    deformation_figure,
    images_figure,
    segmentation_errors,
    segmentation_figure,
)
from ..pictures.orientation import VIEWS
from ..pictures.panels import structure_color
from ..pictures.planes import focus, label_center
from .evaluation_folder import Evaluation, Example, mean_of
from .page import aside, legend, number, paragraph, picture, row, section, table, text
from .viewer import viewer

# The width of five columns of panels: what pictures leave of it is for the numbers, so that columns are equally wide.
ROW_INCHES = 11.8
# Measures of a pair's table, with their decimals.
SHOWN = (("dice", 3), ("hd95", 2))
CENTERED = "Slices go through the centre of the reference structures and show them with a margin."


def orientation(examples: Sequence[Example]) -> str:
    """Return what a reader has to know to tell left from right in the pictures of these examples."""
    frames = [example.frame for example in examples]
    if not all(frame.codes for frame in frames):
        return (
            f"{CENTERED} Orientation unknown: an earlier version wrote these volumes, and did not keep it. The first"
            " axis of the array runs to the right, and nothing says which side of the patient that is."
        )
    side = "left" if frames[0].view == VIEWS[0] else "right"
    oblique = max(frame.oblique for frame in frames)
    text = (
        f"{CENTERED} The letters are sides of the patient: R right and L left, A front and P back, S head and I feet."
        f" The view is {frames[0].view}: the patient's right is on the {side} of axial and coronal slices."
    )
    if any(frame.is_oblique for frame in frames):
        text += f" The volumes are oblique: their axes are up to {oblique:.0f}° off the sides that the letters name."
    return text


def segmentation_section(evaluation: Evaluation) -> str:
    """Return the examples of segmentation: reference, prediction and errors in three planes."""
    intro = (
        "Each structure is outlined in its own colour. The column of errors shows on a darker image the voxels"
        " where a structure was missed, where one was invented, and where one was taken for another."
    )
    examples = "".join(_segmentation(example) for example in evaluation.examples["segmentation"])
    slices = viewer("segmentation", {evaluation.name: evaluation.examples["segmentation"]})
    about = orientation(evaluation.examples["segmentation"])
    return section("Segmentation", paragraph(intro), paragraph(about), _legend(evaluation), slices, examples)


def registration_section(evaluation: Evaluation) -> str:
    """Return the examples of registration: images, structures before and after, deformation and confidence."""
    intro = (
        "The moving image is warped onto the fixed one. Coloured lines are the moving image's structures, broken white"
        " lines those of the fixed image: the closer together after registration, the better. The deformation grid is"
        " the moving image's regular grid after the warp. Volume change is |J|: blue where the moving image is"
        " stretched, orange where it is squeezed, black where the field folds."
    )
    lines = _legend(evaluation, broken="fixed image")
    examples = "".join(_registration(example) for example in evaluation.examples["registration"])
    slices = viewer("registration", {evaluation.name: evaluation.examples["registration"]})
    about = orientation(evaluation.examples["registration"])
    return section("Registration", paragraph(intro), paragraph(about), lines, slices, examples)


def _legend(evaluation: Evaluation, broken: str = "") -> str:
    colors = {name: structure_color(index) for index, name in enumerate(evaluation.structures, start=1)}
    return legend(colors, broken)


def _heading(example: Example) -> str:
    return f'<h3><span class="rank">{example.rank.capitalize()}</span>{" → ".join(map(text, example.case))}</h3>\n'


def _segmentation(example: Example) -> str:
    arrays = example.arrays
    errors = segmentation_errors(arrays["pred"], arrays["label"])
    view = focus((arrays["label"], arrays["pred"]))
    image, label, pred = (arrays[name][view] for name in ("image", "label", "pred"))
    figure = segmentation_figure(image, label, pred, label_center(label, label.shape), example.frame)
    caption = f"{example.case[0]}: reference, prediction and errors. Mean Dice {float(arrays['dice']):.3f}."
    lines = [
        [text(line["structure"]), number(line["dice"], 3), number(line["hd95"], 2), number(line["asd"], 2)]
        for line in example.rows
    ]
    numbers = table(["structure", "Dice", "HD95, mm", "ASD, mm"], lines)
    colors = {f"{name}, {np.sum(errors == kind)} voxels": color for kind, (name, color) in ERRORS.items()}
    return _heading(example) + row(
        picture(figure, caption), aside(numbers + legend(colors, filled=True), ROW_INCHES - figure.get_figwidth())
    )


def _registration(example: Example) -> str:
    arrays = _cropped(example.arrays)
    center = label_center(arrays["fixed_label"], arrays["fixed"].shape)
    return (
        _heading(example)
        + row(_images(example, arrays, center), _alignment(example, arrays, center))
        + _deformation(example, arrays, center)
    )


def _cropped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a pair, the volumes among them cut to where its structures are before and after the warp."""
    view = focus([arrays[name] for name in ("moving_label", "fixed_label", "warped_label")])
    return {name: array[(..., *view)] if array.ndim >= 3 else array for name, array in arrays.items()}


def _images(example: Example, arrays: Mapping[str, np.ndarray], center: Sequence[int]) -> str:
    figure = images_figure(arrays["moving"], arrays["fixed"], arrays["warped"], center, example.frame)
    moving, fixed = example.case
    return picture(figure, f"{moving} (moving), {fixed} (fixed), and the moving image after the warp.")


def _alignment(example: Example, arrays: Mapping[str, np.ndarray], center: Sequence[int]) -> str:
    volumes = (arrays[name] for name in ("fixed", "fixed_label", "moving_label", "warped_label"))
    before, after = (f"{float(arrays[name]):.3f}" for name in ("identity_dice", "dice"))
    caption = f"Structures over the fixed image: mean Dice {before} before, {after} after registration."
    return picture(alignment_figure(*volumes, center, example.frame), caption)


def _deformation(example: Example, arrays: Mapping[str, np.ndarray], center: Sequence[int]) -> str:
    confidence = arrays.get("confidence")
    figure = deformation_figure(arrays["ddf"], confidence, center, example.frame)
    longest = float(np.linalg.norm(example.arrays["ddf"], axis=0).max())
    caption = f"The deformation, up to {longest:.1f} voxels long, and the change of volume that it makes."
    if confidence is not None:
        caption += " Confidence is high where the discriminator takes the pair for aligned."
    return row(picture(figure, caption), aside(_pair_numbers(example), ROW_INCHES - figure.get_figwidth()))


def _pair_numbers(example: Example) -> str:
    """Return the table of a pair: every structure before and after, and below it the measures of the field."""
    lines = [
        [text(line["structure"]), *(_change(line[f"identity_{name}"], line[name], digits) for name, digits in SHOWN)]
        for line in example.rows
    ]
    field = (
        f"{number(mean_of(example.rows, 'folding_percent'), 3)} % of the voxels fold, SD log |J|"
        f" {number(mean_of(example.rows, 'sdlogj'), 3)}, {number(mean_of(example.rows, 'seconds'), 2)} seconds."
    )
    return table(["before → after", "Dice", "HD95, mm"], lines) + f'<p class="note">{field}</p>'


def _change(before: float, after: float, digits: int) -> str:
    return f'<span class="spread">{number(before, digits)} →</span> {number(after, digits)}'
