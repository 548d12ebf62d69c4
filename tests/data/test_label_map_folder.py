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
"""What lies in the folder of a segmentation, also after a run that was stopped."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.data.label_map_folder import LabelMapFolder
from scripts.data.review_table import ModelReview


def segment(folder, names, stop_at=None, **options):
    """Segment cases in this order, up to one that stops the run; the names of those that were segmented."""
    cases, done = [{"case": name, "image": str(folder / f"{name}.nii.gz")} for name in names], []
    for case in cases:
        Path(case["image"]).exists() or Path(case["image"]).touch()
    review = ModelReview(folder, {"1": "first", "2": "second"})
    results = LabelMapFolder(folder / "out", settings="same", review=review, **options)

    def run():
        for case in results.waiting:
            if case["case"] == stop_at:
                raise KeyboardInterrupt
            label = np.zeros((4, 4, 4), np.uint8)
            label[1, 1, 1 : 2 + names.index(case["case"])] = 1
            found = {"estimate": [0.9, 0.0], "cut_off": [False, False]}
            prob = np.stack([label == number for number in range(3)]).astype(np.float32)
            results.write(case["case"], label, np.eye(4), label.astype(np.float32), prob, found)
            done.append(case["case"])

    results.begin(cases)
    results.left(cases)
    try:
        results.run(run)
    except KeyboardInterrupt:
        assert stop_at is not None
    return done


def rows(folder):
    with open(folder / "out" / "review.csv", newline="") as file:
        return {(row["case"], row["structure"]): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("options", [{}, {"confidence": True, "probabilities": True}])
def test_the_review_of_a_run_that_was_stopped_has_the_cases_of_before(options, tmp_path):
    assert segment(tmp_path, ["a", "b", "c"], stop_at="c", **options) == ["a", "b"]
    assert not (tmp_path / "out" / "review.csv").exists()
    assert segment(tmp_path, ["a", "b", "c"], **options) == ["c"]
    volumes = {case: float(row["volume_ml"]) for (case, name), row in rows(tmp_path).items() if name == "first"}
    assert volumes == pytest.approx({"a": 0.001, "b": 0.002, "c": 0.003})
    assert rows(tmp_path)["b", "second"]["reason"] == "nothing was found"


def test_probabilities_are_stored_in_255_steps_and_what_is_missing_is_background(tmp_path):
    segment(tmp_path, ["a"], probabilities=True)
    image = nib.load(tmp_path / "out" / "a_probabilities.nii.gz")
    assert image.shape == (4, 4, 4, 3) and image.get_data_dtype() == np.uint8
    assert image.dataobj.slope == pytest.approx(1 / 255)
    expected = np.zeros((4, 4, 4, 3))
    expected[..., 0] = 1
    expected[1, 1, 1] = [0, 1, 0]
    np.testing.assert_allclose(image.get_fdata(), expected, atol=1e-6)


def test_a_later_run_replaces_the_review_of_an_earlier_one(tmp_path):
    segment(tmp_path, ["a", "b"])
    segment(tmp_path, ["c"])
    assert {case for case, _ in rows(tmp_path)} == {"c"}
