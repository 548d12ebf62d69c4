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
"""What other people's programs make of our fields: ITK and ANTs, each in a process of its own.

ANTs lives in the environment that `make classical-env` makes. SimpleITK has its say in the everyday tests.
"""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import pytest
import torch
from bundle_runs import ROOT
from geometries import FILE, FIXED, GEOMETRIES, MOVING, affine, away_from_faces, generator, noise, smooth_field
from test_apply import volume
from test_transform_files import points_in_the_file

from scripts.alignment.affine import write_itk_transform
from scripts.fields.grids import ras_to_lps
from scripts.fields.maps import covering_grid, displacement_on_grid, map_of_field, points_on_grid
from scripts.fields.points import PointSet, read_points, write_points
from scripts.fields.transform_files import read_transform, write_chain, write_displacement
from scripts.fields.transforms import AffineTransform, Chain
from scripts.fields.world import sample_at
from scripts.phantom.volumes import phantom_subject
from scripts.registration.apply import ApplyTransform

pytestmark = pytest.mark.slow

CLASSICAL = ROOT / ".venv-classical" / "bin" / "python"
needs_classical = pytest.mark.skipif(not CLASSICAL.is_file(), reason="no .venv-classical: run `make classical-env`")
BY_ITK = """
import itk, json
transform = itk.transformread("t.h5")[0]
interpolators = {"image": itk.LinearInterpolateImageFunction, "label": itk.NearestNeighborInterpolateImageFunction}
fixed = itk.imread("fixed.nii.gz", itk.F)
for name, kind in interpolators.items():
    moving = itk.imread(f"{name}.nii.gz", itk.F)
    warped = itk.resample_image_filter(
        moving, transform=transform, use_reference_image=True, reference_image=fixed,
        interpolator=kind[itk.Image[itk.F, 3], itk.D].New(),
    )
    itk.imwrite(warped, f"h5_{name}.nii.gz")
    field = itk.imread("warp.nii.gz", itk.Vector[itk.F, 3])
    warper = itk.WarpImageFilter[type(moving), type(moving), type(field)].New(moving, displacement_field=field)
    warper.SetOutputParametersFromImage(fixed)
    warper.SetInterpolator(kind[type(moving), itk.D].New())
    warper.Update()
    itk.imwrite(warper.GetOutput(), f"nii_{name}.nii.gz")
points = json.load(open("points.json"))
json.dump([list(transform.TransformPoint(point)) for point in points], open("h5_points.json", "w"))
"""
BY_ANTS = """
import ants, json, pandas
fixed, points = ants.image_read("fixed.nii.gz"), json.load(open("points.json"))
for kind, path in (("nii", "warp.nii.gz"), ("h5", "t.h5")):
    for name, interpolator in (("image", "linear"), ("label", "nearestNeighbor")):
        moving = ants.image_read(f"{name}.nii.gz")
        warped = ants.apply_transforms(fixed, moving, [path], interpolator=interpolator)
        ants.image_write(warped, f"{kind}_{name}.nii.gz")
    table = pandas.DataFrame(points, columns=["x", "y", "z"])
    moved = ants.apply_transforms_to_points(3, table, [path])
    json.dump(moved[["x", "y", "z"]].values.tolist(), open(f"{kind}_points.json", "w"))
"""

ANTS_REGISTERS = """
import ants, json, pandas
fixed, moving = ants.image_read("fixed.nii.gz"), ants.image_read("moving.nii.gz")
found = ants.registration(fixed, moving, "SyN", outprefix="ants_", reg_iterations=(20, 10, 0), random_seed=1)
ants.image_write(ants.apply_transforms(fixed, moving, found["fwdtransforms"]), "by_ants.nii.gz")
table = pandas.DataFrame(json.load(open("points.json")), columns=["x", "y", "z"])
points = ants.apply_transforms_to_points(3, table, found["fwdtransforms"])
json.dump(points[["x", "y", "z"]].values.tolist(), open("ants_points.json", "w"))
json.dump(found["fwdtransforms"], open("chain.json", "w"))
"""


def run_program(python, program, folder, *arguments):
    done = subprocess.run(
        [str(python), "-c", program, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def pair(folder, affines):
    """An image of noise, a label, points and both files of a map; what our warp makes of them."""
    fixed, moving, grid = affines
    label = torch.randint(0, 5, (1, *MOVING), generator=generator()).short()
    volume(folder / "fixed.nii.gz", torch.zeros(FILE), grid)
    volume(folder / "image.nii.gz", noise()[0].float(), moving)
    volume(folder / "label.nii.gz", label[0], moving)
    transform = map_of_field(smooth_field(), fixed, moving)
    cover = covering_grid(fixed, FIXED, grid, FILE)
    write_displacement(folder / "warp.nii.gz", displacement_on_grid(transform, *cover), cover[0])
    write_chain(folder / "t.h5", transform.steps)
    points = points_in_the_file(grid)
    (folder / "points.json").write_text(json.dumps(ras_to_lps(points).tolist()))
    there = points_on_grid(transform, grid, FILE)
    warped = {"image": sample_at(noise(), moving, there)[0], "label": sample_at(label, moving, there, "nearest")[0]}
    comparable = away_from_faces(there, moving) & (sample_at(torch.ones(1, *MOVING), moving, there)[0] > 0.5)
    return warped, comparable, Chain(read_transform(folder / "t.h5"))(points)


def compare(folder, kind, warped, comparable):
    assert comparable.float().mean() > 0.2
    image, label = (torch.from_numpy(nib.load(folder / f"{kind}_{name}.nii.gz").get_fdata()) for name in warped)
    assert (image - warped["image"])[comparable].abs().max() < 5e-3  # noise of SD 50 in float32 files
    assert (label == warped["label"])[comparable].float().mean() > 0.999  # but for voxels half way between two


def moved(folder, kind):
    return ras_to_lps(torch.tensor(json.loads((folder / f"{kind}_points.json").read_text()), dtype=torch.float64))


@GEOMETRIES
def test_itk_applies_our_fields_as_we_do(affines, tmp_path):
    warped, comparable, points = pair(tmp_path, affines)
    run_program(sys.executable, BY_ITK, tmp_path)
    for kind in ("h5", "nii"):
        compare(tmp_path, kind, warped, comparable)
    torch.testing.assert_close(moved(tmp_path, "h5"), points, atol=1e-4, rtol=0)


@needs_classical
@GEOMETRIES
def test_ants_applies_our_fields_as_we_do(affines, tmp_path):
    warped, comparable, points = pair(tmp_path, affines)
    run_program(CLASSICAL, BY_ANTS, tmp_path)
    for kind in ("h5", "nii"):
        compare(tmp_path, kind, warped, comparable)
        torch.testing.assert_close(moved(tmp_path, kind), points, atol=1e-3, rtol=0)


def test_the_affine_that_preparing_writes_is_read_as_it_was(tmp_path):
    matrix = affine((1.1, 0.9, 1.2), (10, -20, 30), (4, 5, 6))
    write_itk_transform(tmp_path / "case.tfm", matrix.numpy())
    (read,) = read_transform(tmp_path / "case.tfm")
    torch.testing.assert_close(read.matrix, matrix, atol=1e-9, rtol=0)


@needs_classical
def test_we_apply_the_chain_of_ants_as_ants_does(tmp_path):
    fixed, moving = ({"shape": (30, 28, 26), "spacing": (5, 5, 6), "tilt": tilt} for tilt in (8, -5))
    for name, seed, grid in (("fixed", 1, fixed), ("moving", 2, moving)):
        subject = phantom_subject(seed, **grid)
        nib.save(nib.Nifti1Image(subject.image.astype("float32"), subject.affine), tmp_path / f"{name}.nii.gz")
    points = AffineTransform(subject.affine)(10 + 8 * torch.rand(30, 3, generator=generator(), dtype=torch.float64))
    (tmp_path / "points.json").write_text(json.dumps(ras_to_lps(points).tolist()))
    write_points(tmp_path / "points.csv", PointSet(points.numpy(), ("",) * 30, "RAS"))
    run_program(CLASSICAL, ANTS_REGISTERS, tmp_path)
    chain = [str(tmp_path / name) for name in json.loads((tmp_path / "chain.json").read_text())]
    assert [name.split("_")[-1] for name in chain] == ["1Warp.nii.gz", "0GenericAffine.mat"]
    files = {"reference": tmp_path / "fixed.nii.gz", "image": tmp_path / "moving.nii.gz"}
    ApplyTransform(chain, tmp_path / "out", points=tmp_path / "points.csv", coordinates="RAS", **files).run()
    ours, theirs = (nib.load(tmp_path / name).get_fdata() for name in ("out/moving_warped.nii.gz", "by_ants.nii.gz"))
    # outside the moving image ours is 0, and a voxel of a face may be on either side
    assert (abs(ours - theirs) < 0.1).mean() > 0.995 and ours.std() > 100
    by_us = torch.from_numpy(read_points(tmp_path / "out" / "points_transformed.csv", "RAS"))
    torch.testing.assert_close(by_us, moved(tmp_path, "ants"), atol=1e-3, rtol=0)
    assert (by_us - points).norm(dim=-1).max() > 1
