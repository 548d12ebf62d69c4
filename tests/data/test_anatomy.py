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

from scripts.data.anatomy import HEART_AXIS, Canvas, bend, ellipsoid, smooth_field, tube

POINTS = np.random.default_rng(0).uniform(-50, 50, (200, 3)).astype(np.float32)


def test_sphere_is_an_exact_distance():
    centre = np.array((3.0, -2.0, 7.0))
    expected = np.linalg.norm(POINTS - centre, axis=-1) - 20
    np.testing.assert_allclose(ellipsoid(POINTS, centre, (20, 20, 20)), expected, atol=1e-3)


@pytest.mark.parametrize("axis", range(3))
def test_ellipsoid_ends_at_its_radii(axis):
    radii = (12.0, 7.0, 30.0)
    tip = np.eye(3, dtype=np.float32)[axis] * np.array((0.9, 1.0, 1.1), dtype=np.float32)[:, None] * radii[axis]
    inside, border, outside = ellipsoid(tip, (0, 0, 0), radii)
    assert inside < 0 < outside
    assert border == pytest.approx(0, abs=1e-4)


def test_first_radius_lies_along_the_given_axis():
    tip = (30 * HEART_AXIS).astype(np.float32)
    assert ellipsoid(tip, (0, 0, 0), (30, 10, 10), HEART_AXIS) == pytest.approx(0, abs=1e-4)
    assert ellipsoid(tip, (0, 0, 0), (10, 30, 30), HEART_AXIS) > 5


@pytest.mark.parametrize(
    ("point", "expected"),
    [((0, 0, 0), -4.0), ((5, 7, 0), 1.0), ((10, 5, 3), -1.0), ((-3, 0, 0), -1.0), ((10, 20, 0), 6.0)],
    ids=["on the line", "nearer to the second piece", "beside the second piece", "behind the start", "beyond the end"],
)
def test_tube_is_the_distance_to_its_line_less_the_radius(point, expected):
    path = ((0, 0, 0), (10, 0, 0), (10, 10, 0))
    assert tube(np.array(point, dtype=np.float32), path, radius=4.0) == pytest.approx(expected, abs=1e-4)


def test_what_is_painted_later_lies_in_front():
    canvas = Canvas((3,), value=-1000)
    canvas.paint(np.array([-50.0, -50.0, 50.0]), 100, label_id=500)
    canvas.paint(np.array([50.0, -50.0, 50.0]), 300, label_id=820)
    np.testing.assert_allclose(canvas.image, [100, 300, -1000], atol=1e-3)
    assert canvas.label.tolist() == [500, 820, 0]


def test_paint_is_half_and_half_on_the_border():
    canvas = Canvas((1,), value=0)
    canvas.paint(np.zeros(1), 200)
    assert canvas.image.tolist() == [100]


def test_smooth_field_depends_on_the_place_only():
    whole = smooth_field(np.random.default_rng(3), POINTS, channels=2, knots=6)
    part = smooth_field(np.random.default_rng(3), POINTS[::-7], channels=2, knots=6)
    np.testing.assert_array_equal(part, whole[::-7])
    assert 0.4 < whole.std() < 1.2


@pytest.mark.parametrize("seed", range(5))
def test_bending_never_folds_the_drawing(seed):
    # Central differences of the bent grid, 3 mm apart: a volume that turned inside out has a negative determinant.
    axis = np.arange(-72, 73, 3, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    bent = bend(np.random.default_rng(seed), grid, degrees=6, shift_mm=3, field_mm=3.5)
    jacobian = np.stack(np.gradient(bent, 3.0, axis=(0, 1, 2)), axis=-1)
    assert np.linalg.det(jacobian).min() > 0


def test_bending_by_nothing_but_scale_keeps_the_directions():
    bent = bend(np.random.default_rng(0), POINTS, degrees=0, shift_mm=0, field_mm=0)
    ratio = np.linalg.norm(bent, axis=-1) / np.linalg.norm(POINTS, axis=-1)
    np.testing.assert_allclose(bent, POINTS * ratio[:, None], atol=1e-4)
    assert np.ptp(ratio) < 1e-5
    assert 0.8 < ratio[0] < 1.25
