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
"""Registering files: everything lies on the fixed file's own grid, and other programs apply it as we do."""

from __future__ import annotations

import itertools
import json
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from bundle_runs import STRUCTURES, names_in
from matplotlib.image import imread
from tiny_networks import ByBrightness, FixedImage, SameShift, Waves, shipped

from scripts.joint.state import PairState
from scripts.phantom.volumes import phantom_subject
from scripts.registration.pair import load_subject, local_ncc
from scripts.registration.register_files import RegisterFiles

SIZES = {"orientation": "RAS", "pixdim": [6.0, 6.0, 6.0], "spatial_size": [24, 24, 24]}
WINDOW = {"intensity": "window", "intensity_range": [-300, 600]}
PLAIN = {"shape": (26, 24, 22), "spacing": (6, 6, 6)}
# (fixed file, moving file): shape, spacing, orientation, tilt of the scanner and place in it differ
GEOMETRIES = {
    "one grid": (PLAIN, PLAIN),
    "anisotropic": ({"shape": (30, 28, 14), "spacing": (5, 5, 10)}, {"shape": (24, 30, 36), "spacing": (6, 5, 4)}),
    "turned axes": (
        {"shape": (22, 30, 26), "spacing": (6.5, 5, 5.5), "orientation": "PIR"},
        {"shape": (28, 24, 20), "spacing": (5, 6, 7), "orientation": "LAS"},
    ),
    "oblique and apart": (
        {"shape": (25, 27, 23), "spacing": (5.5, 5.2, 6.1), "tilt": 17, "centre": (30, -12, 80)},
        {"shape": (24, 22, 30), "spacing": (6, 6.4, 4.8), "orientation": "LPS", "tilt": -11, "centre": (-45, 10, 7)},
    ),
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES)
FIELD, TRANSFORM = "moving_image_to_fixed_image_warp.nii.gz", "moving_image_to_fixed_image_transform.h5"
written_fields = pytest.mark.parametrize("name", [FIELD, TRANSFORM])


def write_subject(folder: Path, name: str, seed: int, **grid) -> tuple[str, str]:
    subject = phantom_subject(seed, **grid)
    paths = []
    for kind in ("image", "label"):
        paths.append(str(folder / f"{name}_{kind}.nii.gz"))
        nib.save(nib.Nifti1Image(getattr(subject, kind), subject.affine), paths[-1])
    return paths[0], paths[1]


def register(folder: Path, moving: str, fixed: str, networks: dict, moving_label: str | None = None, **options):
    return RegisterFiles(
        moving,
        fixed,
        str(folder),
        shipped("register.yaml", "preprocessing", **SIZES, **WINDOW),
        networks,
        partial(PairState, num_classes=len(STRUCTURES) + 1),
        {str(label_id): name for label_id, name in STRUCTURES.items()},
        moving_label=moving_label,
        **options,
    ).run()


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """``registered(geometry)``: (fixed image, moving image, moving label, folder of what was written)."""
    done = {}

    def make(geometry: str):
        if geometry not in done:
            folder = tmp_path_factory.mktemp("registered")
            fixed_grid, moving_grid = GEOMETRIES[geometry]
            fixed, _ = write_subject(folder, "fixed", 1, **fixed_grid)
            moving, label = write_subject(folder, "moving", 2, **moving_grid)
            networks = {"registration": Waves(1.5), "discriminator": FixedImage()}
            register(folder / "out", moving, fixed, networks, label, fill_value=-1024)
            done[geometry] = (fixed, moving, label, folder / "out")
        return done[geometry]

    return make


def read_by_itk(path: Path) -> sitk.Transform:
    if path.suffix == ".h5":
        return sitk.ReadTransform(str(path))
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


def by_itk(moving: sitk.Image, fixed: str, path: Path, fill: float) -> np.ndarray:
    transform = read_by_itk(path)
    return sitk.GetArrayFromImage(sitk.Resample(moving, sitk.ReadImage(fixed), transform, sitk.sitkLinear, fill))


@geometries
def test_all_volumes_lie_on_the_fixed_file(geometry, registered):
    fixed, _, _, folder = registered(geometry)
    expected = nib.load(fixed)
    volumes = ["confidence.nii.gz", "jacobian.nii.gz", "warped.nii.gz", "warped_label.nii.gz"]
    assert names_in(folder) == {*volumes, FIELD, TRANSFORM, "picture.png", "summary.json"}
    for name in volumes:
        written = nib.load(folder / name)
        assert written.shape[:3] == expected.shape
        np.testing.assert_allclose(written.get_sform(), expected.affine, atol=1e-5)
        np.testing.assert_allclose(written.get_qform(), expected.affine, atol=1e-4)


@geometries
def test_the_field_lies_on_the_voxels_of_the_networks_and_holds_the_fixed_file(geometry, registered):
    fixed, _, _, folder = registered(geometry)
    network = load_subject({"image": fixed}, shipped("register.yaml", "preprocessing", **SIZES, **WINDOW), []).network
    written, file = nib.load(folder / FIELD), nib.load(fixed)
    to_voxel = np.linalg.inv(written.affine)
    between = to_voxel @ np.asarray(network.affine)
    np.testing.assert_allclose(between[:3, :3], np.eye(3), atol=1e-5)
    np.testing.assert_allclose(between[:3, 3], between[:3, 3].round(), atol=1e-4)
    corners = np.array(list(itertools.product(*((-0.5, side - 0.5) for side in file.shape))))
    voxels = nib.affines.apply_affine(to_voxel @ file.affine, corners)
    assert (voxels > -1e-4).all() and (voxels < np.array(written.shape[:3]) - 1 + 1e-4).all()


@geometries
@written_fields
def test_simpleitk_warps_the_moving_image_alike(geometry, name, registered):
    fixed, moving, _, folder = registered(geometry)
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "warped.nii.gz")))
    theirs = by_itk(sitk.ReadImage(moving, sitk.sitkFloat32), fixed, folder / name, -1024)
    assert ours.dtype == np.int16  # as the moving file: half a unit of rounding
    # displacements in the file are rounded to a 4096th of a voxel, over which the image changes by up to 0.25
    differ = np.abs(ours - theirs) > 0.5 + (0.05 if name == TRANSFORM else 0.5)
    # on the very face of the moving volume, rounding decides who takes a point to be outside
    assert differ.mean() < 2e-3
    assert ((ours == -1024) | (theirs == -1024))[differ].all()
    assert (ours > -1000).mean() > 0.3


@geometries
@written_fields
def test_simpleitk_warps_the_moving_label_alike(geometry, name, registered):
    fixed, _, label, folder = registered(geometry)
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "warped_label.nii.gz")))
    theirs = sitk.ReadImage(label)
    shares = [
        by_itk(sitk.Cast(theirs == label_id, sitk.sitkFloat32), fixed, folder / name, 0) for label_id in STRUCTURES
    ]
    shares = np.stack([1 - sum(shares), *shares])
    strongest = np.array([0, *STRUCTURES])[shares.argmax(axis=0)]
    first, second = np.sort(shares, axis=0)[[-1, -2]]
    clear = first - second > 1e-3
    assert (ours == strongest)[clear].all() and clear.mean() > 0.98
    assert set(np.unique(ours)) == {0, *STRUCTURES}


@geometries
@written_fields
def test_the_jacobian_is_that_of_the_written_field_by_simpleitk(geometry, name, registered):
    fixed, _, _, folder = registered(geometry)
    grid, transform = sitk.ReadImage(fixed), read_by_itk(folder / name)
    field = sitk.TransformToDisplacementField(
        *(transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection())
    )
    # ITK's filter takes vectors and axes for parallel: it leaves out the direction of the grid
    direction = np.array(field.GetDirection()).reshape(3, 3)
    turned = sitk.GetImageFromArray(sitk.GetArrayFromImage(field) @ direction, isVector=True)
    turned.SetSpacing(field.GetSpacing())
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(turned))
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "jacobian.nii.gz")))
    inside = (slice(1, -1),) * 3  # at the border ITK halves the derivative
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=5e-4)
    assert np.ptp(ours) > 0.2


def colors(picture: np.ndarray) -> int:
    """How many pixels are neither grey nor nearly so."""
    return int((np.ptp(picture[..., :3], axis=-1) > 0.2).sum())


def test_the_picture_has_the_outlines_of_the_label_that_was_carried_along(registered, tmp_path):
    fixed, moving, _, folder = registered("one grid")
    register(tmp_path / "out", moving, fixed, {"registration": Waves(1.5), "discriminator": FixedImage()})
    with_label, without = (imread(path / "picture.png") for path in (folder, tmp_path / "out"))
    assert with_label.shape[0] > 300 and with_label.shape[1] > without.shape[1] + 100  # a column more
    assert colors(with_label[:, without.shape[1] :]) > 500


def test_without_a_label_the_picture_has_what_the_segmentation_network_finds(registered, tmp_path):
    fixed, moving, _, folder = registered("one grid")
    networks = {"registration": Waves(1.5), "discriminator": FixedImage()}
    register(tmp_path / "out", moving, fixed, {**networks, "segmentation": ByBrightness(len(STRUCTURES) + 1)})
    assert imread(tmp_path / "out" / "picture.png").shape == imread(folder / "picture.png").shape


def test_a_label_keeps_its_ids_as_integers(registered):
    written = nib.load(registered("oblique and apart")[3] / "warped_label.nii.gz")
    assert written.get_data_dtype() == np.int16


def test_the_confidence_of_a_voxel_is_that_of_the_network_there(tmp_path):
    # the networks' grid is the file's: nothing is resampled, and the discriminator says what the image says
    subject = phantom_subject(3, shape=(24, 24, 24), spacing=(6, 6, 6))
    image, _ = write_subject(tmp_path, "only", 3, shape=(24, 24, 24), spacing=(6, 6, 6))
    register(tmp_path / "out", image, image, {"registration": SameShift(), "discriminator": FixedImage()})
    expected = 1 / (1 + np.exp(-np.clip((subject.image + 300.0) / 900.0, 0, 1)))
    written = nib.load(tmp_path / "out" / "confidence.nii.gz").get_fdata()
    np.testing.assert_allclose(written, expected, atol=1e-5)


def test_without_a_discriminator_there_is_no_confidence_and_without_a_label_no_warped_label(tmp_path):
    image, _ = write_subject(tmp_path, "only", 3, **PLAIN)
    register(tmp_path / "out", image, image, {"registration": SameShift()})
    names = sorted(names_in(tmp_path / "out"))
    assert names == [
        "jacobian.nii.gz",
        "only_image_to_only_image_transform.h5",
        "only_image_to_only_image_warp.nii.gz",
        "picture.png",
        "summary.json",
        "warped.nii.gz",
    ]


def test_the_field_of_zeros_gives_an_image_and_its_label_back(tmp_path):
    image, label = write_subject(tmp_path, "only", 4, **GEOMETRIES["oblique and apart"][0])
    summary = register(tmp_path / "out", image, image, {"registration": SameShift()}, label)
    for original, written in ((image, "warped.nii.gz"), (label, "warped_label.nii.gz")):
        difference = nib.load(original).get_fdata() - nib.load(tmp_path / "out" / written).get_fdata()
        assert np.abs(difference).max() < 1e-2
    assert np.abs(nib.load(tmp_path / "out" / "only_image_to_only_image_warp.nii.gz").get_fdata()).max() < 1e-4
    assert summary["local_ncc_before"] == summary["local_ncc_after"] > 0.9
    np.testing.assert_allclose(nib.load(tmp_path / "out" / "jacobian.nii.gz").get_fdata(), 1, atol=1e-5)
    assert summary["folding_percent"] == summary["sdlogj"] == summary["mean_displacement_voxels"] == 0


@pytest.mark.parametrize(("axis", "lps"), [(0, (-12, 0, 0)), (1, (0, -12, 0)), (2, (0, 0, 12))])
def test_two_voxels_of_six_mm_are_twelve_mm_in_the_direction_of_the_axis(axis, lps, tmp_path):
    grid = {"shape": (22, 30, 26), "spacing": (6.5, 5, 5.5), "orientation": "PIR"}
    image, _ = write_subject(tmp_path, "only", 5, **grid)
    shift = [2.0 * (k == axis) for k in range(3)]
    summary = register(tmp_path / "out", image, image, {"registration": SameShift(shift)})
    displacement = nib.load(tmp_path / "out" / "only_image_to_only_image_warp.nii.gz").get_fdata()[:, :, :, 0]
    np.testing.assert_allclose(displacement, np.broadcast_to(lps, displacement.shape), atol=1e-4)
    assert summary["mean_displacement_voxels"] == pytest.approx(2)


def test_the_summary_holds_what_was_measured(registered):
    fixed, moving, _, folder = registered("turned axes")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["moving"], summary["fixed"]) == (moving, fixed)
    assert summary["transforms"] == [FIELD, TRANSFORM]
    assert summary["direction"] == "points from fixed to moving, images from moving to fixed"
    preprocessing = shipped("register.yaml", "preprocessing", **SIZES, **WINDOW)
    subjects = {role: load_subject({"image": summary[role]}, preprocessing, {}) for role in ("moving", "fixed")}
    outside = {role: subject.outside_crop_percent for role, subject in subjects.items()}
    assert summary["outside_crop_percent"] == outside and all(0 <= percent <= 100 for percent in outside.values())
    assert 0 < summary["local_ncc_before"] < 1 and 0 < summary["local_ncc_after"] < 1
    assert summary["folding_percent"] == 0 and 0 < summary["sdlogj"] < 1 and summary["seconds"] > 0


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii"])
def test_the_file_format_makes_no_difference(suffix, registered, tmp_path):
    fixed, moving, _, folder = registered("turned axes")
    others = []
    for path in (moving, fixed):
        others.append(str(tmp_path / f"{Path(path).name.split('.')[0]}.{suffix}"))
        sitk.WriteImage(sitk.ReadImage(path), others[-1])
    register(tmp_path / "out", *others, {"registration": Waves(1.5)}, fill_value=-1024)
    expected = nib.load(folder / "warped.nii.gz").get_fdata()
    written = nib.load(tmp_path / "out" / "warped.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(fixed).affine, atol=1e-3)
    assert (np.abs(written.get_fdata() - expected) > 0.5).mean() < 2e-3


def test_local_ncc_is_higher_the_more_alike_images_are():
    generator = torch.Generator().manual_seed(0)
    image, noise = (torch.rand(1, 1, 16, 16, 16, generator=generator) for _ in range(2))
    values = [local_ncc(image + amount * noise, image) for amount in (0.0, 0.5, 1.0, 4.0)]
    assert values[0] > 0.99 and values == sorted(values, reverse=True)


@pytest.mark.parametrize("missing", ["moving", "fixed"])
def test_a_command_without_one_of_the_two_images_says_which(missing, tmp_path):
    image, _ = write_subject(tmp_path, "only", 6, **PLAIN)
    paths = {"moving": image, "fixed": image} | {missing: None}
    with pytest.raises(ValueError, match=f"--{missing} is missing"):
        register(tmp_path / "out", **paths, networks={"registration": SameShift()})


@pytest.mark.parametrize("missing", ["moving", "fixed", "moving_label"])
def test_a_file_that_is_not_there_is_named_before_anything_is_written(missing, tmp_path):
    image, label = write_subject(tmp_path, "only", 6, **PLAIN)
    paths = {"moving": image, "fixed": image, "moving_label": label} | {missing: "/nowhere/x.nii.gz"}
    with pytest.raises(FileNotFoundError, match=f"--{missing} '/nowhere/x.nii.gz'"):
        register(tmp_path / "out", **paths, networks={"registration": SameShift()})
    assert not (tmp_path / "out").exists()


def test_a_label_on_another_grid_than_its_image_is_refused(tmp_path):
    image, _ = write_subject(tmp_path, "image", 6, **PLAIN)
    _, label = write_subject(tmp_path, "label", 6, shape=(20, 24, 22), spacing=(6, 6, 6))
    with pytest.raises(ValueError, match=r"share a grid.\n  shape    image \(26, 24, 22\)  label \(20, 24, 22\)"):
        register(tmp_path / "out", image, image, {"registration": SameShift()}, label)


def test_a_label_with_an_unknown_id_is_refused(tmp_path):
    image, label = write_subject(tmp_path, "only", 6, **PLAIN)
    array = np.asarray(nib.load(label).dataobj).copy()
    array[0, 0, 0] = 421
    nib.save(nib.Nifti1Image(array, nib.load(label).affine), label)
    with pytest.raises(ValueError, match=r"421 \(1 voxel\)"):
        register(tmp_path / "out", image, image, {"registration": SameShift()}, label)


# ---- files that cannot be registered, and a folder that has a result already


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def spoil(path: str, how: str) -> None:
    """Make a good file a bad one."""
    image = nib.load(path)
    array = image.get_fdata()
    if how == "truncated":
        Path(path).write_bytes(Path(path).read_bytes()[:2000])
        return
    if how == "nan":
        array[3, 4, 5] = np.nan
    changed = {"series": np.stack([array, array], axis=-1), "flat": array[..., 0], "complex": array + 1j}
    nib.save(nib.Nifti1Image(changed.get(how, array), image.affine), path)


@pytest.mark.parametrize("how", ["nan", "series", "flat", "complex", "truncated"])
@pytest.mark.parametrize("role", ["moving", "fixed"])
def test_a_bad_image_is_refused_and_leaves_the_earlier_result_whole(role, how, tmp_path):
    images = {name: write_subject(tmp_path, name, 6, **PLAIN)[0] for name in ("moving", "fixed")}
    register(tmp_path / "out", **images, networks={"registration": SameShift()})
    before = contents(tmp_path / "out")
    spoil(images[role], how)
    with pytest.raises(ValueError, match=f"^--{role} '{images[role]}': the image "):
        register(tmp_path / "out", **images, networks={"registration": Waves()})
    assert contents(tmp_path / "out") == before


def test_a_label_that_is_a_series_is_refused(tmp_path):
    image, label = write_subject(tmp_path, "only", 6, **PLAIN)
    spoil(label, "series")
    with pytest.raises(ValueError, match=f"^--moving_label '{label}': the label is not one 3D volume"):
        register(tmp_path / "out", image, image, {"registration": SameShift()}, label)


def test_a_result_leaves_nothing_of_an_earlier_one_of_another_pair(tmp_path):
    a, label = write_subject(tmp_path, "a", 6, **PLAIN)
    b, _ = write_subject(tmp_path, "b", 7, **PLAIN)
    out = tmp_path / "out"
    register(out, a, b, {"registration": Waves(), "discriminator": FixedImage()}, label)
    assert {"warped_label.nii.gz", "confidence.nii.gz"} <= contents(out).keys()
    (out / "notes.txt").write_text("of the user")
    (out / "x_to_y_transform.h5").write_bytes(b"of the user")
    register(out, b, a, {"registration": Waves()})
    pairs = ("a_image_to_b_image", "b_image_to_a_image")
    field = {f"{pair}_{end}" for pair in pairs for end in ("warp.nii.gz", "transform.h5")}  # of each pair, by name
    results = {"warped.nii.gz", "jacobian.nii.gz", "picture.png", "summary.json"}
    assert contents(out).keys() == field | results | {"notes.txt", "x_to_y_transform.h5"}


class NoConfidence(torch.nn.Module):
    """A discriminator that fails when it is asked, which is after the first files are written."""

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")


def test_a_failure_amid_the_writing_leaves_the_earlier_result_whole(tmp_path):
    image, label = write_subject(tmp_path, "only", 6, **PLAIN)
    register(tmp_path / "out", image, image, {"registration": SameShift()}, label)
    before = contents(tmp_path / "out")
    with pytest.raises(RuntimeError, match="out of memory"):
        register(tmp_path / "out", image, image, {"registration": Waves(), "discriminator": NoConfidence()})
    assert contents(tmp_path / "out") == before


def test_a_fill_value_that_is_a_word_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="--fill_value 'air': expected a number"):
        register(tmp_path / "out", "none", "none", {"registration": SameShift()}, fill_value="air")


# ---- what the networks could not use, and what they made worse


def test_an_image_that_preprocessing_cannot_scale_is_refused_with_its_case_and_the_remedy(tmp_path):
    images = {name: write_subject(tmp_path, name, 6, **PLAIN)[0] for name in ("moving", "fixed")}
    sparse = np.zeros(PLAIN["shape"], np.float32)
    sparse[12:15, 12:15, 10:13] = 500
    nib.save(nib.Nifti1Image(sparse, nib.load(images["fixed"]).affine), images["fixed"])
    percentiles = {"intensity": "percentiles", "intensity_range": [1, 99]}
    prepare = shipped("register.yaml", "preprocessing", **SIZES, **percentiles)
    state = partial(PairState, num_classes=2)
    registering = RegisterFiles(
        **images,
        output_dir=str(tmp_path / "out"),
        preprocessing=prepare,
        networks={"registration": SameShift()},
        state=state,
        labels={"1": "a"},
    )
    told = rf"^case 'fixed_image' \({images['fixed']}\): after preprocessing its values lie in \[0, .*(?s:.*)wider"
    with pytest.raises(ValueError, match=told):
        registering.run()
    assert not (tmp_path / "out").exists()


def test_a_registration_that_makes_the_images_less_alike_is_warned_of(tmp_path, caplog):
    image, _ = write_subject(tmp_path, "only", 3, **PLAIN)
    summary = register(tmp_path / "out", image, image, {"registration": SameShift([2.0, 0.0, 0.0])})
    assert summary["local_ncc_after"] < summary["local_ncc_before"] and summary["similarity_worse"] is True
    (told,) = json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    before, after = (f"{summary[f'local_ncc_{when}']:.3f}" for when in ("before", "after"))
    assert f"less alike than they were: only_image to only_image (local NCC {before} -> {after})" in told
    assert told in [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_registration_that_changes_nothing_is_not_warned_of(tmp_path, caplog):
    image, _ = write_subject(tmp_path, "only", 3, **PLAIN)
    summary = register(tmp_path / "out", image, image, {"registration": SameShift()})
    assert summary["similarity_worse"] is False and summary["warnings"] == []
    assert "less alike" not in caplog.text


def test_the_picture_is_radiological_and_by_an_option_its_mirror_image(tmp_path):
    image, _ = write_subject(tmp_path, "only", 3, **GEOMETRIES["turned axes"][0])
    panels = {}
    for view in (None, "radiological", "neurological"):
        register(tmp_path / "out", image, image, {"registration": SameShift()}, **({"view": view} if view else {}))
        picture = imread(tmp_path / "out" / "picture.png")[..., 0]
        panels[view] = picture[60:220, 30:240]  # the moving image, axial, between its letters
    np.testing.assert_array_equal(panels[None], panels["radiological"])
    apart = [np.abs(panels["neurological"] - other).mean() for other in (panels[None], panels[None][:, ::-1])]
    assert apart[1] < 0.3 * apart[0]
