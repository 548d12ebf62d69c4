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
"""Applying saved transforms to files: images, label maps and points, chains, and the way back."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bundle_runs import succeed
from geometries import FILE, MOVING, OBLIQUE, generator, itk_image, noise, smooth_field

from scripts.fields.points import PointSet, read_points, write_points
from scripts.fields.transform_files import read_transform, write_displacement, write_field_transform
from scripts.fields.transforms import AffineTransform, Chain
from scripts.fields.world import displacement_lps, moving_points, sample_at, sample_label_at
from scripts.registration.apply import ApplyTransform

AFFINE = sitk.AffineTransform((1.02, 0.03, 0.0, -0.04, 0.98, 0.02, 0.0, 0.01, 1.01), (0.6, -0.4, 0.5))


def volume(path, array, matrix):
    nib.save(nib.Nifti1Image(array.numpy(), matrix.numpy()), path)
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A folder with an oblique pair on different grids: fixed, moving, label of moving, field in both forms, affine."""
    folder = tmp_path_factory.mktemp("pair")
    fixed, moving, grid = OBLIQUE
    shape = (torch.tensor(MOVING) // 3).tolist()
    blocks = torch.randint(0, 4, shape, generator=generator()).repeat_interleave(3, 0).repeat_interleave(3, 1)
    ids = torch.tensor([0, 205, 500, 850], dtype=torch.int16)[blocks.repeat_interleave(3, 2)]
    volume(folder / "fixed.nii.gz", torch.zeros(FILE), grid)
    volume(folder / "moving.nii.gz", noise()[0].float(), moving)
    volume(folder / "moving_label.nii.gz", ids, moving)
    displacement = displacement_lps(0.5 * smooth_field(), fixed, moving, grid, FILE)
    write_displacement(folder / "warp.nii.gz", displacement, grid)
    write_field_transform(folder / "transform.h5", displacement, grid)
    sitk.WriteTransform(AFFINE, str(folder / "affine.tfm"))
    (folder / "truncated.nii.gz").write_bytes((folder / "moving.nii.gz").read_bytes()[:2000])
    volume(folder / "nan.nii.gz", noise()[0].float().index_fill(0, torch.tensor(3), torch.nan), moving)
    write_points(folder / "fixed.csv", PointSet(points_of(grid), tuple("abcdef"), "LPS"))
    return folder


def points_of(grid):
    voxels = 8 + torch.rand(6, 3, generator=generator(), dtype=torch.float64) * (torch.tensor(FILE) - 16)
    return AffineTransform(grid)(voxels).numpy()


def apply(folder, out, transform="transform.h5", **options):
    entries = transform if isinstance(transform, list) else [transform]
    paths = [{"inverse": str(folder / e["inverse"])} if isinstance(e, dict) else str(folder / e) for e in entries]
    files = {"reference": folder / "fixed.nii.gz", "image": folder / "moving.nii.gz"} | options
    return ApplyTransform(paths if isinstance(transform, list) else paths[0], out, **files).run()


def written(path):
    return torch.from_numpy(nib.load(path).get_fdata(dtype=np.float32))


def inside(there):
    """Which points lie in the moving image, up to its faces."""
    return sample_at(torch.ones(1, *MOVING), OBLIQUE[1], there)[0] > 0.5


@pytest.mark.parametrize("transform", ["transform.h5", "warp.nii.gz"])
def test_an_image_comes_as_in_registration(transform, pair, tmp_path):
    apply(pair, tmp_path, transform)
    there = moving_points(0.5 * smooth_field(), OBLIQUE[0], OBLIQUE[1], OBLIQUE[2], FILE)
    expected = sample_at(noise().float(), OBLIQUE[1], there)[0]
    differ = (written(tmp_path / "moving_warped.nii.gz") - expected).abs() > 0.01
    assert differ.float().mean() < 1e-3 and (expected != 0).float().mean() > 0.3
    np.testing.assert_allclose(nib.load(tmp_path / "moving_warped.nii.gz").affine, OBLIQUE[2], atol=1e-5)


def test_a_label_keeps_its_ids_and_is_not_blended(pair, tmp_path):
    apply(pair, tmp_path, image=None, label=pair / "moving_label.nii.gz")
    file = nib.load(tmp_path / "moving_label_warped_label.nii.gz")
    label = torch.from_numpy(np.asarray(nib.load(pair / "moving_label.nii.gz").dataobj))[None]
    there = moving_points(0.5 * smooth_field(), OBLIQUE[0], OBLIQUE[1], OBLIQUE[2], FILE)
    expected = sample_label_at(label, OBLIQUE[1], there)[0].numpy()
    assert file.get_data_dtype() == np.int16 and set(np.unique(file.dataobj)) == {0, 205, 500, 850}
    assert (np.asarray(file.dataobj) == expected).mean() > 0.999


def test_a_label_map_given_as_an_image_is_refused_and_an_image_of_whole_numbers_is_not(pair, tmp_path):
    with pytest.raises(ValueError, match=f"--image '{pair / 'moving_label.nii.gz'}' looks like a label map.*--label"):
        apply(pair, tmp_path / "labels", image=pair / "moving_label.nii.gz")
    assert not (tmp_path / "labels").exists()
    numbers = (1000 * noise()[0]).to(torch.int16)  # as CT has it
    apply(pair, tmp_path / "images", image=volume(tmp_path / "ct.nii.gz", numbers, OBLIQUE[1]))
    assert (tmp_path / "images" / "ct_warped.nii.gz").exists()


@pytest.mark.parametrize("order", ["field first", "affine first"])
def test_a_chain_interpolates_once_and_in_the_order_of_itk(order, pair, tmp_path):
    names = ["transform.h5", "affine.tfm"][:: 1 if order == "field first" else -1]
    apply(pair, tmp_path, names, points=pair / "fixed.csv", coordinates="LPS")
    parts = [sitk.ReadTransform(str(pair / name)) for name in names]
    composite = sitk.CompositeTransform(parts[::-1])  # ITK takes a point through the last one first
    reference, moving = itk_image(torch.zeros(FILE).double(), OBLIQUE[2]), itk_image(noise()[0], OBLIQUE[1])
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, reference, composite, sitk.sitkLinear, 0.0)).transpose(
        2, 1, 0
    )
    there, outside = Chain([step for name in names for step in read_transform(pair / name)]).trace(
        AffineTransform(OBLIQUE[2])(torch.cartesian_prod(*(torch.arange(n).double() for n in FILE)))
    )
    comparable = inside(there).reshape(FILE) & ~outside.reshape(FILE)
    differ = (written(tmp_path / "moving_warped.nii.gz") - theirs).abs() > 0.02
    assert comparable.float().mean() > 0.3 and differ[comparable].float().mean() < 2e-3
    lps = points_of(OBLIQUE[2]) * [-1, -1, 1]
    expected = np.array([composite.TransformPoint(point) for point in lps.tolist()]) * [-1, -1, 1]
    moved = read_points(tmp_path / "fixed_transformed.csv", "LPS")
    np.testing.assert_allclose(moved, expected, atol=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".fcsv", ".mrk.json"])
@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_points_keep_their_format_names_and_coordinates(suffix, system, pair, tmp_path):
    points = PointSet(points_of(OBLIQUE[2]), tuple("abcdef"), system)
    write_points(tmp_path / f"marks{suffix}", points)
    apply(pair, tmp_path, reference=None, image=None, points=tmp_path / f"marks{suffix}", coordinates=system)
    transform = sitk.ReadTransform(str(pair / "transform.h5"))
    lps = (points.positions * [-1, -1, 1]).tolist()
    expected = np.array([transform.TransformPoint(point) for point in lps]) * [-1, -1, 1]
    result = tmp_path / f"marks_transformed{suffix}"
    np.testing.assert_allclose(read_points(result, system), expected, atol=1e-4)
    assert all(name in result.read_text() for name in "abcdef")


def test_the_inverse_takes_points_and_images_back_and_reports_what_is_left(pair, tmp_path):
    apply(pair, tmp_path / "there", reference=None, image=None, points=pair / "fixed.csv", coordinates="LPS")
    there = tmp_path / "there" / "fixed_transformed.csv"
    summary = apply(
        pair,
        tmp_path / "back",
        inverse=True,
        reference=pair / "moving.nii.gz",
        image=pair / "fixed.nii.gz",
        points=there,
        coordinates="LPS",
    )
    back = read_points(tmp_path / "back" / "fixed_transformed_transformed.csv", "LPS")
    np.testing.assert_allclose(back, points_of(OBLIQUE[2]), atol=1e-3)
    assert nib.load(tmp_path / "back" / "fixed_warped.nii.gz").shape == MOVING
    (report,) = summary["inverses_of_fields"]
    assert 0 < report["residual_mm"] < 1e-3 and report["field"] == "transform.h5"
    assert report["percent_without_inverse"] == report["folding_percent"] == 0
    assert json.loads((tmp_path / "back" / "summary.json").read_text()) == summary


def test_one_entry_of_a_chain_can_be_inverted(pair, tmp_path):
    chain = ["affine.tfm", {"inverse": "affine.tfm"}]
    apply(pair, tmp_path, chain, reference=None, image=None, points=pair / "fixed.csv", coordinates="LPS")
    moved = read_points(tmp_path / "fixed_transformed.csv", "LPS")
    np.testing.assert_allclose(moved, points_of(OBLIQUE[2]), atol=1e-9)


@pytest.mark.parametrize("name", ["combined.h5", "combined.nii.gz"])
def test_the_combined_transform_does_what_the_chain_does(name, pair, tmp_path):
    options = {"reference": pair / "fixed.nii.gz", "image": None, "points": pair / "fixed.csv", "coordinates": "LPS"}
    apply(pair, tmp_path / "a", ["transform.h5", "affine.tfm"], combined=tmp_path / name, **options)
    apply(tmp_path, tmp_path / "b", name, **options)
    one, other = (read_points(tmp_path / out / "fixed_transformed.csv", "LPS") for out in "ab")
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert np.linalg.norm(one - points_of(OBLIQUE[2]), axis=1).min() > 0.5


def test_the_combined_inverse_is_one_field(pair, tmp_path):
    options = {"inverse": True, "image": None}
    apply(pair, tmp_path, reference=pair / "moving.nii.gz", combined=tmp_path / "inverse.nii.gz", **options)
    (field,) = read_transform(tmp_path / "inverse.nii.gz")
    points = torch.from_numpy(points_of(OBLIQUE[2]))
    there = Chain(read_transform(pair / "transform.h5"))(points)
    assert (field(there) - points).norm(dim=-1).max() < 0.05  # mm; the inverse is interpolated
    with pytest.raises(ValueError, match=r"Name a \.nii\.gz"):
        apply(pair, tmp_path / "none", reference=None, combined=tmp_path / "inverse.h5", **options)
    assert not (tmp_path / "none").exists()


def test_points_outside_the_field_are_counted_in_a_warning(pair, tmp_path, caplog):
    write_points(tmp_path / "far.csv", PointSet(np.array([[900.0, 0, 0], points_of(OBLIQUE[2])[0]]), ("a", "b"), "RAS"))
    apply(pair, tmp_path, reference=None, image=None, points=tmp_path / "far.csv", coordinates="RAS")
    assert "1 of 2 points lie outside the grid of a field" in caplog.text


def test_outside_the_moving_image_is_the_fill_value(pair, tmp_path):
    apply(pair, tmp_path, fill_value=-1024)
    values = written(tmp_path / "moving_warped.nii.gz")
    there = moving_points(0.5 * smooth_field(), *OBLIQUE, FILE)
    assert (values[~inside(there)] == -1024).float().mean() > 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": []}, "--transform is missing"),
        ({"image": None}, "nothing to apply"),
        ({"reference": None}, "--reference is missing"),
        ({"combined": "chain.txt"}, r"--combined 'chain\.txt': expected"),
        ({"image": ["moving.nii.gz", "moving.nii.gz"]}, "two files would be written as"),
        ({"label": "moving.nii.gz", "image": None}, "numbers with fractions, so it is no label map"),
        ({"image": "warp.nii.gz"}, "not one 3D volume"),
        ({"transform": [{"inverted": "a"}]}, r"found \{'inverted': 'a'\}"),
        ({"points": "fixed.csv"}, "does not say whether its points are LPS or RAS"),
        ({"fill_value": "air"}, "--fill_value 'air': expected a number"),
        ({"image": "nan.nii.gz"}, r"^--image 'nan\.nii\.gz': the image holds .* not finite .* Replace them"),
        ({"image": "truncated.nii.gz"}, r"^--image 'truncated\.nii\.gz': the image cannot be read"),
        ({"label": "truncated.nii.gz"}, r"^--label 'truncated\.nii\.gz': the label cannot be read"),
        ({"label": "moving.nii.gz", "combined": "whole.nii.gz"}, "numbers with fractions, so it is no label map"),
    ],
)
def test_a_command_that_cannot_work_says_why(options, message, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(pair)
    arguments = {"transform": "transform.h5", "reference": "fixed.nii.gz", "image": "moving.nii.gz"} | options
    with pytest.raises(ValueError, match=message):
        ApplyTransform(output_dir=tmp_path / "out", **arguments).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["transform.h5", "./../{folder}/transform.h5", "warp.nii.gz", "fixed.nii.gz"])
def test_the_whole_chain_does_not_replace_a_file_that_is_read(where, pair, tmp_path, monkeypatch):
    folder = shutil.copytree(pair, tmp_path / "pair")
    monkeypatch.chdir(folder)
    target, chain = where.format(folder=folder.name), ["transform.h5", {"inverse": "warp.nii.gz"}]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="would be written, and is one of the files that are read. .* `--combined`"):
        ApplyTransform(chain, "out", reference="fixed.nii.gz", image="moving.nii.gz", combined=target).run()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_no_result_replaces_an_image_that_is_read(pair, tmp_path):
    images = [shutil.copy(pair / "moving.nii.gz", tmp_path / f"{name}.nii.gz") for name in ("a", "a_warped")]
    with pytest.raises(ValueError, match="a_warped.nii.gz' would be written, and is .* `--output_dir`"):
        apply(pair, tmp_path, image=images)


@pytest.mark.parametrize("missing", ["reference", "image", "label", "points"])
def test_a_missing_file_is_named_before_anything_is_written(missing, pair, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no such file: --{missing} 'none\.csv'"):
        apply(pair, tmp_path / "out", **{missing: "none.csv"})
    assert not (tmp_path / "out").exists()


def test_the_command_applies_a_chain_and_its_inverse(pair, tmp_path):
    chain = str([str(pair / "transform.h5"), str(pair / "affine.tfm")]).replace(" ", "")
    options = {"transform": chain, "coordinates": "LPS", "output_dir": tmp_path}
    succeed("applying", ["configs/apply.yaml"], points=pair / "fixed.csv", **options)
    moved = tmp_path / "fixed_transformed.csv"
    forward = moved.read_text()
    said = succeed("applying", ["configs/apply.yaml"], points=moved, inverse=True, **options)
    back = read_points(tmp_path / "fixed_transformed_transformed.csv", "LPS")
    np.testing.assert_allclose(back, points_of(OBLIQUE[2]), atol=1e-3)
    assert "inverse of transform.h5: largest residual 0.000" in said
    succeed("applying", ["configs/apply.yaml"], points=pair / "fixed.csv", inverse="false", **options)  # a word
    assert moved.read_text() == forward


def test_a_transform_that_leads_out_of_the_image_is_warned_of(pair, tmp_path, caplog):
    sitk.WriteTransform(sitk.TranslationTransform(3, (500.0, 0.0, 0.0)), str(tmp_path / "far.tfm"))
    ApplyTransform(tmp_path / "far.tfm", tmp_path / "out", pair / "fixed.nii.gz", image=pair / "moving.nii.gz").run()
    assert "100 % of the result lies outside of this file" in caplog.text
    caplog.clear()
    apply(pair, tmp_path)
    assert "outside of this file" not in caplog.text


def test_points_that_were_not_placed_are_counted_in_the_summary(tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), str(tmp_path / "t.tfm"))
    (tmp_path / "p.csv").write_text("label,l,p,s,defined\na,1,2,3,1\nb,0,0,0,0\n")
    summary = ApplyTransform(tmp_path / "t.tfm", tmp_path / "out", points=tmp_path / "p.csv").run()
    assert summary["points_not_placed"] == {str(tmp_path / "p.csv"): ["b"]}
    text = (tmp_path / "out/p_transformed.csv").read_text()
    assert text == "label,l,p,s,defined\na,2.0,4.0,6.0,1\nb,0,0,0,0\n"
