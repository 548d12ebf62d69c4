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

"""Faulty files are told before anything is computed from them, and with what to do."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from tiny_networks import shipped

from scripts.data.image_checks import CheckImaged, CheckPreprocessedd, ImageCheck, check_cases, check_files, fill_number
from scripts.data.label_map_folder import LabelMapFolder

GRADIENT = np.arange(720, dtype=np.float32).reshape(8, 10, 9)
#: what an image can be -> what is said of it
FAULTS = {
    "nan": (np.where(GRADIENT == 5, np.nan, GRADIENT), "1 values that are not finite .* Replace them"),
    "infinite": (np.where(GRADIENT > 700, np.inf, GRADIENT), "19 values that are not finite .* Replace them"),
    "constant": (np.full_like(GRADIENT, 7), "constant: every voxel is 7. Export it again"),
    "series": (np.stack([GRADIENT, GRADIENT], axis=-1), "not one 3D volume .* shape 8x10x9x2(.|\n)*Split a series"),
    "flat": (GRADIENT[0], "not one 3D volume .* shape 10x9"),
    "complex": (GRADIENT + 1j, "not one 3D volume .* type complex(.|\n)*complex ones"),
}


@pytest.fixture
def write(tmp_path, write_volume):
    """``write(name)``: a file with that fault, or a good one."""

    def write(name):
        path = tmp_path / f"{name}.nii.gz"
        if name in FAULTS or name.startswith("good"):
            return write_volume(path, FAULTS[name][0] if name in FAULTS else GRADIENT)
        write_volume(path, np.random.default_rng(0).normal(size=(8, 10, 9)))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if name == "truncated" else b"no volume")
        return path

    return write


def cases(*paths):
    return [{"case": path.name.split(".")[0], "image": str(path)} for path in paths]


@pytest.mark.parametrize("name", [*FAULTS, "truncated", "unreadable"])
def test_a_faulty_image_is_refused_with_its_option_its_file_and_the_remedy(name, write):
    fault = FAULTS[name][1] if name in FAULTS else "cannot be read(.|\n)*Copy it again"
    with pytest.raises(ValueError, match=rf"^--fixed '{write(name)}': the image (.|\n)*{fault}"):
        check_files([("moving", write("good")), ("fixed", write(name))])


def test_all_faulty_files_are_named_at_once(write):
    with pytest.raises(ValueError) as refused:
        check_files([("moving", write("nan")), ("fixed", write("flat"))])
    assert [line.split()[0] for line in str(refused.value).splitlines() if line.startswith("--")] == [
        "--moving",
        "--fixed",
    ]


def test_good_images_pass_whatever_their_type(tmp_path, write_volume):
    files = [write_volume(tmp_path / f"{kind}.nii", GRADIENT.astype(kind)) for kind in ("i2", "u1", "f8", "i4")]
    check_files([("image", path) for path in files])


def test_of_a_label_the_values_are_its_own_affair_but_not_the_shape(write):
    check_files([("moving_label", write("constant"))])
    with pytest.raises(ValueError, match="--moving_label .*: the label is not one 3D volume"):
        check_files([("moving_label", write("series"))])


def test_the_usable_images_come_in_their_order_and_the_others_at_the_end(write, tmp_path):
    listed = cases(*map(write, ("good_1", "nan", "good_2", "truncated")))
    check = ImageCheck(listed, LabelMapFolder(tmp_path / "out"))
    assert check.usable() == [listed[0], listed[2]]
    with pytest.raises(ValueError, match="2 of 4 images could not be segmented:\n'nan'(.|\n)*\n'truncated'"):
        check.report()
    ImageCheck(listed[:1], LabelMapFolder(tmp_path / "out")).report()


def test_a_folder_of_bad_images_is_refused_at_once(write, tmp_path):
    with pytest.raises(ValueError, match="1 of 1 images could not be segmented:\n'nan': .*nan.nii.gz: the image holds"):
        ImageCheck(cases(write("nan")), LabelMapFolder(tmp_path / "out")).usable()


def test_label_maps_beside_their_images_are_no_images(write, tmp_path, caplog):
    caplog.set_level("INFO")
    one, written, other = write("good"), write("good_seg"), write("goods_seg")
    check = ImageCheck(cases(one, written, other), LabelMapFolder(tmp_path / "out"))
    assert check.usable() == cases(one, other)  # `goods` is no case
    assert "1 results that lie beside their images are left out" in caplog.text


def test_a_label_map_of_somebody_else_is_refused_before_an_image_is_read(write, tmp_path):
    listed, drawn = cases(write("nan")), write("nan_seg")
    with pytest.raises(FileExistsError, match=r"(?s)did not write them.*nan_seg\.nii\.gz.*--overwrite true"):
        ImageCheck(listed, LabelMapFolder(tmp_path)).usable()
    assert drawn.is_file() and not (tmp_path / ".deeprs").exists()


@pytest.mark.parametrize("name", ["nan", "infinite", "constant", "series", "flat"])
def test_the_preprocessing_of_inference_refuses_what_other_programs_bring(name, write):
    with pytest.raises(RuntimeError) as refused:  # raised by MONAI
        shipped("inference.yaml", "preprocessing")({"image": str(write(name))})
    assert isinstance(refused.value.__cause__, ValueError)
    assert str(refused.value.__cause__).startswith(f"'{write(name)}': the image ")


def test_a_good_image_passes_unchanged(write):
    image = LoadImage(ensure_channel_first=True)(write("good"))
    (checked,) = CheckImaged(keys=["image"])({"image": image}).values()
    assert checked is image


@pytest.mark.parametrize("value", [-1024, 0.5, "-1e3"])
def test_a_fill_value_is_a_number(value):
    assert fill_number(value) == float(value)


@pytest.mark.parametrize("value", ["air", None, [1]])
def test_a_fill_value_that_is_no_number_is_refused_with_examples(value):
    with pytest.raises(ValueError, match=r"--fill_value .*: expected a number.*-1024 for CT"):
        fill_number(value)


# ---- what preprocessing makes of an image is looked at as training does

SIZE = (40, 40, 40)
ORGAN = np.where(np.linalg.norm(np.indices(SIZE).T - 20, axis=-1).T < 5, 500 + np.indices(SIZE)[0], 0.0)
SEEN = {
    "an organ in a large field of view": (ORGAN, {}, r"its values lie in \[0, 524\].*choose a wider `intensity_range`"),
    "nothing within the window": (
        ORGAN,
        {"intensity": "window", "intensity_range": [-200, -100]},
        "makes the image constant: every voxel is 1",
    ),
}
seen = pytest.mark.parametrize("name", SEEN)


def inference(**entries):
    return shipped("inference.yaml", "preprocessing", voxel_size=None, spatial_size=SIZE, **entries)


@seen
def test_the_preprocessing_of_inference_refuses_what_the_networks_could_not_use(name, tmp_path, write_volume):
    array, entries, told = SEEN[name]
    path = write_volume(tmp_path / "organ.nii.gz", array.astype(np.float32))
    with pytest.raises(RuntimeError) as refused:  # raised by MONAI
        inference(**entries)({"image": str(path)})
    assert re.search(rf"^'{path}': .*{told}", str(refused.value.__cause__), re.DOTALL)


@seen
def test_an_image_that_the_networks_could_not_use_is_left_out_and_the_others_are_not(name, tmp_path, write_volume):
    array, entries, told = SEEN[name]
    good = array + np.random.default_rng(0).normal(-150, 40, SIZE)
    listed = cases(
        *(write_volume(tmp_path / f"{n}.nii.gz", v.astype(np.float32)) for n, v in (("a", array), ("b", good)))
    )
    check = ImageCheck(listed, LabelMapFolder(tmp_path / "out"), inference(**entries))
    assert check.usable() == [listed[1]]
    with pytest.raises(ValueError, match=rf"(?s)1 of 2 images could not be segmented:\n'a': .*{told}"):
        check.report()


@pytest.mark.parametrize(
    "entries", [{"intensity_range": [0, 100]}, {"intensity": "window", "intensity_range": [0, 550]}]
)
def test_the_remedies_that_are_told_help(entries, tmp_path, write_volume):
    (listed,) = cases(write_volume(tmp_path / "organ.nii.gz", ORGAN.astype(np.float32)))
    assert ImageCheck([listed], LabelMapFolder(tmp_path / "out"), inference(**entries)).usable() == [listed]


@seen
def test_a_case_to_score_is_looked_at_too(name, tmp_path, write_volume):
    array, entries, told = SEEN[name]
    (listed,) = cases(write_volume(tmp_path / "organ.nii.gz", array.astype(np.float32)))
    with pytest.raises(ValueError, match=f"(?s)^case 'organ': .*{told}"):
        check_cases([listed], [1], inference(**entries))
    assert check_cases([listed], [1]) == np.prod(SIZE)


def test_padding_does_not_hide_a_constant_image(tmp_path, write_volume):
    path = write_volume(tmp_path / "organ.nii.gz", ORGAN.astype(np.float32))
    window = {"intensity": "window", "intensity_range": [-200, -100], "spatial_size": [64, 64, 64]}
    with pytest.raises(RuntimeError) as refused:
        shipped("inference.yaml", "preprocessing", voxel_size=None, **window)({"image": str(path)})
    assert "every voxel is 1" in str(refused.value.__cause__)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_a_fault_wherever_they_come_from(bad):
    volume = MetaTensor(torch.rand(1, 6, 6, 6))
    volume[0, 1, 2, 3] = bad
    with pytest.raises(ValueError, match="preprocessing leaves 1 values that are not finite"):
        CheckPreprocessedd(keys=["image"])({"image": volume})


def test_an_empty_label_of_a_case_to_score_is_warned_of(tmp_path, write_volume, caplog):
    (case,) = cases(write_volume(tmp_path / "healthy.nii.gz", GRADIENT))
    label = write_volume(tmp_path / "label.nii.gz", np.zeros(GRADIENT.shape, np.uint8))
    assert check_cases([case | {"label": str(label)}], [1]) == GRADIENT.size
    assert "the label of healthy is empty" in caplog.text
