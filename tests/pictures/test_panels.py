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

import numpy as np
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from scripts.pictures.orientation import Frame
from scripts.pictures.panels import (
    INK,
    STRUCTURE_COLORS,
    VOLUME_CHANGE,
    VOLUME_CHANGE_COLORS,
    dimmed,
    draw_grid,
    draw_outlines,
    intensity_window,
    panel_sheet,
    plain,
    structure_color,
    volume_change,
)
from scripts.pictures.planes import planes_through

SHAPE = (16, 12, 10)
SPACING = (1.0, 2.0, 0.5)


def axes():
    return Figure().add_axes((0, 0, 1, 1))


def paths(drawn):
    return [path for lines in drawn.collections for path in lines.get_paths() if len(path.vertices)]


def grid_lines(ddf, plane):
    """The lines across and the lines upwards, each as an array of points."""
    panel = axes()
    draw_grid(panel, plane, ddf, lines=5)
    return [[path.vertices for path in lines.get_paths() if len(path.vertices)] for lines in panel.collections]


def field(axis, values):
    ddf = np.zeros((3, *SHAPE), np.float32)
    ddf[axis] = values
    return ddf


@pytest.mark.parametrize("number", [0, 1, 2])
def test_without_displacement_the_grid_is_straight_and_square(number):
    plane = planes_through((8, 6, 5), Frame(SPACING))[number]
    spaces = []
    for direction, lines in enumerate(grid_lines(field(0, 0.0), plane)):
        assert max(np.ptp(points[:, direction]) for points in lines) < 1e-5
        spaces += list(np.diff([points[0, direction] for points in lines]))
    np.testing.assert_allclose(spaces, spaces[0], rtol=1e-4)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_shift_by_voxels_moves_the_grid_against_it_by_millimetres(number):
    plane = planes_through((8, 6, 5), Frame(SPACING))[number]
    for direction, axis in enumerate((plane.horizontal, plane.vertical)):
        still, moved = (grid_lines(field(axis, shift), plane)[direction] for shift in (0.0, 1.0))
        before, after = ([points[0, direction] for points in lines] for lines in (still, moved))
        expected = [place - SPACING[axis] for place in before if place >= SPACING[axis]]
        np.testing.assert_allclose(after[: len(expected)], expected, atol=1e-4)


def test_a_displacement_out_of_the_plane_leaves_its_grid_alone():
    plane = planes_through((8, 6, 5), Frame(SPACING))[0]
    depth = field(2, np.random.default_rng(0).random(SHAPE))
    for still, moved in zip(grid_lines(field(2, 0.0), plane), grid_lines(depth, plane), strict=True):
        np.testing.assert_array_equal(np.concatenate(still), np.concatenate(moved))


def test_each_structure_is_outlined_in_its_own_colour_and_an_absent_one_not():
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:5], label[8:12, 4:9] = 1, 3
    panel = axes()
    draw_outlines(panel, planes_through((8, 6, 5))[0], label)
    drawn = [tuple(lines.get_edgecolor()[0]) for lines in panel.collections]
    assert drawn == [to_rgba(structure_color(1)), to_rgba(structure_color(3))]


def test_an_outline_encloses_the_voxels_of_its_structure():
    label = np.zeros(SHAPE, np.uint8)
    label[4:9, 3:7] = 1
    panel = axes()
    draw_outlines(panel, planes_through((6, 5, 5), Frame(SPACING))[0], label)
    (outline,) = paths(panel)
    np.testing.assert_allclose(outline.vertices.min(axis=0), (3.5, 5.0))
    np.testing.assert_allclose(outline.vertices.max(axis=0), (8.5, 13.0))


def test_the_outline_of_a_structure_cut_by_the_border_is_closed():
    label = np.ones(SHAPE, np.uint8)
    panel = axes()
    draw_outlines(panel, planes_through((8, 6, 5), Frame(SPACING))[1], label)
    (outline,) = paths(panel)
    np.testing.assert_array_equal(outline.vertices[0], outline.vertices[-1])


def test_seven_structures_have_seven_colours_and_the_eighth_starts_again():
    assert len({structure_color(index) for index in range(1, 8)}) == len(STRUCTURE_COLORS) == 7
    assert structure_color(8) == structure_color(1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_stretching_any_axis_changes_the_volume_by_the_factor(axis, factor):
    place = np.indices(SHAPE)[axis]
    np.testing.assert_allclose(volume_change(field(axis, (factor - 1) * place)), factor, rtol=1e-5)


def test_folded_voxels_are_not_a_number_and_drawn_in_ink():
    change = volume_change(field(0, -2.0 * np.indices(SHAPE)[0]))
    assert np.isnan(change).all()
    colored = VOLUME_CHANGE_COLORS(VOLUME_CHANGE(np.ma.masked_invalid(change[..., 0])))
    np.testing.assert_allclose(colored[0, 0], to_rgba(INK))


@pytest.mark.parametrize("text", ["$x_1$", "a $ b", r"\$5 and $6"])
def test_dollar_signs_are_not_read_as_maths(text):
    assert not is_math_text(plain(text))


def test_the_window_of_a_constant_image_has_a_width():
    assert intensity_window(np.full(SHAPE, 3.0)) == (3.0, 4.0)


def test_the_window_leaves_out_the_brightest_and_darkest_half_percent():
    image = np.r_[np.full(4, -1e6), np.linspace(0, 1, 992), np.full(4, 1e6)]
    low, high = intensity_window(image)
    assert 0 <= low < 0.01 and 0.99 < high <= 1


def test_a_dimmed_window_keeps_black_black():
    assert dimmed((10.0, 20.0), 1.5) == (10.0, 25.0)


@pytest.mark.parametrize("shape", [(48, 64, 48), (64, 16, 16), (5, 5, 200)])
def test_panels_lie_inside_the_figure_and_do_not_overlap(shape):
    planes = planes_through(tuple(size // 2 for size in shape))
    figure, sheet = panel_sheet(planes, shape, ["one", "two"], footer=0.3)
    boxes = [panel.get_position(original=True) for panel in sheet.ravel()]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert one.x1 <= other.x0 or one.y0 >= other.y1
    assert min(box.y0 for box in boxes) * figure.get_figheight() >= 0.3
