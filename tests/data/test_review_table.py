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
"""The table of segmentations to look at, from facts that are made up."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import stats

from scripts.data.review_table import Line, ModelReview, fit_line, write_model_review

LABELS = {"0": "background", "9": "left", "10": "right"}
PLAIN = {"estimate": 0.9, "agreement": None, "volume_ml": 10.0, "pieces": 1, "touches_border": False, "elongation": 1.0}


def facts(**changes):
    volume = {"mean": 10.0, "sd": 1.0}
    return {"calibration": None, "volume_ml": volume, "pieces": 1, "touches_border": False} | changes


def reviewed(folder, cases, structures=None, voted=False):
    (folder / "model.pt").write_bytes(b"weights")
    if structures is not None:
        write_model_review(folder / "model.pt", structures)
    review = ModelReview(folder, LABELS, voted)
    review.read()
    return review.rows(cases)


def test_a_line_through_cases_that_lie_on_one_is_that_line_and_has_no_width():
    line = fit_line([0.5, 0.6, 0.7, 0.8, 0.9], [0.2, 0.4, 0.6, 0.8, 1.0])
    assert (line.slope, line.intercept, line.sd) == (pytest.approx(2), pytest.approx(-0.8), pytest.approx(0, abs=1e-9))
    assert line.at(0.75) == pytest.approx((0.7, 0.7, 0.7))
    assert line.at(0.2) == pytest.approx((0, 0, 0)) and line.at(1.0) == pytest.approx((1, 1, 1))


def test_few_cases_shift_the_estimate_and_one_says_nothing_of_the_width():
    line = fit_line([0.8, 0.9, 1.0], [0.75, 0.8, 0.85])  # 0.05, 0.1 and 0.15 too much
    assert (line.slope, line.intercept, line.sd) == (1, pytest.approx(-0.1), pytest.approx(0.05))
    half = stats.t.ppf(0.95, 2) * 0.05 * np.sqrt(4 / 3)
    assert line.at(0.6) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert fit_line([0.8], [0.7]).at(0.9) == (pytest.approx(0.8), None, None)


def test_a_line_never_falls():
    line = fit_line([0.5, 0.6, 0.7, 0.8, 0.9], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert line.slope == 0 and line.at(0.5)[0] == line.at(0.9)[0] == pytest.approx(0.7)


def test_nine_of_ten_new_cases_lie_in_the_interval():
    random, inside = np.random.default_rng(0), []
    for _ in range(400):
        estimates = random.uniform(0.6, 0.9, 9)
        dice = 0.1 + 0.8 * estimates + random.normal(0, 0.02, 9)
        _, low, high = fit_line(estimates[:8], dice[:8]).at(estimates[8])
        inside.append(low <= dice[8] <= high)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_a_model_that_nothing_is_known_of_gives_raw_estimates_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        rows = reviewed(tmp_path, {"a": [PLAIN, PLAIN]})
    assert [row["structure"] for row in rows] == ["left", "right"]
    assert all(row["estimated_dice"] == 0.9 and row["low"] is row["high"] is row["volume_z"] is None for row in rows)
    assert "estimates are not calibrated" in caplog.text


def test_what_training_left_calibrates_and_scores_the_volume(tmp_path):
    line = Line(slope=1.0, intercept=-0.1, sd=0.02, n=20, mean=0.9, spread=0.0)
    left, right = reviewed(
        tmp_path, {"a": [PLAIN, PLAIN | {"volume_ml": 8}]}, {9: facts(calibration=line), 10: facts()}
    )
    left, right = sorted((left, right), key=lambda row: row["structure"])
    assert left["estimated_dice"] == pytest.approx(0.8) and left["low"] < 0.8 < left["high"]
    assert (right["estimated_dice"], right["low"], right["volume_z"]) == (0.9, None, -2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"estimate": 0.69}, "estimated Dice below 0.7"),
        ({"agreement": 0.5}, "network and vote agree by less than 0.7"),
        ({"volume_ml": 13.5}, "much larger than in labelled cases"),
        (
            {"volume_ml": 6.5, "pieces": 3},
            "much smaller than in labelled cases; in 3 pieces, in labelled cases at most 1",
        ),
        ({"touches_border": True}, "touches the border"),
        ({"estimate": 0.0, "volume_ml": 0, "pieces": 0}, "nothing was found"),
    ],
)
def test_a_flag_has_its_reason(tmp_path, changes, reason):
    rows = reviewed(tmp_path, {"a": [PLAIN | changes, PLAIN]}, {9: facts(), 10: facts()})
    (row,) = (row for row in rows if row["structure"] == "left")
    assert (row["flag"], row["reason"]) == ("yes" if reason else "no", reason)


def test_a_structure_that_labelled_cases_cut_off_may_touch_the_border(tmp_path):
    rows = reviewed(
        tmp_path, {"a": [PLAIN | {"touches_border": True}] * 2}, {9: facts(touches_border=True), 10: facts()}
    )
    assert {row["structure"]: row["flag"] for row in rows} == {"left": "no", "right": "yes"}


def test_the_worst_come_first(tmp_path):
    cases = {
        "a": [PLAIN | {"estimate": 0.8}, PLAIN | {"touches_border": True}],
        "b": [PLAIN | {"estimate": 0.3}, PLAIN],
    }
    rows = reviewed(tmp_path, cases)
    assert [(row["case"], row["estimated_dice"]) for row in rows] == [("b", 0.3), ("a", 0.9), ("a", 0.8), ("b", 0.9)]


def test_what_was_learned_of_other_weights_is_not_used(tmp_path, caplog):
    line = Line(slope=1.0, intercept=-0.1, sd=None, n=1, mean=0.9, spread=0.0)
    (tmp_path / "model.pt").write_bytes(b"earlier weights")
    write_model_review(tmp_path / "model.pt", {9: facts(calibration=line), 10: facts(calibration=line)})
    rows = reviewed(tmp_path, {"a": [PLAIN, PLAIN]})
    assert [row["estimated_dice"] for row in rows] == [0.9, 0.9] and "other weights" in caplog.text


def test_votes_are_not_calibrated_by_what_was_learned_of_the_network_alone(tmp_path):
    line = Line(slope=1.0, intercept=-0.1, sd=None, n=1, mean=0.9, spread=0.0)
    known = {9: facts(calibration=line), 10: facts(calibration=line)}
    rows = reviewed(tmp_path, {"a": [PLAIN, PLAIN]}, known, voted=True)
    assert [(row["estimated_dice"], row["volume_z"]) for row in rows] == [(0.9, 0), (0.9, 0)]


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"structures": {"9": {"calibration": {"slope": "$1"}}}}', '{"structures": 3}']
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "review.json").write_text(content)
    with pytest.raises(ValueError, match=r"review\.json"):
        ModelReview(tmp_path, LABELS).read()
