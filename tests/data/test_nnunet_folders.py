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
"""A raw data set of nnU-Net's version 2 is read as it lies, and what is not taken yet is refused by name."""

from __future__ import annotations

import json

import pytest

from scripts.data.cases import load_cases, load_images
from scripts.files.nnunet import is_nnunet

DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "spleen": 2, "liver": 1},
    "numTraining": 8,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def raw(tmp_path):
    """``raw(**changes)``: eight labelled cases, two unlabelled ones, and three of the test, two of them labelled."""

    def write(**changes):
        content = {**DATASET, **changes}
        end = content["file_ending"]
        names = [f"imagesTr/liver_{i:03d}_0000{end}" for i in range(10)]
        names += [f"labelsTr/liver_{i:03d}{end}" for i in range(8)]
        names += [f"imagesTs/liver_{i:03d}_0000{end}" for i in range(10, 13)]
        names += [f"labelsTs/liver_{i:03d}{end}" for i in range(10, 12)]
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        return tmp_path

    return write


def names_of(cases):
    return [case["case"] for case in cases]


def refusal(folder, kind=ValueError, **options):
    with pytest.raises(kind) as stopped:
        load_cases(folder, **options)
    return str(stopped.value)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_cases_are_those_of_the_folders_and_structures_those_of_the_file(raw, ending):
    cases = load_cases(raw(file_ending=ending))
    assert cases.labels == {1: "liver", 2: "spleen"}
    assert [len(x) for x in (cases.labeled, cases.validation, cases.test)] == [4, 4, 2]
    assert sorted(names_of(cases.labeled + cases.validation)) == [f"liver_{i:03d}" for i in range(8)]
    assert sorted(names_of(cases.test)) == ["liver_010", "liver_011"]
    assert sorted(names_of(cases.unlabeled)) == ["liver_008", "liver_009", "liver_012"]
    assert all(case["image"].endswith(f"{case['case']}_0000{ending}") for case in cases.labeled)
    assert all(case["label"].endswith(f"/{case['case']}{ending}") for case in cases.labeled + cases.test)
    assert all("label" not in case for case in cases.unlabeled)


def test_it_is_split_as_a_folder_is(raw):
    folder = raw()
    for name in (folder / "labelsTs").iterdir():
        name.unlink()
    cases = load_cases(folder, num_labeled=2, fold=1)
    assert [len(x) for x in (cases.labeled, cases.validation, cases.test, cases.unlabeled)] == [2, 3, 3, 5]
    assert load_cases(folder, seed=1) != load_cases(folder, seed=2)


def test_its_file_may_be_named_as_the_datalist(raw):
    folder = raw()
    assert load_cases("elsewhere", folder / "dataset.json") == load_cases(folder)


def test_all_of_its_images_are_segmented(raw):
    assert names_of(load_images(raw())) == [f"liver_{i:03d}" for i in range(13)]


def test_its_folders_of_images_are_segmented_alone_by_the_names_of_the_cases(raw, monkeypatch):
    folder = raw()
    assert names_of(load_images(folder / "imagesTs")) == [f"liver_{i:03d}" for i in range(10, 13)]
    monkeypatch.chdir(folder)
    assert len(load_images("imagesTr")) == 10
    (folder / "imagesTs" / "liver_010_0001.nii.gz").touch()
    with pytest.raises(ValueError, match="case 'liver_010'"):
        load_images("imagesTs")


def test_a_decathlon_file_is_none(hippocampus):
    assert is_nnunet(DATASET)
    assert not is_nnunet({"labels": {"0": "background", "1": "a"}, "training": [], "modality": {"0": "MRI"}})
    assert not is_nnunet(json.loads((hippocampus / "datalist.json").read_text()))


def test_several_channels_are_refused_and_one_of_them_can_be_chosen(raw):
    folder = raw(channel_names={"0": "T1", "1": "T2"})
    for image in [*(folder / "imagesTr").iterdir(), *(folder / "imagesTs").iterdir()]:
        image.with_name(image.name.replace("_0000", "_0001")).touch()
    message = refusal(folder)
    assert "case 'liver_000'" in message and "found liver_000_0000.nii.gz, liver_000_0001.nii.gz" in message
    assert '--image_name "*_0000.nii.gz"' in message and "'1': 'T2'" in message
    cases = load_cases(folder, image_name="*_0001.nii.gz")
    assert len(cases.labeled) == 4 and cases.labeled[0]["image"].endswith("_0001.nii.gz")


def test_a_case_with_another_channel_alone_is_refused(raw):
    folder = raw()
    (folder / "imagesTr" / "liver_003_0000.nii.gz").rename(folder / "imagesTr" / "liver_003_0001.nii.gz")
    assert "case 'liver_003'" in refusal(folder) and "found liver_003_0001.nii.gz" in refusal(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "whole": [1, 2], "core": [2]}, r"'whole' is a region, of the ids \[1, 2\].*not taken yet"),
        ({"background": 0, "liver": 2, "ignore": 1}, "'ignore' has the id 1; expected the highest"),
        ({"background": 0, "ignore": 1}, "'ignore' has the id 1; expected the highest, above those of at least one"),
        ({"background": 0, "liver": "one"}, "'liver' should have a whole number"),
        ({"background": 0, "a": 1, "b": 1}, "'a' and 'b' have one id, 1"),
        (["liver"], "should map names to ids"),
        ({"background": 0}, "at least one id above 0"),
    ],
)
def test_labels_that_are_not_taken_are_refused(raw, labels, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_cases(raw(labels=labels))


def test_the_highest_id_may_stand_for_voxels_that_nobody_has_labelled(raw):
    cases = load_cases(raw(labels={"background": 0, "liver": 1, "spleen": 2, "ignore": 5}))
    assert (cases.labels, cases.ignored, cases.num_classes) == ({1: "liver", 2: "spleen"}, 5, 3)
    assert cases.label_ids == (1, 2, 5)
    assert all(case["missing"] == () for case in cases.labeled + cases.validation + cases.test)
    assert all("missing" not in case for case in cases.unlabeled)


def test_an_image_without_its_channel_is_refused_with_the_option_that_takes_it(raw):
    folder = raw()
    for part in ("imagesTr", "imagesTs"):
        for image in (folder / part).iterdir():
            image.rename(image.with_name(image.name.replace("_0000", "")))
    assert "has no number of a channel" in refusal(folder) and '--image_name "*.nii.gz"' in refusal(folder)
    assert len(load_cases(folder, image_name="*.nii.gz").labeled) == 4


def test_labels_of_other_names_are_refused_with_what_was_found(raw):
    folder = raw()
    for label in (folder / "labelsTr").iterdir():
        label.rename(label.with_name(label.name.replace("liver_", "seg_")))
    message = refusal(folder)
    assert "10 images, 8 labels, 0 pairs; nearest names: liver_00" in message
    assert '8 pairs by --image_name "liver_*_0000.nii.gz" --label_name "seg_*.nii.gz"' in message


def test_what_cannot_be_read_is_refused(raw):
    assert "`file_ending` '.png' are not read" in refusal(raw(file_ending=".png"))
    assert "under `dataset`" in refusal(raw(dataset={"a": {"images": ["a.nii.gz"], "label": "b.nii.gz"}}))


def test_a_file_without_folders_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    assert "there is no folder" in refusal(tmp_path, FileNotFoundError)


def test_the_hippocampus_in_this_form_has_the_same_files(hippocampus, tmp_path):
    stated = load_cases(hippocampus, num_labeled=4)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in stated.labeled:
        (tmp_path / "imagesTr" / f"{case['case']}_0000.nii.gz").symlink_to(case["image"])
        (tmp_path / "labelsTr" / f"{case['case']}.nii.gz").symlink_to(case["label"])
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, "labels": labels}))
    cases = load_cases(tmp_path)
    assert cases.labels == stated.labels and sorted(names_of(cases.labeled)) == sorted(names_of(stated.labeled))
