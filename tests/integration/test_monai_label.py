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

"""MONAI Label itself, in a process and as a server: an annotator labels two images, trains, corrects one, trains."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLE
from monai_label import LABELS, NAME, Phantoms, carry_out, needs_monai_label, server, write_bundle

from scripts.networks.weights import FILES

pytestmark = needs_monai_label


def table(log: str) -> list[dict[str, str]]:
    """Of each training in a log, which list a case was in."""
    checks = re.split(r"data check of \d+ cases", log)[1:]
    return [
        dict(re.findall(r"^.*?(phantom_\d+) +(labeled|unlabeled|validation) ", check, re.MULTILINE)) for check in checks
    ]


def states(folder) -> dict[str, dict[str, torch.Tensor]]:
    return {name: torch.load(folder / name, weights_only=True) for name in FILES.values()}


def test_the_app_offers_segments_and_trains_the_bundle_round_after_round(tmp_path):
    phantoms = Phantoms(tmp_path, 4, size=16)
    bundle = write_bundle(tmp_path / "app", tmp_path / "mydata.yaml", 16)
    bundle.symlink_to(bundle.rename(tmp_path / "kept_elsewhere"))  # linked into the app
    (tmp_path / "app" / "model" / "linked").symlink_to(BUNDLE)  # the bundle as it is, with the weights that ship
    first, second, third, fourth = phantoms.names
    begun = states(bundle / "models")
    steps = [
        ("info", {}),
        ("infer", {"model": NAME, "image": fourth, "to": str(tmp_path / "before.nii.gz")}),
        ("infer", {"model": "linked", "image": fourth, "to": str(tmp_path / "linked.nii.gz")}),
        ("train", {"model": NAME, "max_epochs": 1, "val_split": 0}),
        ("submit", {"image": first, "label": str(phantoms.truth(first))}),
        ("train", {"model": NAME, "max_epochs": 1, "val_split": 0}),
        ("submit", {"image": second, "label": str(phantoms.truth(second))}),
        ("train", {"model": NAME, "max_epochs": 1, "val_split": 0.5, "run_id": ""}),
        ("infer", {"model": NAME, "image": fourth, "to": str(tmp_path / "after.nii.gz")}),
        ("train", {"model": "linked", "max_epochs": 1, "val_split": 0}),
    ]
    answers, log = carry_out(steps, tmp_path / "app", phantoms.studies)
    info, _, _, unlabeled, _, *rounds, _, linked = answers
    offered = info["models"][NAME]
    assert offered["labels"] == {name: int(i) for i, name in LABELS.items()}
    assert (offered["type"], offered["dimension"]) == ("segmentation", 3) and NAME in info["trainers"]
    assert offered["config"]["model_filename"][0] == "model.pt"
    for name in ("before", "after"):
        phantoms.dice(fourth, tmp_path / f"{name}.nii.gz")  # which compares the grids
    assert nib.load(tmp_path / "linked.nii.gz").shape == nib.load(phantoms.image(fourth)).shape
    assert "no image of the datastore is labelled" in unlabeled["error"]
    assert "error" not in (rounds[0] or {}) and "error" not in (rounds[2] or {}), rounds
    lists = table(log)
    assert lists[0] == {first: "labeled", second: "unlabeled", third: "unlabeled", fourth: "unlabeled"}
    assert sorted(lists[1].values()) == ["labeled", "unlabeled", "unlabeled", "validation"]
    assert log.count("go on with segmentation, registration, discriminator") == 2
    assert [path.name for path in sorted((bundle / "rounds").iterdir())] == ["001", "002"]
    for name, state in states(bundle / "models").items():
        assert any(not torch.equal(value, begun[name][key]) for key, value in state.items()), name
    assert linked["error"].startswith("FileNotFoundError") and not (BUNDLE / "rounds").exists()


@pytest.mark.slow  # minutes: two trainings of 240 iterations
def test_through_a_server_the_images_without_a_label_are_segmented_better_in_each_round(tmp_path):
    size = 32
    phantoms = Phantoms(tmp_path, 8, size)
    networks = {
        "network_def::channels": [8, 16, 32],
        "network_def::strides": [2, 2],
        "discriminator_def::network::channels": [8, 16],
        "registration_def::encoder_channels": [8, 16, 16],
        "registration_def::decoder_channels": [16, 16, 16, 16],
    }
    settings = {"iterations_per_epoch": 40, "learning_rate": 0.002}
    bundle = write_bundle(tmp_path / "app", tmp_path / "mydata.yaml", size, **networks, **settings)
    bundle.symlink_to(bundle.rename(tmp_path / "kept_elsewhere"))  # linked into the app
    *annotated, corrected = phantoms.names[:3]
    rest = phantoms.names[3:]
    rounds = (("untrained", []), ("first", annotated), ("second", [corrected]))
    dice = {}
    with server(tmp_path / "app", phantoms.studies, tmp_path / "server.log") as url:
        for round_name, submitted in rounds:
            steps = [("submit", {"image": name, "label": str(phantoms.truth(name))}) for name in submitted]
            steps += [("train", {"model": NAME, "max_epochs": 6, "val_split": 0})] * bool(submitted)
            found = {name: tmp_path / f"{round_name}_{name}.nii.gz" for name in rest}
            steps += [("infer", {"model": NAME, "image": name, "to": str(path)}) for name, path in found.items()]
            steps.append(("info", {}))
            answers, _ = carry_out(steps, url)
            log = (tmp_path / "server.log").read_text()
            assert [answer for answer in answers if "error" in (answer or {})] == [], log[-8000:]
            assert not submitted or answers[len(submitted)]["status"] == "DONE", log[-8000:]
            assert answers[-1]["models"][NAME]["labels"] == {name: int(i) for i, name in LABELS.items()}
            dice[round_name] = np.mean([phantoms.dice(name, path) for name, path in found.items()])
    lists = table(log)
    assert lists[0] == {name: "labeled" if name in annotated else "unlabeled" for name in phantoms.names}
    assert lists[1] == lists[0] | {corrected: "labeled"}
    assert log.count("go on with segmentation, registration, discriminator") == 2
    assert len(list((bundle / "rounds").iterdir())) == 2
    assert dice["untrained"] < 0.3 < 0.5 < dice["first"] < dice["second"], dice
