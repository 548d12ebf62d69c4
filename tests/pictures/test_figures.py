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
from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from PIL import Image
from synthetic_evaluation import SHAPE, SPACING, ball

from scripts.pictures.figures import (
    CONFUSED,
    INVENTED,
    MISSED,
    alignment_figure,
    deformation_figure,
    figure_to_array,
    figure_to_png,
    images_figure,
    pair_figure,
    segmentation_errors,
    segmentation_figure,
)
from scripts.pictures.orientation import Frame
from scripts.pictures.panels import CONFIDENCE, structure_color

IMAGE = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
STILL = np.zeros((3, *SHAPE), np.float32)
CENTER = (8, 10, 6)


def words(figure):
    return [text.get_text() for text in figure.texts]


def share_of(figure, color):
    """The fraction of the picture's pixels that have this colour."""
    pixels = figure_to_array(figure)
    return np.all(np.abs(pixels - np.round(255 * np.array(to_rgb(color)))) <= 2, axis=-1).mean()


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        ({}, ["moving", "fixed", "warped", "deformation"]),
        ({"confidence": IMAGE}, ["moving", "fixed", "warped", "deformation", "confidence"]),
        ({"label": ball(CENTER)}, ["moving", "fixed", "warped", "deformation", "segmentation"]),
        (
            {"pred": ball(CENTER), "outlined": "warped label"},
            ["moving", "fixed", "warped", "deformation", "warped label"],
        ),
        (
            {"confidence": IMAGE, "pred": ball(CENTER), "label": ball(CENTER)},
            ["moving", "fixed", "warped", "deformation", "confidence", "segmentation"],
        ),
    ],
)
def test_a_pair_has_a_column_for_everything_that_is_given(given, columns):
    figure = pair_figure(IMAGE, IMAGE, IMAGE, STILL, **given)
    assert [word for word in words(figure) if word not in ("axial", "coronal", "sagittal")] == columns
    assert [word for word in words(figure) if word in ("axial", "coronal", "sagittal")] == [
        "axial",
        "coronal",
        "sagittal",
    ]


def test_the_predicted_structures_are_seen_in_a_pair():
    pred = ball(CENTER)
    assert share_of(pair_figure(IMAGE, IMAGE, IMAGE, STILL, pred=pred), structure_color(1)) > 0.0002
    assert share_of(pair_figure(IMAGE, IMAGE, IMAGE, STILL, pred=0 * pred), structure_color(1)) == 0


def test_a_pair_is_drawn_with_the_proportions_of_its_voxels():
    square = pair_figure(IMAGE, IMAGE, IMAGE, STILL).get_figheight()
    assert pair_figure(IMAGE, IMAGE, IMAGE, STILL, frame=Frame((1, 1, 2))).get_figheight() > square


@pytest.mark.parametrize(
    "wrong",
    [
        {"moving": IMAGE[:-1]},
        {"warped": IMAGE[None]},
        {"ddf": STILL[:2]},
        {"ddf": STILL[None]},
        {"confidence": IMAGE[:, :3]},
        {"label": IMAGE[0]},
    ],
)
def test_volumes_of_different_shapes_are_refused_by_name(wrong):
    arrays = {"moving": IMAGE, "fixed": IMAGE, "warped": IMAGE, "ddf": STILL} | wrong
    name, array = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"{name} +\({array.shape[0]}, ") as error:
        pair_figure(**arrays)
    assert "ddf[0]" in str(error.value)


@pytest.mark.parametrize(
    ("pred", "label", "error"), [(0, 0, 0), (2, 2, 0), (0, 1, MISSED), (2, 0, INVENTED), (2, 1, CONFUSED)]
)
def test_errors_of_a_voxel_are_told_apart(pred, label, error):
    assert segmentation_errors(np.array([pred]), np.array([label])).tolist() == [error]


def test_figures_of_one_volume_have_rows_of_equal_height():
    label = ball(CENTER)
    images = images_figure(IMAGE, IMAGE, IMAGE, CENTER, Frame(SPACING))
    alignment = alignment_figure(IMAGE, label, label, label, CENTER, Frame(SPACING))
    segmentation = segmentation_figure(IMAGE, label, label, CENTER, Frame(SPACING))
    assert images.get_figheight() == alignment.get_figheight() == segmentation.get_figheight()


def test_the_confidence_map_has_its_column_only_when_there_is_one():
    assert "confidence" not in words(deformation_figure(STILL, None, CENTER, Frame(SPACING)))
    figure = deformation_figure(STILL, np.ones(SHAPE), CENTER, Frame(SPACING))
    assert "confidence" in words(figure)
    assert (CONFIDENCE.vmin, CONFIDENCE.vmax) == (0, 1)


def test_a_png_holds_the_picture_at_the_asked_resolution():
    figure = images_figure(IMAGE, IMAGE, IMAGE, CENTER, Frame(SPACING))
    width, height = figure.get_size_inches()
    with Image.open(io.BytesIO(figure_to_png(figure, dpi=50))) as picture:
        assert picture.format == "PNG"
        assert picture.size == (int(width * 50), int(height * 50))


def test_an_array_is_the_picture_as_rows_of_red_green_blue():
    figure = images_figure(IMAGE, IMAGE, IMAGE, CENTER, Frame(SPACING))
    width, height = figure.get_size_inches()
    array = figure_to_array(figure, dpi=50)
    assert array.dtype == np.uint8
    assert array.shape == (int(height * 50), int(width * 50), 3)
    with Image.open(io.BytesIO(figure_to_png(figure, dpi=50))) as picture:
        np.testing.assert_array_equal(array, np.asarray(picture.convert("RGB")))


def test_pyplot_keeps_no_figure_alive():
    before = pyplot.get_fignums()
    figure_to_array(pair_figure(IMAGE, IMAGE, IMAGE, STILL))
    assert pyplot.get_fignums() == before
