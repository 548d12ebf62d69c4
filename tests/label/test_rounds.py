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

"""A datastore becomes cases, its images possible pairs, and the weights of one round the beginning of the next."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from scripts.data.pairs import PairDataset
from scripts.label.rounds import PossiblePairSampler, check_labels, datastore_cases, load_fitting, next_round
from scripts.networks.weights import FILES

LABELS = {1: "liver"}


@pytest.fixture
def datastore(tmp_path, write_volume):
    """A datastore of MONAI Label with five images, of which ``a`` and ``b`` have a submitted label."""
    for name in "abcde":
        write_volume(tmp_path / f"{name}.nii.gz", np.zeros((2, 2, 2), np.uint8))
    for tag, name in (("final", "a"), ("final", "b"), ("original", "c")):
        write_volume(tmp_path / "labels" / tag / f"{name}.nii.gz", np.zeros((2, 2, 2), np.uint8))
    return tmp_path


def entry(folder, name):
    """What MONAI Label says of a labelled image: paths without links."""
    paths = {"image": folder / f"{name}.nii.gz", "label": folder / "labels" / "final" / f"{name}.nii.gz"}
    return {key: os.path.realpath(path) for key, path in paths.items()}


def names(cases):
    return [case["case"] for case in cases]


def test_the_images_beside_the_labelled_ones_are_the_unlabelled(datastore):
    cases = datastore_cases([entry(datastore, "a"), entry(datastore, "b")], [], LABELS)
    assert names(cases.labeled) == ["a", "b"] and names(cases.unlabeled) == ["c", "d", "e"]
    assert all(case.keys() == {"case", "image"} for case in cases.unlabeled)


def test_images_of_validation_are_not_among_the_unlabelled(datastore):
    cases = datastore_cases([entry(datastore, "a")], [entry(datastore, "b")], LABELS)
    assert names(cases.validation) == ["b"] and names(cases.unlabeled) == ["c", "d", "e"]


def test_images_that_are_links_are_found_in_the_datastore_and_not_where_they_lead(datastore, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    (linked / "labels" / "final").mkdir(parents=True)
    for name in "abc":  # and not d and e
        (linked / f"{name}.nii.gz").symlink_to(datastore / f"{name}.nii.gz")
    (linked / "labels" / "final" / "a.nii.gz").write_bytes((datastore / "labels" / "final" / "a.nii.gz").read_bytes())
    assert names(datastore_cases([entry(linked, "a")], [], LABELS).unlabeled) == ["b", "c"]


def test_labels_that_lie_elsewhere_leave_the_images_to_be_found_beside_their_own(datastore, tmp_path_factory):
    label = tmp_path_factory.mktemp("elsewhere") / "a.nii.gz"
    label.write_bytes((datastore / "labels" / "final" / "a.nii.gz").read_bytes())
    cases = datastore_cases([{"image": str(datastore / "a.nii.gz"), "label": str(label)}], [], LABELS)
    assert names(cases.unlabeled) == ["b", "c", "d", "e"]


def test_a_path_that_monai_has_changed_is_told(datastore):
    changed = {key: path.replace("/a.nii.gz", "/a::1.nii.gz") for key, path in entry(datastore, "a").items()}
    with pytest.raises(ValueError, match=r"a::1\.nii\.gz'. MONAI makes `::` of `#`"):
        datastore_cases([changed], [], LABELS)


def test_without_a_label_to_learn_from_a_round_says_so(datastore):
    with pytest.raises(ValueError, match="no image of the datastore is labelled for training.*at least one image.$"):
        datastore_cases([], [], LABELS)
    with pytest.raises(ValueError, match="lower `val_split`: 1 went to validation"):
        datastore_cases([], [entry(datastore, "a")], LABELS)


def subjects(labeled: int, unlabeled: int) -> PairDataset:
    cases = [{"image": f"{number}.nii.gz"} for number in range(labeled + unlabeled)]
    return PairDataset(cases[:labeled], Compose([]), cases[labeled:])


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "kinds"),
    [
        (2, 2, {"labeled_unlabeled": 0.5, "unlabeled_unlabeled": 0.5}),
        (1, 3, {"labeled_unlabeled": 0.5, "unlabeled_unlabeled": 0.5}),
        (2, 1, {"labeled_unlabeled": 1.0}),
        (1, 1, {"labeled_unlabeled": 1.0}),
        (3, 0, {"labeled_labeled": 1.0}),
    ],
)
def test_the_kinds_of_pairs_are_those_for_which_there_are_images(labeled, unlabeled, kinds):
    wanted = {"labeled_unlabeled": 1.0, "unlabeled_unlabeled": 1.0}
    sampler = PossiblePairSampler(subjects(labeled, unlabeled), wanted, length=6)
    assert sampler.kinds == kinds
    assert all(moving != fixed for ((moving, fixed),) in sampler)


def test_one_image_alone_is_refused(datastore):
    with pytest.raises(ValueError, match="holds one image.*Add another"):
        PossiblePairSampler(subjects(1, 0), {"labeled_unlabeled": 1.0})


def test_rounds_are_numbered_from_one_on(tmp_path):
    assert next_round(tmp_path / "rounds") == str(tmp_path / "rounds" / "001")
    for name in ("001", "009", "notes"):
        (tmp_path / "rounds" / name).mkdir(parents=True)
    assert next_round(tmp_path / "rounds") == str(tmp_path / "rounds" / "010")


def test_weights_are_loaded_where_they_fit_and_the_others_stay(tmp_path, caplog):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / FILES["segmentation"])
    torch.save(torch.nn.Linear(2, 4).state_dict(), tmp_path / FILES["registration"])
    networks = {name: torch.nn.Linear(2, 3) for name in ("segmentation", "registration", "discriminator", "other")}
    before = {name: network.weight.detach().clone() for name, network in networks.items()}
    assert load_fitting(networks, tmp_path) == ["segmentation"]
    saved = torch.load(tmp_path / FILES["segmentation"], weights_only=True)
    assert torch.equal(networks["segmentation"].weight, saved["weight"])
    assert all(torch.equal(networks[name].weight, before[name]) for name in ("registration", "discriminator", "other"))
    for name, reason in (
        ("registration", "of another network"),
        ("discriminator", "no weights"),
        ("other", "no weights"),
    ):
        assert any(f"{name} begins untrained" in line and reason in line for line in caplog.messages)


def test_labels_are_counted_from_one_and_the_background_is_left_out():
    assert check_labels({"2": "spleen", "0": "background", "1": "liver"}) == {1: "liver", 2: "spleen"}


def test_names_that_monai_leaves_alone_are_taken():
    names = {1: "50%", 2: "costs $", 3: "a@b", 4: "left::right"}
    assert check_labels(names) == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "`labels` is missing"),
        ({"0": "background"}, "`labels` is missing"),
        ({"205": "myocardium", "500": "ventricle"}, r"ids \[205, 500\], expected 1 to 2"),
        ({"1": "LV", "2": "lv"}, "lower case"),
        ({"1": "Background"}, "none may be `background`"),
        ({"1": "$HOME lesion"}, r"rename '\$HOME lesion'"),
        ({"1": "liver", "2": "%CT"}, "rename '%CT'"),
        ({"1": "@apex", "2": "lesion #1"}, "rename '@apex', 'lesion #1'"),
    ],
)
def test_labels_that_an_annotation_program_would_mix_up_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels)
