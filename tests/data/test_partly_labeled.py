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
"""Which structures a case lacks, and which voxels are to be ignored, from the datalist to the batch and the checks."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.data.cases import load_cases
from scripts.data.checks import DataCheck
from scripts.data.pairs import PairDataset
from scripts.data.preprocessing import Preprocessing

LABELS = {"1": "liver", "3": "spleen", "7": "ignore"}


@pytest.fixture
def listed(tmp_path, write_case, write_json):
    """``listed(labels, *missing)``: the cases of a datalist, a labelled one for each ``missing``; None states none."""

    def write(labels, *missing, ids=(1, 3)):
        entries = []
        for number, names in enumerate(missing):
            held = [i for i in ids if names is None or i == 7 or labels[str(i)] not in names and i not in list(names)]
            write_case(tmp_path, f"c{number}", held)
            entry = {key: f"{key}s/c{number}.nii.gz" for key in ("image", "label")}
            entries.append(entry if names is None else {**entry, "missing": names})
        for name in ("u", "v"):
            write_case(tmp_path, name, None)
        unlabeled = ["images/u.nii.gz", "images/v.nii.gz"]
        content = {"labels": labels, "labeled": entries, "unlabeled": unlabeled, "test": entries[:1]}
        write_json(tmp_path / "datalist.json", content)
        return load_cases(tmp_path)

    return write


def subjects_of(cases, **options):
    preprocessing = Preprocessing((16, 16, 16), label_ids=cases.label_ids)
    return PairDataset(cases.labeled, preprocessing, cases.unlabeled, **options)


def test_without_a_word_of_it_nothing_is_said_of_it(listed):
    cases = listed({"1": "liver", "3": "spleen"}, None, None)
    assert cases.ignored is None and all("missing" not in case for case in cases.labeled)
    assert not any(key.endswith("missing") for key in subjects_of(cases)[0, 1])


def test_structures_are_named_or_numbered_and_every_labelled_case_then_says_which_it_lacks(listed):
    cases = listed({"1": "liver", "3": "spleen"}, ["spleen"], [1], ["3", "liver"], None)
    assert [case["missing"] for case in cases.labeled] == [(2,), (1,), (1, 2), ()]
    assert cases.test[0]["missing"] == (2,) and "missing" not in cases.unlabeled[0]
    assert cases.missing_names(cases.labeled[2]) == ["liver", "spleen"]
    pair = subjects_of(cases)[0, 1]
    assert [pair[f"{role}_missing"].nonzero().flatten().tolist() for role in ("moving", "fixed")] == [[2], [1]]
    assert "fixed_missing" not in subjects_of(cases)[0, 4]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["kidney"], r"case 'c0'.*`missing` has 'kidney'.*known    1 \(liver\), 3 \(spleen\)"),
        (["ignore"], "`missing` has 'ignore'"),
        ("liver", "case 'c0'.*`missing` should list the structures.*found 'liver'"),
    ],
)
def test_what_is_no_list_of_structures_is_refused(listed, missing, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        listed(LABELS, missing)


def test_voxels_to_be_ignored_become_the_class_after_the_last(listed):
    cases = listed(LABELS, None, ids=(1, 3, 7))
    assert cases.num_classes == 3
    pair = subjects_of(cases)[0, 0]
    assert pair["moving_label"].unique().tolist() == [0, 1, 2, 3]
    assert not pair["moving_missing"].any() and pair["moving_missing"].dtype == torch.bool


def test_the_data_check_takes_such_cases_and_tells_a_missing_structure_that_was_drawn(listed):
    cases = listed(LABELS, None, ["spleen"], ids=(1, 3, 7))
    preprocessing = Preprocessing((16, 16, 16), label_ids=cases.label_ids)
    no_test = replace(cases, test=())  # which repeats a labelled case
    DataCheck(no_test, (16, 16, 16), preprocessing=preprocessing, min_unlabeled=2).run()
    path = cases.labeled[1]["label"]
    label = nib.load(path)
    array = np.asarray(label.dataobj).copy()
    array[0, 0, 0] = 3
    nib.save(nib.Nifti1Image(array, label.affine), path)
    with pytest.raises(ValueError, match=r"case 'c1': `missing` has 3 \(spleen\), and the label holds it"):
        DataCheck(no_test, (16, 16, 16)).run()


def test_a_model_may_name_the_structures_without_what_is_ignored(listed, tmp_path):
    listed(LABELS, None)
    cases = load_cases(tmp_path, labels={1: "liver", 3: "spleen"})
    assert cases.ignored == 7 and cases.labels == {1: "liver", 3: "spleen"}
