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
"""Means over what exists, the table of the terminal, and files that are whole or not there."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from scripts.files.tables import write_csv
from scripts.report.scores import OVERLAPS, format_table, mean, mean_std, summarise, write_examples

NAN = math.nan
STRUCTURES = ("left", "right")
#: case -> Dice of each structure
DICE = {"a": (1.0, NAN), "b": (0.5, 0.7), "c": (NAN, NAN)}


def rows_of(dice, prefix=""):
    return [
        {"case": case, "structure": name, **dict.fromkeys((f"{prefix}{measure}" for measure in OVERLAPS), value)}
        for case, values in dice.items()
        for name, value in zip(STRUCTURES, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 3.0], (2.0, 1.0, 2)),
        ([1.0, NAN, 3.0], (2.0, 1.0, 2)),
        ([4.0], (4.0, 0.0, 1)),
        ([4.0, math.inf], (4.0, 0.0, 1)),
        ([NAN], (None, None, 0)),
        ([], (None, None, 0)),
    ],
)
def test_mean_and_population_sd_are_over_the_values_that_exist(values, expected):
    found = mean_std(values)
    assert (found["mean"], found["std"], found["n"]) == expected
    assert mean(values) == expected[0] if expected[0] is not None else math.isnan(mean(values))


@pytest.mark.parametrize("prefix", ["", "identity_"])
def test_a_case_counts_once_whatever_structures_it_has(prefix):
    # a: 1; b: (0.5 + 0.7) / 2 = 0.6; c has no structure. Not (1 + 0.5 + 0.7) / 3, which would count b twice
    summary = summarise(rows_of(DICE, prefix), ("case",), STRUCTURES, prefix)
    assert summary["n"] == 3
    for measure in OVERLAPS:
        found = summary[measure]
        assert (found["mean"], found["std"], found["n"]) == (pytest.approx(0.8), pytest.approx(0.2), 2)
        assert found["per_structure"] == {
            "left": {"mean": 0.75, "std": 0.25, "n": 2},
            "right": {"mean": 0.7, "std": 0.0, "n": 1},
        }


def test_a_pair_is_told_from_its_reverse():
    rows = [
        {"moving": moving, "fixed": fixed, "structure": "left", **dict.fromkeys(OVERLAPS, value)}
        for moving, fixed, value in (("a", "b", 0.0), ("b", "a", 1.0))
    ]
    summary = summarise(rows, ("moving", "fixed"), ["left"])
    assert (summary["n"], summary["dice"]["mean"], summary["dice"]["std"]) == (2, 0.5, 0.5)


def test_the_table_has_a_line_for_each_task_and_structure_and_a_dash_for_what_is_absent():
    field = {"folding_percent": mean_std([0.25]), "sdlogj": mean_std([0.5]), "seconds": mean_std([1.0, 2.0])}
    pairs = {"a": (0.5, NAN), "b": (0.25, NAN)}
    metrics = {
        "structures": list(STRUCTURES),
        "identity": summarise(rows_of(pairs), ("case",), STRUCTURES),
        "registration": summarise(rows_of(pairs), ("case",), STRUCTURES) | field,
    }
    scores = ["0.375", "+-", "0.125"] * 5 + ["2"]
    assert [line.split() for line in format_table(metrics).splitlines()] == [
        ["Dice", "HD95", "mm", "ASD", "mm", "surface", "Dice", "1", "surface", "Dice", "2", "n"],
        ["registration", *scores],
        ["left", *scores],
        ["right", *"-----", "0"],
        ["folding", "0.2500", "%,", "SD", "log", "J", "0.500,", "1.50", "s", "a", "pair"],
        ["no", "registration", *scores],
        ["left", *scores],
        ["right", *"-----", "0"],
    ]


def test_a_figure_over_fewer_cases_than_dice_says_over_how_many_in_the_table_and_in_json():
    rows = rows_of({"a": (1.0, 0.0), "b": (0.5, 0.5), "c": (0.5, NAN)})
    rows[1] |= {"hd95": NAN, "asd": NAN}  # the right one of a was missed; c has none, which is right
    summary = summarise(rows, ("case",), STRUCTURES)
    assert {name: summary[name]["values"] for name in OVERLAPS} == {
        **dict.fromkeys(("dice", "surface_dice_1", "surface_dice_2"), 5),
        **dict.fromkeys(("hd95", "asd"), 4),
    }
    assert summary["surface_dice_1"]["per_structure"]["right"] == {"mean": 0.25, "std": 0.25, "n": 2}
    _, mean_line, left, right, note = format_table({"structures": STRUCTURES, "segmentation": summary}).splitlines()
    assert mean_line.count("(4 of 5)") == 2 and " of " not in left and right.count("(1 of 2)") == 2
    assert right.split()[-1] == "2" and note.startswith("(k of n): a structure that was missed")


def test_the_figures_of_an_older_evaluation_are_a_table_with_dashes():
    rows = [{key: value for key, value in row.items() if "surface" not in key} for row in rows_of({"a": (1.0, 0.5)})]
    summary = summarise(rows, ("case",), STRUCTURES)
    assert summary["surface_dice_1"]["n"] == summary["surface_dice_1"]["values"] == 0
    old = {key: value for key, value in summary.items() if "surface" not in key}
    for table in (summary, old):
        lines = format_table({"structures": STRUCTURES, "segmentation": table}).splitlines()
        assert lines[1].split()[-3:] == ["-", "-", "1"]


def test_the_columns_of_the_table_stand_below_each_other_for_long_names():
    names = ("a", "the left atrium with its appendage")
    rows = [{"case": "x", "structure": name, **dict.fromkeys(OVERLAPS, 0.5)} for name in names]
    lines = format_table({"structures": list(names), "segmentation": summarise(rows, ("case",), names)}).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_rows_become_a_csv_with_six_digits_and_empty_fields_for_what_does_not_exist(tmp_path):
    path = tmp_path / "folder" / "scores.csv"
    write_csv(path, [{"case": "a,b", "dice": 2 / 3, "hd95": NAN, "asd": np.float32(NAN), "n": 12345678}])
    with open(path, newline="") as file:
        assert list(csv.reader(file)) == [
            ["case", "dice", "hd95", "asd", "n"],
            ["a,b", "0.666667", "", "", "12345678"],
        ]
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_a_task_without_rows_leaves_no_csv_of_an_earlier_run(tmp_path):
    path = tmp_path / "scores.csv"
    for _ in range(2):  # nothing to remove is as well
        write_csv(path, [])
        assert list(tmp_path.iterdir()) == []
        write_csv(path, [{"case": "a"}])
        write_csv(path, [])


def test_a_csv_that_cannot_be_finished_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "scores.csv"
    write_csv(path, [{"case": "a"}])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="colour"):
        write_csv(path, [{"case": "b"}, {"colour": "red"}])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def example(value):
    return {"image": np.full((2, 2, 2), value, np.float32), "case": f"case {value}", "dice": value}


def test_examples_are_written_by_rank_and_those_of_an_earlier_run_removed_by_task(tmp_path):
    folder = tmp_path / "examples"
    for task in ("segmentation", "registration"):
        write_examples(tmp_path, task, [example(0.25), example(0.5), example(0.75)])
    ranks = {"worst": 0.25, "median": 0.5, "best": 0.75}
    names = {f"{task}_{rank}.npz" for task in ("segmentation", "registration") for rank in ranks}
    assert {path.name for path in folder.iterdir()} == names
    for rank, value in ranks.items():
        with np.load(folder / f"segmentation_{rank}.npz") as found:
            assert (str(found["case"]), float(found["dice"])) == (f"case {value}", value)
            assert found["image"].dtype == np.float32 and (found["image"] == value).all()

    write_examples(tmp_path, "segmentation", [])
    assert {path.name for path in folder.iterdir()} == {f"registration_{rank}.npz" for rank in ranks}


class BreaksWhenSaved:
    """Stands for a full disk: the file is open and partly written when it raises."""

    def __reduce__(self):
        raise OSError("no space left on device")


def test_an_example_that_cannot_be_finished_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    write_examples(tmp_path, "segmentation", [example(0.25)])
    path = tmp_path / "examples" / "segmentation_worst.npz"
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        write_examples(tmp_path, "segmentation", [example(0.5) | {"rest": np.array(BreaksWhenSaved())}])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
