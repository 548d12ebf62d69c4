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
"""The claims in one table, a few methods on several data sets, and the figures and generated parts of the documents."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import ROOT
from benchmarks.documents import figures, reference
from benchmarks.runs import claims, overview
from benchmarks.runs.records import read_records

FULL = {"S": "segmentation", "R": "registration"}


def mean_dice(dataset, method, augmented, labels, task):
    """In percent, from the means that a run itself wrote down."""
    runs = [
        r
        for r in read_records(dataset)
        if (r["method"], r["augmented"], r["num_labeled"]) == (method, augmented, labels)
    ]
    return 100 * np.mean([run["metrics"][FULL[task]]["dice"]["mean"] for run in runs])


def test_a_claim_is_the_difference_of_the_means_of_its_two_methods():
    asked = list(claims.asked())
    assert len(asked) == len(claims.CLAIMS) * 3 * 2
    for claim, dataset, augmented, found in asked:
        ours, other = (
            mean_dice(dataset, method, augmented, claim.num_labeled, claim.task)
            for method in (claim.method, claim.reference)
        )
        assert 100 * found.mean == pytest.approx(ours - other, abs=0.05)
        assert found.low <= found.mean <= found.high


def test_a_claim_is_bold_where_its_interval_leaves_out_zero():
    cells = re.findall(r"\| (\**)(-?[\d.]+)\1 \((-?[\d.]+) to (-?[\d.]+)\)", claims.table())
    assert len(cells) == len(claims.CLAIMS) * 3 * 2
    for bold, _, low, high in cells:
        if "0.0" not in (low.strip("-"), high.strip("-")):
            assert bool(bold) == (float(low) > 0 or float(high) < 0)


def test_the_figure_of_the_claims_has_a_filled_mark_where_the_table_is_bold():
    lines = [line for panel in claims.figure().axes for bar in panel.containers for line in [bar.lines[0]]]
    assert len(lines) == len(claims.CLAIMS) * 3 * 2
    filled = sum(line.get_markerfacecolor() != "white" for line in lines)
    assert filled == claims.table().count("**") // 2


def test_the_overview_has_the_means_of_the_runs_and_a_dash_where_there_are_none():
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in overview.table("none,greedy,best").splitlines()[2:]
    ]
    assert [row[0] for row in rows] == ["none", "greedy", "best"]
    assert rows[1][1] == rows[1][4] == "-" and rows[2][0] == "best"
    assert float(rows[2][1]) == pytest.approx(mean_dice("hippocampus", "best", True, 4, "S"), abs=0.05)
    assert float(rows[2][5]) == pytest.approx(mean_dice("mouse_brain", "best", True, 4, "R"), abs=0.05)
    identity = next(r["metrics"]["identity"]["dice"]["mean"] for r in read_records("mouse_brain"))
    assert float(rows[0][5]) == pytest.approx(100 * identity, abs=0.05)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_of_the_documents_was_drawn_from_the_records_that_there_are(name):
    with Image.open(ROOT / "bundle" / "docs" / name) as picture:
        assert picture.text["Source"] == figures.source(), "python -m benchmarks.documents.figures"


def test_all_figures_are_drawn(tmp_path):
    assert [path.removeprefix(f"{tmp_path}/") for path in figures.draw(str(tmp_path))] == list(figures.FIGURES)


# ---- parts made from their source


def test_the_rooms_of_the_diagram_are_those_of_the_house():
    rooms = [line.split()[0] for line in reference.rooms().splitlines()[1:-1]]
    assert sorted(rooms) == sorted(path.parent.name for path in (ROOT / "bundle" / "scripts").glob("*/__init__.py"))
    assert rooms[0] == "label" and rooms[-1] == "files"


def test_every_recipe_is_listed_with_a_whole_sentence():
    lines = reference.recipes().splitlines()
    assert len(lines) == len(list((ROOT / "bundle" / "configs" / "recipes").glob("*.yaml")))
    assert all(re.fullmatch(r"- `\w+`: .{20,}[^.]\.", line) for line in lines)


def test_a_sentence_ends_neither_after_an_initial_nor_after_et_al():
    text = "UA-MT (Yu et al., Eq. 2) by A. Person: it\nlearns. It goes on."
    assert reference.first_sentence(text) == "UA-MT (Yu et al., Eq. 2) by A. Person: it learns"


def test_the_entries_of_a_command_are_those_at_the_head_of_its_config():
    parts = reference.commands().split("## deeprs ")
    train = next(part for part in parts if part.startswith("train"))
    assert "- `max_epochs` (`50`" in train and "- `spatial_size` (`[128, 128, 96]`" in train
    assert "_target_" not in train and "network_def" not in train
    assert [part.split()[0] for part in parts[1:]] == list(reference.COMMANDS)


def test_a_part_that_is_stale_is_made_anew():
    old = "before\n<!-- generated: rooms -->\nold\n<!-- end -->\nafter"
    assert (
        reference.refreshed(old) == f"before\n<!-- generated: rooms -->\n\n{reference.rooms()}\n\n<!-- end -->\nafter"
    )
