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
"""The benchmark of methods: what is run and what is skipped, and what the table, the intervals and the figures say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks.runs.paired import paired_difference
from benchmarks.runs.plots import box_plots, draw_figures, label_curves
from benchmarks.runs.records import dice_by_case, dice_table, read_records, write_record
from benchmarks.runs.tables import difference_table, figure_table, markdown, structure_table

CASES = ("a", "b", "c", "d")


def scores(values):
    return {(case,): value for case, value in zip(CASES, values, strict=False)}


def record(method, dice, seed=0, augmented=True, num_labeled=4, **more):
    """A run of segmentation with two structures: on every case `dice` and 0.1 less."""
    rows = [
        {"case": case, "structure": name, "dice": value - lower}
        for case, value in zip(CASES, dice, strict=True)
        for name, lower in (("front", 0.0), ("back", 0.1))
    ]
    means = np.array(dice) - 0.05
    summary = {"mean": means.mean(), "std": means.std(), "n": len(CASES)}
    return {
        "method": method,
        "augmented": augmented,
        "num_labeled": num_labeled,
        "seed": seed,
        "train_seconds": 120.0,
        "metrics": {"segmentation": {"dice": summary, "hd95": {"mean": 2.0, "std": 0.5, "n": len(CASES)}}},
        "cases": {"segmentation": dice_by_case("segmentation", rows)},
        **more,
    }


def row_of(table, method):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {method} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


# ---- intervals


def test_the_interval_of_a_constant_difference_is_that_constant():
    difference = paired_difference([scores([0.9, 0.7, 0.4, 0.8])], [scores([0.8, 0.6, 0.3, 0.7])])
    assert [difference.mean, difference.low, difference.high] == pytest.approx([0.1, 0.1, 0.1])
    assert difference.n == 4


def test_the_interval_over_cases_is_that_of_the_normal_distribution():
    cases = [(str(i),) for i in range(400)]
    deviations = np.random.default_rng(1).normal(0.02, 0.1, 400)
    hard = np.random.default_rng(2).normal(0.0, 1.0, 400)  # what both methods share does not count
    method = dict(zip(cases, hard + deviations, strict=True))
    difference = paired_difference([method], [dict(zip(cases, hard, strict=True))])
    half = 1.96 * deviations.std() / 20
    assert difference.low == pytest.approx(deviations.mean() - half, abs=0.05 * half)
    assert difference.high == pytest.approx(deviations.mean() + half, abs=0.05 * half)


def test_two_seeds_widen_the_interval_by_what_two_seeds_can_tell():
    # all cases alike, so that only the seeds vary: 0.5 -+ 0.1, spread by sqrt(2) since two draws show half the variance
    difference = paired_difference([scores([0.4] * 4), scores([0.6] * 4)], [scores([0.5] * 4)])
    assert [difference.mean, difference.low, difference.high] == pytest.approx([0, -0.1 * 2**0.5, 0.1 * 2**0.5])


def test_only_cases_that_all_runs_have_are_compared():
    assert paired_difference([scores([0.9, 0.7])], [scores([0.8, 0.5, 0.1])]).n == 2
    with pytest.raises(ValueError, match="no case is in all runs"):
        paired_difference([{("x",): 1.0}], [scores([0.5])])


# ---- records and tables


def test_a_record_comes_back_and_keeps_a_list_on_one_line(tmp_path):
    written = record("deeprs", [0.9, 0.8, 0.7, 0.6])
    write_record(tmp_path / "set" / "deeprs_aug_s0.json", written)
    assert read_records("set", tmp_path) == [written]
    assert '"case": [ "a", "b", "c", "d" ]' in (tmp_path / "set" / "deeprs_aug_s0.json").read_text()
    with pytest.raises(FileNotFoundError, match="no results"):
        read_records("other", tmp_path)


def test_a_case_counts_by_the_structures_that_it_has():
    rows = [
        {"case": case, "structure": structure, "dice": dice}
        for case, structure, dice in [("a", "x", 0.5), ("a", "y", ""), ("b", "x", "nan"), ("b", "y", float("nan"))]
    ]
    entry = {"cases": {"segmentation": dice_by_case("segmentation", rows)}}
    assert json.loads(json.dumps(entry))["cases"]["segmentation"]["dice"] == {"x": [0.5, None], "y": [None, None]}
    assert dice_table(entry, "segmentation") == {("a",): 0.5}
    assert dice_table(entry, "registration") == {}


def test_the_table_has_mean_deviation_over_cases_and_range_over_seeds():
    records = [record("unet", [0.9, 0.9, 0.7, 0.7]), record("unet", [0.8, 0.8, 0.6, 0.6], seed=1)]
    row = row_of(figure_table(records), "unet")
    assert row[:4] == ["unet", "on", "4", "70.00 ± 10.00 (65.00..75.00)"]
    assert row[5:] == ["-", "-", "-", "2", "2"]


def test_minutes_of_a_training_that_was_cut_off_are_not_shown():
    assert row_of(figure_table([record("unet", [0.5] * 4, resumed=True)]), "unet")[-1] == "-"


def test_differences_are_to_the_reference_with_the_same_augmentation_and_labels():
    records = [
        record("deeprs", [0.8, 0.7, 0.6, 0.5]),
        record("deeprs", [0.1, 0.1, 0.1, 0.1], num_labeled=1),
        record("deeprs", [0.2, 0.2, 0.2, 0.2], augmented=False),
        record("unet", [0.7, 0.6, 0.5, 0.4]),
        record("greedy_majority", [0.85, 0.75, 0.65, 0.55], augmented=None, seed=None),
    ]
    table = difference_table(records)
    assert row_of(table, "unet")[1:] == ["on", "4", "-10.00 (-10.00..-10.00)\\*", "-"]
    lines = [line for line in table.splitlines() if line.startswith("| greedy_majority")]
    assert [line.split("|")[2].strip() for line in lines] == ["off", "on"]
    assert "+5.00 (+5.00..+5.00)" in lines[1]


def test_runs_without_dice_by_case_have_figures_and_no_difference():
    bare = [
        {key: value for key, value in record(name, [0.5] * 4).items() if key != "cases"} for name in ("deeprs", "unet")
    ]
    assert row_of(markdown(bare), "unet")[3] == "45.00 ± 0.00"
    assert difference_table(bare) == ""


def test_the_table_of_the_results_in_the_repository_names_every_method():
    records = read_records("hippocampus")
    table = markdown(records)
    assert {record["method"] for record in records} == {
        line.split("|")[1].strip() for line in table.split("\n\n")[1].splitlines()[2:]
    }


def test_the_reference_need_not_be_among_the_rows():
    runs = [record("unet", (0.5, 0.6, 0.7, 0.8)), record("deeprs", (0.6, 0.7, 0.8, 0.9))]
    assert row_of(difference_table(runs[:1], of_reference=runs[1:]), "unet")[3].startswith("-10.00 ")


def test_the_table_of_structures_has_each_method_and_task_over_seeds():
    def run(seed, dice, task, method="deeprs"):
        structures = {name: {"mean": value, "n": 2 if value else 0} for name, value in dice.items()}
        plan = {"method": method, "augmented": True, "num_labeled": 4, "seed": seed}
        return plan | {"metrics": {task: {"dice": {"per_structure": structures}}}}

    table = structure_table(
        [
            run(0, {"a": 0.5, "b": 0.9}, "segmentation"),
            run(1, {"a": 0.7, "b": 0.9}, "segmentation"),
            run(0, {"a": 0.25}, "registration", "voxelmorph"),
        ]
    )
    assert table.splitlines() == [
        "| structure | S: deeprs (on, 4) | R: voxelmorph (on, 4) |",
        "|---|---|---|",
        "| a | 60.0 | 25.0 |",
        "| b | 90.0 | - |",
    ]


# ---- figures


def test_boxes_are_ranked_and_show_the_mean_over_runs():
    records = [record("unet", [0.5, 0.6, 0.7, 0.8]), record("unet", [0.7, 0.8, 0.9, 1.0], seed=1)]
    records.append(record("vnet", [0.3, 0.4, 0.5, 0.6]))
    front, back = box_plots(records, "segmentation").axes
    assert [label.get_text() for label in front.get_yticklabels()] == ["vnet", "unet"]
    assert [panel.get_title() for panel in (front, back)] == ["front", "back"]
    medians = [line.get_xdata()[0] for line in front.lines if line.get_color() == "C1"]
    assert medians == pytest.approx([0.45, 0.75])


def test_a_curve_goes_through_the_means_over_seeds_and_its_bars_span_them():
    runs = [(1, 0, 0.5), (1, 1, 0.7), (4, 0, 0.8)]
    records = [record("unet", [dice] * 4, seed, num_labeled=labels) for labels, seed, dice in runs]
    panel = label_curves([*records, record("vnet", [0.5] * 4)]).axes[0]
    (curve,) = panel.containers
    assert curve.get_label() == "unet, augmentation on"
    assert curve[0].get_xydata() == pytest.approx(np.array([[1, 55], [4, 75]]))
    assert curve[2][0].get_segments()[0][:, 1] == pytest.approx([45, 65])


def test_a_method_has_one_colour_and_an_augmentation_one_dash_in_the_curves():
    kinds = [(method, augmented) for method in ("unet", "vnet") for augmented in (True, False)]
    records = [record(method, [0.5] * 4, 0, augmented, n) for method, augmented in kinds for n in (1, 4)]
    lines = {curve.get_label(): curve[0] for curve in label_curves(records).axes[0].containers}
    look = {kind: (line.get_color(), line.get_linestyle()) for kind, line in lines.items()}
    assert len(look) == len(set(look.values())) == 4
    for method in ("unet", "vnet"):
        (on, solid), (off, dashed) = (look[f"{method}, augmentation {name}"] for name in ("on", "off"))
        assert on == off and (solid, dashed) == ("-", "--")


def test_figures_are_written_for_what_there_is(tmp_path):
    files = draw_figures([record("unet", [0.5, 0.6, 0.7, 0.8])], tmp_path, augmented=True, num_labeled=4)
    assert [file.name for file in files] == ["boxes_segmentation.png"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert draw_figures([record("unet", [0.5] * 4)], tmp_path, augmented=False, num_labeled=4) == []


def test_a_structure_that_was_missed_counts_as_zero_and_one_that_is_nowhere_not_at_all():
    rows = [{"case": "a", "structure": "s", "dice": 0.0}, {"case": "b", "structure": "s", "dice": "0.0"}]
    rows += [
        {"case": name, "structure": "s", "dice": nothing} for name, nothing in zip("cd", (math.nan, ""), strict=True)
    ]
    assert dice_by_case("segmentation", rows)["dice"] == {"s": [0.0, 0.0, None, None]}
