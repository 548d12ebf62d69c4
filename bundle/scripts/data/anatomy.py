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
"""The drawing that phantoms are samples of: a chest with a heart, as formulas of the place in millimetres.

A point is (..., 3) in mm, right-anterior-superior, with the middle of the heart at the origin. Everything drawn is a
signed distance to a border, so that what a voxel shows does not depend on the grid it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from scipy.special import expit

STRUCTURES = {
    205: "myocardium of the left ventricle",
    420: "left atrium",
    500: "left ventricle",
    550: "right atrium",
    600: "right ventricle",
    820: "ascending aorta",
    850: "pulmonary artery",
}
# The ids by name, in the order of the table above.
MYOCARDIUM, LEFT_ATRIUM, LEFT_VENTRICLE, RIGHT_ATRIUM, RIGHT_VENTRICLE, AORTA, PULMONARY_ARTERY = STRUCTURES

# Side of the cube, in millimetres, that every case shows: `size` voxels of EXTENT_MM / size mm cover it.
EXTENT_MM = 144.0

# Base to apex of the left ventricle: to the left, forwards and down.
HEART_AXIS = np.array((-0.62, 0.55, -0.56)) / np.linalg.norm((-0.62, 0.55, -0.56))
AORTA_PATH = (
    (0, -2, 0),
    (6, 3, 16),
    (9, 6, 34),
    (5, 2, 50),
    (-6, -14, 57),
    (-16, -34, 50),
    (-20, -45, 34),
    (-21, -47, -80),
)
# The label of the ascending aorta ends at this height, in the piece of the path before this knot.
ARCH_BEGINS_MM, ARCH_KNOT = 44.0, 5
# Vessels as (centre line in mm, radius in mm).
PULMONARY_PATHS = (
    (((-8, 27, 6), (-13, 21, 22), (-15, 8, 35), (-15, -8, 40)), 10.5),
    (((-15, -6, 39), (8, -15, 36), (36, -18, 32)), 7.5),
    (((-15, -6, 39), (-30, -18, 40), (-44, -26, 36)), 7.5),
)
VENA_CAVA_PATHS = ((((30, 3, 80), (30, 0, 8)), 8.0), (((24, -16, -80), (28, -6, -18)), 9.0))
PULMONARY_VEIN_PATHS = tuple(
    (((2 + 12 * side, -26, 8), (2 + 52 * side, -36, 10 + rise)), 5.0) for side in (-1, 1) for rise in (-16, 14)
)


class Canvas:
    """An image and its labels, painted back to front with soft edges (what is painted later lies in front)."""

    def __init__(self, shape: Sequence[int], value: float, softness_mm: float = 1.2) -> None:
        self.image = np.full(shape, value, dtype=np.float32)
        self.label = np.zeros(shape, dtype=np.int16)
        self.softness_mm = softness_mm

    def paint(self, distance: np.ndarray, value: float | np.ndarray, label_id: int | None = None) -> None:
        """Covers the region of negative `distance` (mm to its border) with `value`, blurred over the border."""
        self.image += (value - self.image) * expit(-distance / self.softness_mm)
        if label_id is not None:
            self.label[distance < 0] = label_id


def ellipsoid(
    points: np.ndarray, centre: Sequence[float], radii: Sequence[float], along: np.ndarray | None = None
) -> np.ndarray:
    """Approximate signed distance in mm to an ellipsoid, negative inside; exact for a sphere and on every border.

    Args:
        points: (..., 3) in mm.
        centre: (3,) in mm.
        radii: (3,) in mm along the patient's axes; with `along`, the first radius lies along that unit vector.
        along: unit vector of the first radius, not vertical; the second then lies horizontally across it.

    Returns:
        Distances in mm, of shape (...).
    """
    offset = points - np.asarray(centre, dtype=np.float32)
    if along is not None:
        offset = offset @ _frame(along).T.astype(np.float32)
    scaled = offset / np.asarray(radii, dtype=np.float32)
    level = _length(scaled)
    slope = _length(scaled / np.asarray(radii, dtype=np.float32))
    return level * (level - 1) / np.maximum(slope, 1e-6)


def _frame(along: np.ndarray) -> np.ndarray:
    """Rows: `along`, the horizontal direction across it, and the third one."""
    across = np.cross((0.0, 0.0, 1.0), along)
    across /= np.linalg.norm(across)
    return np.stack((along, across, np.cross(along, across)))


def _length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean length over the last axis; several times faster than `np.linalg.norm` for short last axes."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))


def tube(points: np.ndarray, path: Sequence[Sequence[float]], radius: float) -> np.ndarray:
    """Signed distance in mm to a tube of one radius about a polyline with round ends, negative inside.

    Args:
        points: (..., 3) in mm.
        path: at least two points of (3,) in mm.
        radius: in mm.

    Returns:
        Distances in mm, of shape (...).
    """
    knots = np.asarray(path, dtype=np.float32)
    nearest = np.full(points.shape[:-1], np.inf, dtype=np.float32)
    for start, end in zip(knots[:-1], knots[1:], strict=True):
        offset, direction = points - start, end - start
        along = np.clip(offset @ direction / (direction @ direction), 0, 1)
        nearest = np.minimum(nearest, _length(offset - along[..., None] * direction))
    return nearest - radius


def smooth_field(rng: np.random.Generator, points: np.ndarray, channels: int, knots: int) -> np.ndarray:
    """Smooth random field of standard deviation about 1 at `points`: cubic spline through `knots` values per axis.

    It depends on the place in millimetres only, so that a subject is the same on every grid. Returns (..., channels).
    """
    values = rng.normal(size=(channels, knots, knots, knots))
    place = np.moveaxis((points / (1.2 * EXTENT_MM) + 0.5) * (knots - 1), -1, 0)
    return np.stack([map_coordinates(v, place, order=3, mode="nearest", output=np.float32) for v in values], axis=-1)


def bend(rng: np.random.Generator, points: np.ndarray, degrees: float, shift_mm: float, field_mm: float) -> np.ndarray:
    """Moves points by a random rotation, scale and shift and by a smooth field, of the given standard deviations.

    The scale has a standard deviation of 4 %. With a `field_mm` of 3.5 none of 60 seeds folds, with 4 one does.
    """
    rotation = Rotation.from_rotvec(rng.normal(0, degrees, 3), degrees=True).as_matrix() * np.exp(rng.normal(0, 0.04))
    moved = points @ rotation.T.astype(np.float32) + rng.normal(0, shift_mm, 3).astype(np.float32)
    return moved + field_mm * smooth_field(rng, points, channels=3, knots=6)


def draw_surroundings(canvas: Canvas, points: np.ndarray, rng: np.random.Generator) -> None:
    """Paints chest wall, lungs with vessels, ribs, spine, liver and stomach: nothing of it bears a label."""
    y, z = points[..., 1], points[..., 2]
    fat = 110 * smooth_field(rng, points, channels=1, knots=10)[..., 0]
    canvas.paint(ellipsoid(points, (0, -4, 0), (92, 76, 1000)), np.clip(fat, -110, 60))
    across, deep = rng.normal((62, 57), 3)
    canvas.paint(ellipsoid(points, (0, -2, 0), (across - 5, deep - 5, 1000)), -840)
    for _ in range(14):
        side = rng.choice((-1, 1))
        tip = rng.uniform((42 * side - 15, -45, -45), (42 * side + 15, 45, 60))
        canvas.paint(tube(points, ((26 * side, -18, 16), tip), rng.uniform(1.5, 3.5)), rng.uniform(0, 250))
    canvas.paint(ellipsoid(points, (0, -10, 20), (24, 48, 1000)), np.clip(fat, -100, 40))
    canvas.paint(ellipsoid(points, (32, 4, -88 + rng.normal(0, 5)), (62, 58, 42)), rng.uniform(70, 140))
    canvas.paint(ellipsoid(points, (-36, 6, -88 + rng.normal(0, 5)), (46, 50, 36)), rng.uniform(0, 60))
    canvas.paint(ellipsoid(points, (-34, 22, -74), (14, 12, 9)), rng.choice((-700, 30)))
    # Ribs are rings about the chest, repeated along the body and sloping down towards the front.
    period, phase = rng.uniform(22, 30), rng.uniform(0, 30)
    level = np.mod(z + rng.uniform(0.2, 0.5) * y + phase, period) - period / 2
    ring = ellipsoid(points, (0, -2, 0), (across, deep, 1000))
    canvas.paint(np.hypot(ring, level) - rng.uniform(3.5, 5.5), rng.uniform(250, 600))
    canvas.paint(ellipsoid(points, (0, deep - 2, 10), (13, 5, 1000)), rng.uniform(150, 350))
    _draw_spine(canvas, points, rng)


def _draw_spine(canvas: Canvas, points: np.ndarray, rng: np.random.Generator) -> None:
    """Paints vertebrae, bright at the rim, with a disc between every two."""
    behind = -58 + rng.normal(0, 2)
    canvas.paint(tube(points, ((0, behind, -90), (0, behind, 90)), 17), rng.uniform(300, 500))
    canvas.paint(tube(points, ((0, behind, -90), (0, behind, 90)), 14), rng.uniform(140, 260))
    period = rng.uniform(24, 30)
    disc = np.abs(np.mod(points[..., 2] + rng.uniform(0, period), period) - period / 2) - 2.5
    canvas.paint(np.maximum(disc, tube(points, ((0, behind, -90), (0, behind, 90)), 17)), 80)


def draw_heart(canvas: Canvas, points: np.ndarray, rng: np.random.Generator) -> None:
    """Paints the seven structures and the vessels that go on from them without a label, with subject-specific sizes."""
    left, right = rng.uniform(290, 390), rng.uniform(190, 310)
    wall, grow = rng.uniform(90, 140), rng.normal(1, 0.06, 6)
    canvas.paint(ellipsoid(points, (0, 3, -8), (55, 44, 47), HEART_AXIS), rng.uniform(-80, 20))
    for path, radius in VENA_CAVA_PATHS:
        canvas.paint(tube(points, path, radius), right + rng.normal(0, 25))
    for path, radius in PULMONARY_VEIN_PATHS:
        canvas.paint(tube(points, path, radius * grow[0]), left)
    ascending = tube(points, AORTA_PATH[:ARCH_KNOT], 11 * grow[1])
    canvas.paint(np.minimum(ascending, tube(points, AORTA_PATH[ARCH_KNOT - 1 :], 11 * grow[1])), left)
    base = (points - np.array((-15, 3, -13), dtype=np.float32)) @ -HEART_AXIS.astype(np.float32)
    chamber = ellipsoid(points, (-15, 3, -13), (36, 18 * grow[2], 18 * grow[2]), HEART_AXIS)
    shell = ellipsoid(points, (-15, 3, -13), (43, 26 * grow[2], 26 * grow[2]), HEART_AXIS)
    layers = (
        (RIGHT_VENTRICLE, ellipsoid(points, (4, 25, -17), (37, 22 * grow[3], 25), HEART_AXIS), right),
        (RIGHT_ATRIUM, ellipsoid(points, (31, -3, -4), (16 * grow[4], 19, 22 * grow[4])), right),
        (LEFT_ATRIUM, ellipsoid(points, (2, -26, 8), (25, 16 * grow[5], 19 * grow[5])), left),
        (PULMONARY_ARTERY, np.minimum.reduce([tube(points, p, r * grow[0]) for p, r in PULMONARY_PATHS]), right),
        (MYOCARDIUM, np.maximum(shell, base - 13), wall),
        (AORTA, np.maximum(ascending, points[..., 2] - ARCH_BEGINS_MM), left),
        (LEFT_VENTRICLE, np.maximum(chamber, base - 17), left),
    )
    for label_id, distance, value in layers:
        canvas.paint(distance, value + rng.normal(0, 12), label_id)
