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

import json
import os
import pickle
from pathlib import Path

import pytest

from scripts.data.cases import load_cases, load_images
from scripts.files.datalist import case_name

LABELS = {"0": "background", "2": "posterior", "1": "anterior"}


def entries(*names):
    return [{"image": f"./images/{name}.nii.gz", "label": f"./labels/{name}.nii.gz"} for name in names]


def names_of(cases):
    return [case["case"] for case in cases]


@pytest.fixture
def folder(tmp_path):
    """A folder without a datalist: ten labelled and three unlabelled cases, as empty files, since none is opened."""
    for kind, numbers in (("images", range(13)), ("labels", range(10))):
        (tmp_path / kind).mkdir()
        for number in numbers:
            (tmp_path / kind / f"ct_{number:02d}.nii.gz").touch()
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    return tmp_path


def test_paths_are_relative_to_the_datalist_and_become_absolute(tmp_path, write_json):
    (tmp_path / "lists").mkdir()
    path = write_json(
        tmp_path / "lists" / "d.json", {"labels": LABELS, "test": [{"image": "../i/a.nii", "label": "l.nii"}]}
    )
    (case,) = load_cases("elsewhere", path).test
    assert case == {
        "case": "a",
        "image": str(tmp_path / "i" / "a.nii"),
        "label": str(tmp_path / "lists" / "l.nii"),
    }


def test_a_relative_datalist_is_found_from_the_working_directory(tmp_path, write_json, monkeypatch):
    write_json(tmp_path / "d.json", {"labels": LABELS, "unlabeled": ["a.nii"]})
    monkeypatch.chdir(tmp_path)
    assert load_cases("elsewhere", "d.json").unlabeled[0]["image"] == str(tmp_path / "a.nii")


def test_labels_are_ascending_and_without_background(tmp_path, write_json):
    path = write_json(tmp_path / "d.json", {"labels": LABELS, "test": entries("a")})
    cases = load_cases(tmp_path, path)
    assert cases.label_ids == (1, 2)
    assert cases.structures == ("anterior", "posterior")
    assert cases.num_classes == 3


def test_a_case_can_be_given_a_name(tmp_path, write_json):
    entry = {"case": "site1_t1", "image": "site1/t1.nii"}
    path = write_json(tmp_path / "d.json", {"labels": LABELS, "unlabeled": [entry]})
    assert names_of(load_cases(tmp_path, path).unlabeled) == ["site1_t1"]


def test_an_unlabelled_case_carries_no_label_even_where_one_is_named_and_exists(tmp_path, write_json, write_case):
    write_case(tmp_path, "u")
    path = write_json(tmp_path / "d.json", {"labels": LABELS, "labeled": entries("a"), "unlabeled": entries("u")})
    assert load_cases(tmp_path, path).unlabeled == ({"case": "u", "image": str(tmp_path / "images" / "u.nii.gz")},)


@pytest.mark.parametrize("name", ["datalist.json", "dataset.json"])
def test_a_datalist_in_the_folder_is_found(tmp_path, write_json, name):
    write_json(tmp_path / name, {"labels": LABELS, "labeled": entries("a", "b")})
    assert names_of(load_cases(tmp_path).labeled) == ["a", "b"]


@pytest.mark.parametrize(("fold", "expected"), [(0, ["a", "b"]), (1, ["c", "d"])])
def test_a_fold_of_a_datalist_takes_the_next_cases_in_order(tmp_path, write_json, fold, expected):
    path = write_json(
        tmp_path / "d.json", {"labels": LABELS, "labeled": entries(*"abcde"), "unlabeled": entries(*"xyz")}
    )
    cases = load_cases(tmp_path, path, num_labeled=2, num_unlabeled=1, fold=fold)
    assert names_of(cases.labeled) == expected
    assert names_of(cases.unlabeled) == ["x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_labeled": 2, "fold": 1}, "needs 4 in 'labeled', found 3"),
        ({"num_labeled": 4}, "needs 4 in 'labeled', found 3"),
        ({"num_unlabeled": 3}, "Lower `num_unlabeled`"),
        ({"fold": 1}, "needs `num_labeled`"),
        ({"num_labeled": -1}, "found -1 and 0"),
    ],
)
def test_asking_for_more_cases_than_there_are_says_how_many_there_are(tmp_path, write_json, options, message):
    path = write_json(tmp_path / "d.json", {"labels": LABELS, "labeled": entries(*"abc"), "unlabeled": entries(*"xy")})
    with pytest.raises(ValueError, match=message):
        load_cases(tmp_path, path, **options)


def test_a_datalist_with_nothing_but_test_is_enough(tmp_path, write_json):
    path = write_json(tmp_path / "d.json", {"labels": LABELS, "test": entries("a", "b")})
    cases = load_cases(tmp_path, path, num_labeled=4, num_unlabeled=40)
    assert names_of(cases.test) == ["a", "b"]
    assert cases.labeled == cases.unlabeled == cases.validation == ()


def test_a_folder_is_split_without_loss_or_overlap(folder):
    cases = load_cases(folder)
    assert [len(x) for x in (cases.labeled, cases.validation, cases.test, cases.unlabeled)] == [4, 3, 3, 3]
    everyone = names_of(cases.labeled + cases.validation + cases.test + cases.unlabeled)
    assert sorted(everyone) == [f"ct_{i:02d}" for i in range(13)]
    assert sorted(names_of(cases.unlabeled)) == ["ct_10", "ct_11", "ct_12"]
    assert all("label" not in case for case in cases.unlabeled)
    assert all(Path(case["label"]).parent.name == "labels" for case in cases.labeled + cases.validation + cases.test)


def test_the_split_of_a_folder_depends_on_the_seed_alone(folder):
    assert load_cases(folder, seed=3) == load_cases(folder, seed=3)
    assert load_cases(folder, seed=3).labeled != load_cases(folder, seed=4).labeled


def test_folds_of_a_folder_share_no_training_case(folder):
    folds = [load_cases(folder, num_labeled=5, fold=fold) for fold in (0, 1)]
    first, second = (set(names_of(cases.labeled)) for cases in folds)
    assert len(first | second) == 10
    for cases in folds:
        assert len(cases.labeled + cases.validation + cases.test) == 10


def test_a_folder_with_too_few_labelled_cases_trains_on_all_of_them(folder):
    for number in range(2, 10):
        (folder / "labels" / f"ct_{number:02d}.nii.gz").unlink()
    cases = load_cases(folder)
    assert (len(cases.labeled), len(cases.unlabeled), cases.validation, cases.test) == (2, 11, (), ())


def test_a_decathlon_file_is_split_and_its_test_images_are_unlabelled(tmp_path, write_json):
    content = {
        "labels": LABELS,
        "training": entries(*"abcdefgh"),
        "test": ["./imagesTs/y.nii.gz", "./imagesTs/z.nii.gz"],
    }
    write_json(tmp_path / "dataset.json", content)
    cases = load_cases(tmp_path)
    assert [len(x) for x in (cases.labeled, cases.validation, cases.test)] == [4, 2, 2]
    assert sorted(names_of(cases.labeled + cases.validation + cases.test)) == list("abcdefgh")
    assert sorted(names_of(cases.unlabeled)) == ["y", "z"]


def test_lists_that_a_decathlon_file_states_itself_are_kept(tmp_path, write_json):
    content = {"labels": LABELS, "training": entries(*"abcdef"), "validation": entries("v")}
    write_json(tmp_path / "dataset.json", content)
    cases = load_cases(tmp_path, num_labeled=4)
    assert names_of(cases.validation) == ["v"]
    assert len(cases.test) == 2


def test_labels_may_come_from_the_config(folder):
    (folder / "labels.json").unlink()
    assert load_cases(folder, labels={850: "PA", "205": "Myo"}).labels == {205: "Myo", 850: "PA"}


def test_equal_labels_of_data_and_config_are_fine_and_different_ones_refused(folder):
    assert load_cases(folder, labels={1: "anterior", 2: "posterior"}).label_ids == (1, 2)
    with pytest.raises(ValueError, match=r"labels\.json and of the config differ"):
        load_cases(folder, labels={1: "anterior"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "nothing says what the label ids mean"),
        ({"0": "background"}, "at least one id above 0"),
        ({"background": 0, "heart": 1}, "should map integer ids to names"),
        ({"1": "heart", "2": "heart"}, "one name to two ids"),
        (["background", "heart"], "should map integer ids to names"),
        ({"-1": "heart"}, "none below"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, write_json, labels, message):
    path = write_json(tmp_path / "d.json", {"labels": labels, "test": entries("a")})
    with pytest.raises(ValueError, match=message):
        load_cases(tmp_path, path)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({}, "states no case"),
        ({"labelled": entries("a")}, "unknown list of cases 'labelled'. Did you mean 'labeled'"),
        ({"labeled": [{"image": "a.nii"}]}, "case 'a' in the list 'labeled' of .* names no label"),
        ({"test": ["a.nii"]}, "names no label"),
        ({"unlabeled": [{"label": "a.nii"}]}, "names no image"),
        ({"unlabeled": [{"image": ["t1.nii", "t2.nii"]}]}, "should be one path"),
        ({"unlabeled": "images"}, "'unlabeled' should be a list of cases"),
        ({"labeled": entries("a"), "training": entries("b")}, "both 'training' .* and 'labeled'"),
    ],
)
def test_a_malformed_datalist_is_refused(tmp_path, write_json, lists, message):
    path = write_json(tmp_path / "d.json", {"labels": LABELS, **lists})
    with pytest.raises(ValueError, match=message):
        load_cases(tmp_path, path)


def test_missing_data_say_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"datalist\.json, dataset\.json and a folder images/"):
        load_cases(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*d\.json"):
        load_cases(tmp_path, tmp_path / "d.json")


def test_images_are_listed_from_a_folder_a_file_or_a_datalist(folder, write_json, monkeypatch):
    monkeypatch.chdir(folder)
    expected = [f"ct_{i:02d}" for i in range(13)]
    assert names_of(load_images(folder)) == expected
    assert names_of(load_images("images")) == expected
    assert load_images("images/ct_03.nii.gz") == ({"case": "ct_03", "image": os.path.abspath("images/ct_03.nii.gz")},)
    path = write_json(folder / "d.json", {"test": entries("b"), "unlabeled": ["u.nii"]})
    assert names_of(load_images(folder, path)) == ["u", "b"]
    assert load_images(folder, path, lists=["test"]) == ({"case": "b", "image": str(folder / "images" / "b.nii.gz")},)


def test_two_different_images_of_one_name_are_refused_since_one_result_would_replace_the_other(tmp_path, write_json):
    path = write_json(tmp_path / "d.json", {"unlabeled": ["a/ct.nii.gz", "b/ct.nii.gz", "c/mr.nii.gz"]})
    with pytest.raises(ValueError, match=r"different images of .*d\.json share the names ct, .*\n.*Rename"):
        load_images(tmp_path, path)
    named = [{"case": f"{site}_ct", "image": f"{site}/ct.nii.gz"} for site in "ab"]
    write_json(path, {"unlabeled": named, "test": named[:1]})  # one image that stands twice is one image
    assert names_of(load_images(tmp_path, path)) == ["a_ct", "b_ct"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image found"):
        load_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder: .*nowhere"):
        load_images(tmp_path / "nowhere")


def test_cases_survive_pickling(folder):
    cases = load_cases(folder)
    assert pickle.loads(pickle.dumps(cases)) == cases


def test_the_few_shot_set_of_the_hippocampus_is_the_first_of_each_list(hippocampus):
    cases = load_cases(hippocampus, num_labeled=4, num_unlabeled=40)
    stated = json.loads((hippocampus / "datalist.json").read_text())
    assert [len(x) for x in (cases.labeled, cases.unlabeled, cases.validation, cases.test)] == [4, 40, 20, 40]
    assert names_of(cases.labeled) == [case_name(entry["image"]) for entry in stated["labeled"][:4]]
    assert cases.structures == ("Anterior", "Posterior")
