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

"""From Python: arrays in and out, the numbers that the commands write, and nothing done to the user's process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from bundle_runs import CONFIGS, ROOT, workflow
from document_blocks import blocks
from monai.bundle import ConfigParser
from monai.data import MetaTensor

import deeprs
from scripts.fields.grids import voxel_points
from scripts.fields.transform_files import read_transform
from scripts.fields.transforms import Chain
from scripts.networks.weights import FILES
from scripts.phantom.volumes import phantom_subject
from scripts.training.model_record import read_model

GRIDS = {
    "moving": {"shape": (38, 50, 33), "spacing": (2.1, 1.8, 2.4), "orientation": "LAS", "tilt": -11},
    "fixed": {"shape": (42, 36, 47), "spacing": (3, 3.3, 2.8), "orientation": "PIR", "tilt": 17, "centre": (30, -9, 8)},
}
WAYS = {
    "path": str,
    "nibabel": nib.load,
    "volume": lambda path: deeprs.Volume(np.asarray(nib.load(path).dataobj), nib.load(path).affine),
    "metatensor": lambda path: MetaTensor(
        torch.from_numpy(np.array(nib.load(path).dataobj))[None], affine=torch.tensor(nib.load(path).affine)
    ),
}
as_given = pytest.mark.parametrize("given", WAYS.values(), ids=WAYS)
OPTIONS = {"refine": 2, "fill_value": -5.0}
VOXELWISE = ("warped", "warped_label", "jacobian", "confidence")


def write_images(folder: Path) -> dict[str, Path]:
    """A pair on two grids, and a label of the moving image with the ids of the weights that come with DeepRS."""
    files = {name: folder / f"{name}.nii.gz" for name in (*GRIDS, "moving_label")}
    for seed, (name, grid) in enumerate(GRIDS.items()):
        subject = phantom_subject(seed, **grid)
        nib.save(nib.Nifti1Image(subject.image, subject.affine), files[name])
        if name == "moving":
            label = ((subject.label == 205) + 2 * (subject.label == 500)).astype(np.uint8)
            nib.save(nib.Nifti1Image(label, subject.affine), files["moving_label"])
    return files


def registering(files: dict[str, Path], out: Path, *models: Path, **entries) -> Path:
    configs = ["register.yaml", *map(str, models)]
    paths = {name: str(path) for name, path in files.items()} | {"output_dir": str(out)}
    with workflow(configs, "infer", run_id="registering", properties_path=None, **paths, **entries) as run:
        run.run()
    return out


def inferring(image: Path, out: Path, *models: Path) -> Path:
    configs = ["inference.yaml", *map(str, models)]
    with workflow(configs, "infer", dataset_dir=str(image), output_dir=str(out)) as run:
        run.run()
    return out / f"{image.name.removesuffix('.nii.gz')}_seg.nii.gz"


def same(volume: deeprs.Volume, path: Path) -> bool:
    """Whether a volume holds the numbers of a file, to the bit, in its type, and lies where it lies."""
    file = nib.load(path)
    np.testing.assert_allclose(volume.affine, file.affine, atol=1e-5)
    array = np.asarray(file.dataobj).reshape(volume.array.shape)
    return volume.array.dtype == array.dtype and np.array_equal(volume.array, array)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    """The folder that `registering` wrote of them."""
    return registering(files, tmp_path_factory.mktemp("registered"), **OPTIONS)


@pytest.fixture(scope="module")
def pair(files):
    return deeprs.register(files["moving"], files["fixed"], moving_label=files["moving_label"], **OPTIONS)


# ---- the numbers of the commands


@as_given
def test_registering_gives_to_the_bit_what_the_command_writes(given, files, written):
    images = {name: given(str(path)) for name, path in files.items()}
    pair = deeprs.register(**images, **OPTIONS)
    assert all(same(getattr(pair, name), written / f"{name}.nii.gz") for name in VOXELWISE)
    here = voxel_points(pair.warped.array.shape, torch.from_numpy(pair.warped.affine))
    for name in ("moving_to_fixed_warp.nii.gz", "moving_to_fixed_transform.h5"):
        there = Chain(read_transform(written / name))(here)
        np.testing.assert_allclose(pair.displacement.array, (there - here) * torch.tensor([-1, -1, 1]), atol=1e-3)
    assert pair.warped_label.labels == {1: "Anterior", 2: "Posterior"}
    assert set(np.unique(pair.warped_label.array)) == {0, 1, 2}
    assert 0.01 < (pair.warped.array == OPTIONS["fill_value"]).mean() < 0.99
    expected = json.loads((written / "summary.json").read_text())
    unlike = {"seconds"} if given is str else {"seconds", "moving", "fixed"}
    assert pair.summary.keys() == expected.keys()
    assert all(pair.summary[name] == expected[name] for name in expected.keys() - unlike)


@as_given
def test_segmenting_gives_to_the_bit_what_the_command_writes(given, files, tmp_path):
    segmented = deeprs.segment(given(str(files["fixed"])))
    assert same(segmented, inferring(files["fixed"], tmp_path))
    assert segmented.labels == {1: "Anterior", 2: "Posterior"} and set(np.unique(segmented.array)) == {0, 1, 2}


def test_saving_writes_the_files_of_the_command(pair, written, tmp_path):
    pair.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.iterdir()}
    for name in (*VOXELWISE, "moving_to_fixed_warp"):
        ours, theirs = (nib.load(folder / f"{name}.nii.gz") for folder in (tmp_path, written))
        assert np.array_equal(ours.dataobj, theirs.dataobj) and ours.header == theirs.header
    assert (tmp_path / "picture.png").read_bytes() == (written / "picture.png").read_bytes()


def test_without_a_label_there_is_none(files):
    assert deeprs.register(files["moving"], files["fixed"]).warped_label is None


def test_no_copies_are_one_pass(files):
    one, many = (deeprs.segment(files["fixed"], copies=copies).array for copies in (0, 3))
    assert (one != many).any() and (one == many).mean() > 0.9


def test_the_image_of_the_user_stays_as_it_was(files):
    image = nib.load(files["fixed"])
    array, affine = image.get_fdata(dtype=np.float32), image.affine.copy()
    deeprs.segment(deeprs.Volume(array, affine), copies=0)
    deeprs.register(deeprs.Volume(array, affine), deeprs.Volume(array, affine))
    assert np.array_equal(array, np.asarray(image.dataobj)) and np.array_equal(affine, image.affine)


def test_a_volume_says_what_it_is_and_is_written_as_it_is(files, tmp_path):
    volume = WAYS["volume"](files["fixed"])
    assert repr(volume) == "Volume(42x36x47 int16, 3 x 3.3 x 2.8 mm, PIR)"
    volume.save(tmp_path / "again.nii.gz")
    assert same(volume, tmp_path / "again.nii.gz")


# ---- the transform


@pytest.mark.parametrize("name", ["own.h5", "own.nii.gz"])
def test_the_transform_takes_points_as_itk_does_with_the_file(name, pair, tmp_path):
    pair.write_transform(tmp_path / name)
    if name.endswith(".h5"):
        transform = sitk.ReadTransform(str(tmp_path / name))
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / name), sitk.sitkVectorFloat64))
    voxels = np.random.default_rng(0).uniform(5, 30, size=(20, 3))
    ras = nib.affines.apply_affine(pair.warped.affine, voxels)
    lps = ras * [-1, -1, 1]
    theirs = np.array([transform.TransformPoint(point) for point in lps.tolist()])
    assert np.abs(theirs - lps).max() > 1
    np.testing.assert_allclose(pair.points(lps, coordinates="LPS"), theirs, atol=1e-3)
    np.testing.assert_allclose(pair.points(ras.tolist()), theirs * [-1, -1, 1], atol=1e-3)


def test_points_come_back_by_the_inverse(pair):
    points = nib.affines.apply_affine(pair.warped.affine, [[[20, 18, 22], [12, 20, 30]]])
    back = pair.points(pair.points(points), inverse=True)
    assert back.shape == (1, 2, 3)
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_points_beyond_the_image_are_told(pair, caplog):
    pair.points([pair.warped.affine[:3, 3], [500, 500, 500]])
    assert "1 of 2 points lie outside of the fixed image" in caplog.text


@pytest.mark.parametrize(
    ("points", "system", "message"),
    [([1, 2], "RAS", r"expected shape \(..., 3\), mm, found \(2,\)"), ([1, 2, 3], "ras", "found 'ras'")],
)
def test_points_of_another_kind_are_refused(points, system, message, pair):
    with pytest.raises(ValueError, match=message):
        pair.points(points, coordinates=system)


# ---- models


def test_a_training_is_used_from_wherever_its_folder_is_now(phantoms, pc_reg, tmp_path):
    images = dict(zip(("moving", "fixed"), sorted((phantoms / "images").glob("*.nii.gz"))[:2], strict=True))
    written = registering(images, tmp_path / "pair", pc_reg / "model.yaml")
    segmented = inferring(images["fixed"], tmp_path / "seg", pc_reg / "model.yaml")
    moved = Path(shutil.copytree(pc_reg, tmp_path / "moved"))
    text = (moved / "model.yaml").read_text().replace(str(pc_reg), "/nowhere")
    (moved / "model.yaml").write_text(text)
    assert "/nowhere" in text
    for model in (moved, str(moved / "model.yaml")):
        assert same(deeprs.register(**images, model=model).warped, written / "warped.nii.gz")
        found = deeprs.segment(images["fixed"], model=model)
        assert same(found, segmented)
    assert found.labels[205] == "myocardium of the left ventricle"


def test_a_model_of_0_6_is_read(files, tmp_path):
    model = Path(shutil.copy(ROOT / "tests" / "written_by_0_6_1" / "model.yaml", tmp_path))
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "register.yaml"), str(model)])
    torch.manual_seed(0)
    for name, entry in zip(FILES, ("network_def", "registration_def", "discriminator_def"), strict=True):
        torch.save(parser.get_parsed_content(entry).state_dict(), tmp_path / FILES[name])
    images = {name: files[name] for name in ("moving", "fixed")}
    written = registering(images, tmp_path / "pair", model, ckpt_dir=str(tmp_path))
    pair = deeprs.register(**images, model=tmp_path)
    assert same(pair.warped, written / "warped.nii.gz") and same(pair.confidence, written / "confidence.nii.gz")


def test_nothing_of_the_folder_of_a_model_is_run(files, tmp_path):
    model, touched = tmp_path / "model.yaml", tmp_path / "touched"
    content = yaml.safe_load((ROOT / "tests" / "written_by_0_6_1" / "model.yaml").read_text())
    program = f"$open({str(touched)!r}, 'w')"
    model.write_text(yaml.safe_dump(content | {"inferer": program}))
    with pytest.raises(ValueError, match="inferer: .*more than arithmetic.*\n.*give the file by name"):
        deeprs.segment(files["fixed"], model=tmp_path)
    model.write_text(yaml.safe_dump(content | {"device": program, "bundle_root": program, "labels": {"1": program}}))
    with pytest.raises(ValueError, match="num_classes is 8, expected 2"):
        deeprs.segment(files["fixed"], model=tmp_path)
    names = {key: program for key in content["labels"]}
    model.write_text(yaml.safe_dump(content | {"device": program, "bundle_root": program, "labels": names}))
    torch.manual_seed(0)
    network = ConfigParser(read_model(tmp_path)).get_parsed_content("network_def")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    assert set(deeprs.segment(files["fixed"], model=tmp_path).labels.values()) == {program}
    assert not touched.exists()


# ---- mistakes


def spoilt(path: Path, **changes) -> deeprs.Volume:
    """An image in memory, with one voxel changed, or a matrix, or a shape."""
    image = nib.load(path)
    array, affine = image.get_fdata(), changes.get("affine", image.affine)
    if "value" in changes:
        array[3, 4, 5] = changes["value"]
    return deeprs.Volume(np.resize(array, changes.get("shape", array.shape)), affine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": np.nan}, "the image holds 1 values that are not finite"),
        ({"shape": (20, 20)}, "the image is not one 3D volume of numbers: shape 20x20"),
        ({"shape": (9, 9, 9, 2)}, "the image is not one 3D volume of numbers: shape 9x9x9x2"),
        ({"affine": np.diag([1.0, 1, 0, 1])}, "puts its voxels nowhere"),
        ({"affine": np.eye(3)}, "puts its voxels nowhere.* not 4x4"),
    ],
)
def test_an_array_passes_the_checks_of_a_file(changes, message, files):
    image = spoilt(files["fixed"], **changes)
    with pytest.raises(ValueError, match=f"^image: {message}" if "affine" not in changes else message):
        deeprs.segment(image)
    with pytest.raises(ValueError, match=f"^fixed: {message}" if "affine" not in changes else message):
        deeprs.register(files["moving"], image)


def test_a_label_that_does_not_fit_is_refused(files):
    pair = (files["moving"], files["fixed"])
    with pytest.raises(ValueError, match=r"case 'moving_label': unknown label 7 \(1 voxel\)"):
        deeprs.register(*pair, moving_label=spoilt(files["moving_label"], value=7))
    with pytest.raises(ValueError, match=r"share a grid.\n  shape    image \(38, 50, 33\)  label \(9, 9, 9\)"):
        deeprs.register(*pair, moving_label=spoilt(files["moving_label"], shape=(9, 9, 9)))


def test_an_array_without_an_affine_is_refused(files):
    with pytest.raises(TypeError, match=r"^moving: .* found ndarray.*deeprs.Volume\(array, affine\)"):
        deeprs.register(np.zeros((9, 9, 9)), files["fixed"])


def test_what_is_not_there_is_named(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="--moving '/nowhere/a.nii.gz'"):
        deeprs.register("/nowhere/a.nii.gz", files["fixed"])
    with pytest.raises(FileNotFoundError, match="image '/nowhere/a.nii.gz'"):
        deeprs.segment("/nowhere/a.nii.gz")
    with pytest.raises(FileNotFoundError, match=f"no such model: '{tmp_path}/model.yaml'"):
        deeprs.segment(files["fixed"], model=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"), [({"refine": -1}, "`--refine` takes"), ({"fill_value": "air"}, "--fill_value 'air'")]
)
def test_an_option_is_refused_in_its_own_words(options, message, files):
    with pytest.raises(ValueError, match=f"^{message}"):
        deeprs.register(files["moving"], files["fixed"], **options)


# ---- the process of the user


def test_a_package_scripts_of_the_user_stays_his(files, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("mine = True\n")
    program = f"""
        import sys
        import scripts
        import deeprs
        assert "torch" not in sys.modules and "monai" not in sys.modules
        path = list(sys.path)
        assert deeprs.segment({str(files["fixed"])!r}, copies=0).array.any()
        assert deeprs.register({str(files["moving"])!r}, {str(files["fixed"])!r}).warped.array.any()
        assert scripts.mine and sys.path == path
        assert not [name for name in sys.modules if name.startswith(("scripts.", "bundle"))]
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scripts"]


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    examples = [block for block in blocks(ROOT / "README.md", "python") if "deeprs" in block]
    if not examples:
        pytest.skip("README has no example for Python")
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
