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
"""Grids that differ in every way that a field can get wrong, what to warp on them, and SimpleITK as the witness."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

FIXED, MOVING, FILE = (20, 24, 18), (26, 19, 22), (31, 28, 25)
# The file holds float32: a vector of 20 mm is off by 1e-6 mm, and the noise images of SD 50 change by up to 400 per mm.
EQUAL = 1e-3


def affine(spacing, angles=(0.0, 0.0, 0.0), origin=(0.0, 0.0, 0.0), flips=(1, 1, 1), order=(0, 1, 2)) -> torch.Tensor:
    """Voxel to RAS mm: spacing per array axis, rotations in degrees about x, y and z, flips and order of the axes."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        turn = np.eye(3)
        first, second = [k for k in range(3) if k != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    matrix = np.eye(4)
    matrix[:3, :3] = (rotation @ np.diag(flips))[:, order] @ np.diag(spacing)
    matrix[:3, 3] = origin
    return torch.from_numpy(matrix)


# (fixed tensor, moving tensor, grid to fill): the world positions overlap, so that most points find the moving image
ONE_GRID = (affine((1, 1, 1)),) * 3
LAS = (affine((1.2, 1, 2), flips=(-1, 1, 1), origin=(22, 0, 0)),) * 3
OBLIQUE = (
    affine((1.1, 0.8, 1.7), (12, -20, 7), (-10, 4, -30)),
    affine((0.9, 1.3, 1.4), (-9, 14, 25), (-9, 7, -28)),
    affine((0.8, 0.7, 1.3), (12, -20, 7), (-11, 4, -31)),
)
PERMUTED = (
    affine((1.1, 0.8, 1.7), (5, 8, -11), (100, 60, -30)),
    affine((1.6, 1.2, 0.9), (-9, 4, 10), (124, 55, -31), flips=(-1, 1, 1), order=(2, 0, 1)),
    affine((0.9, 0.7, 1.2), (5, 8, -11), (98, 60, -31)),
)
GEOMETRIES = pytest.mark.parametrize(
    "affines",
    [
        pytest.param(ONE_GRID, id="1 mm RAS"),
        pytest.param(LAS, id="LAS 1.2x1x2"),
        pytest.param(OBLIQUE, id="oblique"),
        pytest.param(PERMUTED, id="permuted"),
    ],
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_field(grid: tuple[int, ...] = FIXED, amplitude: float = 2.0) -> torch.Tensor:
    d, h, w = torch.meshgrid(*(torch.linspace(0, 1, size) for size in grid), indexing="ij")
    return amplitude * torch.stack([torch.sin(3 * h + 1), torch.cos(4 * w + d), torch.sin(3 * d + 2 * w)])


def noise(shape: tuple[int, ...] = MOVING) -> torch.Tensor:
    """White noise of SD 50: the image in which an error of position shows most."""
    return 50 * torch.randn(1, *shape, generator=generator(), dtype=torch.float64)


def itk_image(array: torch.Tensor, matrix: torch.Tensor) -> sitk.Image:
    """An image in SimpleITK from an array (X, Y, Z) and its affine in RAS."""
    image = sitk.GetImageFromArray(array.numpy().transpose(2, 1, 0))
    lps = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)) @ matrix
    spacing = lps[:3, :3].norm(dim=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def array(image: sitk.Image) -> torch.Tensor:
    return torch.from_numpy(sitk.GetArrayFromImage(image).transpose(2, 1, 0).copy())


def apply_with_itk(path, moving: sitk.Image, reference: sitk.Image, interpolator) -> torch.Tensor:
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))
    return array(sitk.Resample(moving, reference, transform, interpolator, 0.0))


def away_from_faces(points: torch.Tensor, moving_affine: torch.Tensor, margin: float = 0.01) -> torch.Tensor:
    """Points not so near the outer faces of the moving image that rounding decides on which side they lie."""
    inverse = moving_affine.inverse()
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    faces = torch.stack([voxels + 0.5, voxels - torch.tensor(MOVING) + 0.5])
    return (faces.abs() > margin).all(dim=-1).all(dim=0)
