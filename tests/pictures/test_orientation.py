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
"""What a picture says of left and right is where the affine puts it, however the array is stored."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from scripts.pictures.figures import deformation_figure, figure_to_array, images_figure
from scripts.pictures.orientation import VIEWS, Frame, checked_view
from scripts.pictures.panels import draw_grid
from scripts.pictures.planes import planes_through

SHAPE, SPACING = (8, 10, 12), (1.0, 1.5, 2.0)  # of the volume in RAS
CORNER = (6, 8, 9)  # one bright voxel, at the patient's right, front and head
ORDERS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]
orders = pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SAL", "IPL"])
views = pytest.mark.parametrize("view", VIEWS)
#: view -> plane -> letters at the left, right, bottom and top of the picture
LETTERS = {
    "radiological": {"axial": "RLPA", "coronal": "RLIS", "sagittal": "APIS"},
    "neurological": {"axial": "LRPA", "coronal": "LRIS", "sagittal": "APIS"},
}


def stored(volume: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """A volume in RAS as a file with other axes holds it, and the affine of that file."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.diag([*SPACING, 1.0]) @ inv_ornt_aff(turn, volume.shape)
    return nib.apply_orientation(volume, turn), affine


def marked() -> np.ndarray:
    volume = np.zeros(SHAPE, np.float32)
    volume[CORNER] = 1
    return volume


def pictures(volume, codes, view):
    """Name of each plane through the brightest voxel -> its picture and its letters."""
    array, affine = stored(volume, codes)
    center = np.unravel_index(array.argmax(), array.shape)
    planes = planes_through(center, Frame.of(affine, view))
    return {plane.name: (plane.take(array), plane) for plane in planes}


@orders
@views
def test_the_patients_right_front_and_head_lie_where_the_letters_say(codes, view):
    for name, (picture, plane) in pictures(marked(), codes, view).items():
        left, right, bottom, top = plane.letters
        assert "".join(plane.letters) == LETTERS[view][name]
        (row,), (column,) = np.nonzero(picture)
        assert (right if column >= picture.shape[1] / 2 else left) in "RA"
        assert (top if row >= picture.shape[0] / 2 else bottom) in "AS"


@views
def test_in_the_radiological_view_the_right_is_on_the_left_pixel_by_pixel(view):
    found = {name: np.argwhere(picture)[0].tolist() for name, (picture, _) in pictures(marked(), "LPS", view).items()}
    x, y, z = CORNER
    column = SHAPE[0] - 1 - x if view == "radiological" else x
    assert found == {"axial": [y, column], "coronal": [z, column], "sagittal": [z, SHAPE[1] - 1 - y]}


@views
@pytest.mark.parametrize("codes", ORDERS)
def test_the_same_anatomy_is_the_same_picture_in_all_48_stored_orders(codes, view):
    volume = np.random.default_rng(0).random(SHAPE)
    expected, found = (pictures(volume, each, view) for each in ("RAS", codes))
    for name, (picture, plane) in expected.items():
        np.testing.assert_array_equal(found[name][0], picture)
        assert found[name][1].extent(stored(volume, codes)[0].shape) == plane.extent(SHAPE)
        assert found[name][1].letters == plane.letters


def test_a_flipped_header_makes_a_flipped_picture():
    array = np.random.default_rng(0).random(SHAPE)
    right, left = (planes_through((4, 5, 6), Frame.of(np.diag([sign, 1.0, 1.0, 1.0])))[0] for sign in (1, -1))
    np.testing.assert_array_equal(left.take(array), right.take(array)[:, ::-1])
    assert left.letters == right.letters


@orders
@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_grid_of_a_field_is_the_same_in_every_stored_order(codes, number):
    def lines(field, spacing_codes):
        array, affine = stored(np.zeros(SHAPE), spacing_codes)
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(spacing_codes)).astype(int)
        ddf = np.zeros((3, *array.shape), np.float32)
        for axis, (new_axis, sign) in enumerate(turn):  # components follow the axes, and turn with them
            ddf[new_axis] = sign * stored(field[axis], spacing_codes)[0]
        center = np.array(stored(marked(), spacing_codes)[0].nonzero())[:, 0]
        panel = Figure().add_axes((0, 0, 1, 1))
        draw_grid(panel, planes_through(center, Frame.of(affine))[number], ddf, lines=5)
        return [sorted(map(tuple, np.concatenate([p.vertices for p in c.get_paths()]))) for c in panel.collections]

    field = np.random.default_rng(1).normal(0, 0.3, (3, *SHAPE)).astype(np.float32)
    for expected, found in zip(lines(field, "RAS"), lines(field, codes), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("degrees", [0.0, 0.5, 17.0])
def test_an_oblique_volume_has_the_closest_letters_and_says_by_how_much(degrees):
    turn = np.eye(4)
    angle = np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    frame = Frame.of(turn @ np.diag([-2.0, -1.0, 3.0, 1.0]))
    assert frame.codes == "LPS" and frame.spacing == pytest.approx((2, 1, 3))
    assert frame.oblique == pytest.approx(degrees, abs=1e-5)
    titles = {plane.title for plane in planes_through((0, 0, 0), frame)}
    names = ("axial", "coronal", "sagittal")
    assert titles == ({f"{name}\noblique 17°" for name in names} if degrees > 1 else set(names))


def test_where_nothing_is_known_there_are_no_letters_and_the_array_is_shown_as_it_is():
    array = np.random.default_rng(0).random(SHAPE)
    axial, coronal, sagittal = planes_through((4, 5, 6))
    assert {plane.letters for plane in (axial, coronal, sagittal)} == {None}
    np.testing.assert_array_equal(axial.take(array), array[:, :, 6].T)
    np.testing.assert_array_equal(sagittal.take(array), array[4].T)


def test_another_view_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="expected one of .*radiological.*neurological.*found 'left'"):
        checked_view("left")


# ---- what is drawn


@views
def test_the_bright_corner_lands_in_its_corner_of_the_rendered_picture(view):
    array, affine = stored(np.kron(marked(), np.ones((2, 2, 2))), "LPS")
    center = [int(axis.mean()) for axis in array.nonzero()]
    figure = images_figure(array, array, array, center, Frame.of(affine, view))
    pixels = figure_to_array(figure, dpi=100)[::-1].astype(int)  # from the bottom up
    height, width = pixels.shape[:2]
    for panel in figure.axes[:3]:  # the axial ones
        box = panel.get_position()
        part = pixels[int(box.y0 * height) : int(box.y1 * height), int(box.x0 * width) : int(box.x1 * width), 0]
        up, across = part.shape[0] // 2, part.shape[1] // 2
        halves = {"left": part[up + 20 :, 20 : across - 20], "right": part[up + 20 :, across + 20 : -20]}
        bright = "left" if view == "radiological" else "right"
        assert halves.pop(bright).max() > 200 and next(iter(halves.values())).max() < 60


@views
def test_every_slice_has_its_four_letters_at_its_edges_inside_of_it_and_apart(view):
    volume = np.random.default_rng(0).random((40, 40, 9))  # flat: its coronal slices are low
    figure = deformation_figure(np.zeros((3, 40, 40, 9)), volume, (20, 20, 4), Frame.of(np.eye(4), view))
    renderer = FigureCanvasAgg(figure).get_renderer()
    slices = [panel for panel in figure.axes if panel.texts]
    assert len(slices) == 9
    for panel, letters in zip(slices, [sides for sides in LETTERS[view].values() for _ in range(3)], strict=True):
        assert "".join(text.get_text() for text in panel.texts) == letters
        boxes = [text.get_window_extent(renderer) for text in panel.texts]
        outer = panel.get_window_extent(renderer)
        for number, box in enumerate(boxes):
            assert outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])
