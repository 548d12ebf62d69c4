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
"""The transform back, on request: named as a registration of the other direction, and in ITK the way back."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bundle_runs import names_in, workflow
from test_register_files import GEOMETRIES, PLAIN, SIZES, WINDOW, read_by_itk, register, write_subject
from tiny_networks import SameShift, Waves, shipped

from scripts.joint.state import PairState
from scripts.matching.affine import Affine
from scripts.matching.match import Match
from scripts.registration.register_files import RegisterFiles

MAP, BACK = "moving_image_to_fixed_image", "fixed_image_to_moving_image"
VOXEL = 6.0  # mm, of the networks


class Known(PairState):
    """A pair whose field is made of a smooth velocity and an affine that are known."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        d, h, w = torch.meshgrid(*(torch.linspace(0, 4, 12) for _ in range(3)), indexing="ij")
        velocity = 1.2 * torch.stack([torch.sin(h), torch.cos(d) * torch.sin(w), torch.sin(d + h)])[None]
        matrix = torch.tensor([[[1.05, 0.1, 0.0], [-0.1, 0.95, 0.0], [0.0, 0.05, 1.0]]])
        affine = Affine(matrix, torch.full((1, 3), 11.5), torch.tensor([[12.5, 11.0, 11.5]]))
        self.match = Match(affine, tuple(self.fixed_image.shape[2:]), velocity, 2)
        self.ddf = self.match.ddf


def registered_both_ways(folder: Path, geometry: str, state: type[PairState]) -> dict:
    fixed_grid, moving_grid = GEOMETRIES[geometry]
    fixed, moving = (
        write_subject(folder, name, seed, **grid)[0]
        for name, seed, grid in (("fixed", 1, fixed_grid), ("moving", 2, moving_grid))
    )
    return RegisterFiles(
        *(moving, fixed, str(folder / "out")),
        shipped("register.yaml", "preprocessing", **SIZES, **WINDOW),
        {"registration": Waves(1.5)},
        partial(state, num_classes=2),
        None,
        inverse=True,
    ).run()


def points_within(folder: Path, number: int = 300) -> np.ndarray:
    """Random points in the fixed file that go to the inside of the moving one, LPS mm."""
    files = {name: sitk.ReadImage(str(folder / f"{name}_image.nii.gz")) for name in ("fixed", "moving")}
    sides = np.random.default_rng(0).uniform(size=(number, 3)) * (np.array(files["fixed"].GetSize()) - 1)
    points = [files["fixed"].TransformContinuousIndexToPhysicalPoint(side) for side in sides.tolist()]
    forward = read_by_itk(folder / "out" / f"{MAP}_transform.h5")

    def inside(point):
        index = np.array(files["moving"].TransformPhysicalPointToContinuousIndex(forward.TransformPoint(point)))
        return (index >= -0.5).all() and (index <= np.array(files["moving"].GetSize()) - 0.5).all()

    return np.array([point for point in points if inside(point)])


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("state", [PairState, Known])
def test_itk_takes_points_there_and_back(state, geometry, tmp_path):
    summary = registered_both_ways(tmp_path, geometry, state)
    points = points_within(tmp_path)
    assert len(points) > 50
    forward = read_by_itk(tmp_path / "out" / f"{MAP}_transform.h5")
    there = [forward.TransformPoint(point) for point in points.tolist()]
    assert np.linalg.norm(np.array(there) - points, axis=1).mean() > 3
    back = read_by_itk(tmp_path / "out" / f"{BACK}_transform.h5")
    apart = np.linalg.norm(np.array([back.TransformPoint(point) for point in there]) - points, axis=1)
    told = summary["inverse"]["residual_mm"]
    assert apart.max() < 0.1 * VOXEL
    # at the voxels of the forward field, where it is told, the inverse is between its own: farthest from the truth
    assert apart.mean() < told["mean"] < 0.05 * VOXEL and apart.max() < told["max"] < 0.25 * VOXEL
    assert summary["inverse"]["made_of"] == ("velocity and affine" if state is Known else "field")


def test_the_field_of_the_way_back_holds_the_moving_file_and_agrees_with_the_transform(tmp_path):
    registered_both_ways(tmp_path, "oblique and apart", Known)
    moving = sitk.ReadImage(str(tmp_path / "moving_image.nii.gz"))
    corners = np.random.default_rng(1).uniform(size=(200, 3)) * (np.array(moving.GetSize()) - 1)
    points = [moving.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners.tolist()]
    field, transform = (read_by_itk(tmp_path / "out" / f"{BACK}_{end}") for end in ("warp.nii.gz", "transform.h5"))
    apart = [np.subtract(field.TransformPoint(point), transform.TransformPoint(point)) for point in points]
    assert np.linalg.norm(apart, axis=1).max() < 0.1 * VOXEL  # its voxels are others
    assert nib.load(tmp_path / "out" / f"{BACK}_warp.nii.gz").header["intent_code"] == 1007


def test_a_shift_goes_back_by_itself(tmp_path):
    images = {name: write_subject(tmp_path, name, seed, **PLAIN)[0] for seed, name in enumerate(("moving", "fixed"))}
    out = tmp_path / "out"
    summary = register(out, **images, networks={"registration": SameShift([1.0, 2.0, -1.0])}, inverse=True)
    assert summary["inverse"]["transforms"] == [f"{BACK}_warp.nii.gz", f"{BACK}_transform.h5"]
    assert set(summary["inverse"]["transforms"]) <= names_in(out)
    assert summary["inverse"]["residual_mm"]["max"] < 1e-9
    there, back = (nib.load(out / f"{name}_warp.nii.gz").get_fdata() for name in (MAP, BACK))
    np.testing.assert_allclose(there[8, 8, 8] + back[8, 8, 8], 0, atol=1e-4)


def test_two_images_of_one_name_have_no_files_for_both_directions(tmp_path):
    image, _ = write_subject(tmp_path, "only", 6, **PLAIN)
    with pytest.raises(ValueError, match="--inverse: both images have one name.*Rename"):
        register(tmp_path / "out", image, image, {"registration": SameShift()}, inverse=True)
    assert not (tmp_path / "out").exists()


def test_the_option_of_the_command_writes_both_directions(tmp_path):
    images = {name: write_subject(tmp_path, name, seed, **PLAIN)[0] for seed, name in enumerate(("moving", "fixed"))}
    for word, count in (("true", 4), ("false", 2)):
        out = tmp_path / word
        options = {**images, "output_dir": str(out), "inverse": word}
        with workflow(["register.yaml"], "infer", run_id="registering", properties_path=None, **options) as run:
            run.run()
        assert len([name for name in names_in(out) if "_to_" in name]) == count
        assert ("inverse" in json.loads((out / "summary.json").read_text())) is (count == 4)
