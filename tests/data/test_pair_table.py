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

"""Tables of pairs, as people and spreadsheets write them."""

from __future__ import annotations

import pytest

from scripts.data.pair_table import read_pair_table


def test_a_table_has_its_columns_in_any_order_and_its_paths_beside_it(tmp_path):
    (tmp_path / "pairs.csv").write_text("\ufefffixed, moving, fixed_label\nb.nii.gz, x/a.nii.gz, c.nii.gz\n", "utf-8")
    (pair,) = read_pair_table(tmp_path / "pairs.csv")
    assert pair == {
        "name": "a_to_b",
        "moving": {"case": "a", "image": str(tmp_path / "x" / "a.nii.gz")},
        "fixed": {"case": "b", "image": str(tmp_path / "b.nii.gz"), "label": str(tmp_path / "c.nii.gz")},
    }


def test_a_pair_may_have_a_name_of_its_own(tmp_path):
    (tmp_path / "pairs.csv").write_text("moving,fixed,name\na.nii,b.nii,first\na.nii,b.nii,\n")
    assert [pair["name"] for pair in read_pair_table(tmp_path / "pairs.csv")] == ["first", "a_to_b"]


def test_the_pairs_of_an_evaluation_are_pairs_too(tmp_path, write_json):
    pairs = [{"moving": {"image": "a.nii.gz"}, "fixed": {"image": "c.nii.gz", "case": "C"}}]
    (pair,) = read_pair_table(write_json(tmp_path / "pairs.json", {"pairs": pairs}))
    assert (pair["name"], pair["moving"]["image"]) == ("a_to_C", str(tmp_path / "a.nii.gz"))


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such table of pairs"):
        read_pair_table(tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moving,target\na.nii.gz,b.nii.gz\n", "moving, target"),
        ("", "found nothing"),
        ("moving;fixed\na.nii.gz;b.nii.gz\n", "separated by commas"),
        ("moving,fixed\n", "holds no pair"),
        ("moving,fixed\na.nii.gz,b.nii.gz\n,b.nii.gz\n", "line 3"),
        ("moving,fixed\na.nii.gz,b.nii.gz,c.nii.gz\n", "line 2"),
        ("moving,fixed\na.nii.gz,b.nii.gz\nx/a.nii.gz,b.nii.gz\n", "several pairs are named a_to_b"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(text, message, tmp_path):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pair_table(tmp_path / "pairs.csv")
