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
"""The report of segmentations that have no labels to be compared with, of volumes with known shapes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scripts.data.label_map_folder import LabelMapFolder
from scripts.data.review_table import ModelReview
from scripts.fields.volumes import write_volume
from scripts.report.review_page import outliers, read_review
from scripts.report.write import Report

SIDES = (4, 4, 4, 4, 4, 9)  # the last one is large


@pytest.fixture
def segmented(tmp_path):
    """Six cubes in images of noise, the fourth of them uncertain; the first image has gone since."""
    cases = [{"case": f"<{number}>", "image": str(tmp_path / f"{number}.nii.gz")} for number in range(6)]
    results = LabelMapFolder(tmp_path / "out", review=ModelReview(tmp_path, {"7": "cube & co"}))
    for case in cases:
        image = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
        write_volume(case["image"], image, np.eye(4))
    results.begin(cases)
    results.left(cases)
    for number, case in enumerate(cases):
        label = np.zeros((12, 12, 12), np.uint8)
        label[1 : 1 + SIDES[number], 1 : 1 + SIDES[number], 1 : 1 + SIDES[number]] = 7
        found = {"estimate": [0.4 if number == 3 else 0.9], "cut_off": [False]}
        results.write(case["case"], label, np.eye(4), review=found)
    results.run(lambda: None)
    (tmp_path / "0.nii.gz").unlink()
    return tmp_path / "out"


def test_the_case_of_unusual_size_is_found_and_no_other(segmented):
    rows = read_review(segmented)
    assert [(row["case"], usual) for row, usual in outliers(rows, "volume_ml")] == [("<5>", pytest.approx(0.064))]
    assert outliers(rows, "elongation") == []
    assert outliers(rows[:4], "volume_ml") == []  # too few to say


def test_the_page_has_the_worst_first_with_pictures_and_fetches_nothing(segmented):
    page = Report(segmented).run().read_text()
    rows = re.findall(r'<tr><th scope="row">&lt;(\d)&gt;</th><td>cube &amp; co</td><td>([\d.]+)</td>', page)
    assert rows[0] == ("3", "0.400") and len(rows) == 6
    assert "estimated Dice below 0.7" in page and "<td>volume, ml</td><td>0.73</td><td>0.06</td>" in page
    assert page.count("data:image/png;base64,") == 5 and "the image is missing" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "default-src 'none'" in page


def test_a_review_of_another_form_is_refused(tmp_path):
    (tmp_path / "review.csv").write_text("case,structure\na,b\n")
    with pytest.raises(ValueError, match=r"review\.csv' lacks the columns"):
        Report(tmp_path).run()
