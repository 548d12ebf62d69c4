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
from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from bundle_runs import names_in
from PIL import Image
from synthetic_evaluation import write_evaluation

from scripts.report.page import UNDEFINED, mean_and_spread, number, text
from scripts.report.write import Report

ODD = ('<script>alert("1")</script>', "a & b $x$ 'c'")
TITLE = "A <title> & more"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a page is made of: its elements, its text, and whether every element is closed in turn."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.style = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)
        elif self.open[-1] == "style":
            self.style += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def prose(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder, **settings):
    path = Report(folder, **settings).run()
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return read(
        write_evaluation(tmp_path_factory.mktemp("both") / "evaluation", structures=ODD), title="A <title> & more"
    )


def test_the_report_is_one_file_in_the_evaluation_folder(tmp_path):
    folder = write_evaluation(tmp_path / "evaluation", tasks=["segmentation"], cases=["a"])
    before = {path.name for path in folder.iterdir()}
    path = Report(folder).run()
    assert path == folder / "report.html"
    assert names_in(folder) == before | {"report.html"}


def test_a_new_report_replaces_the_old_one_and_no_page_of_somebody_else(tmp_path):
    folder = write_evaluation(tmp_path / "evaluation", tasks=["segmentation"], cases=["a"])
    assert "yesterday" in read(folder, title="yesterday").prose
    assert "yesterday" not in read(folder).prose
    (folder / "report.html").write_text("a thesis")
    with pytest.raises(FileExistsError, match=r"(?s)did not write them.*report\.html.*--overwrite true"):
        read(folder)
    assert (folder / "report.html").read_text() == "a thesis"
    assert "thesis" not in read(folder, overwrite=True).prose


def test_the_page_is_closed_element_by_element(page):
    assert page.open == []
    assert page.elements[0][0] == "html"


def test_the_page_asks_for_nothing_from_elsewhere(page):
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert page.named("script") and not any("src" in attributes for attributes in page.named("script"))
    (policy,) = (meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert {image["src"].partition(",")[0] for image in page.named("img")} == {"data:image/png;base64"}
    assert "@import" not in page.style and "url(" not in page.style
    assert not any("href" in attributes for _, attributes in page.elements)


def test_every_picture_opens_and_says_what_it_shows(page):
    images = page.named("img")
    assert len(images) == 1 + 3 * 1 + 3 * 3  # box plot; a segmentation; images, structures and deformation of a pair
    for image in images:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))) as picture:
            picture.load()
            assert picture.format == "PNG"
        assert image["alt"]
    assert len(page.named("figcaption")) == len(images) + len(page.named("canvas"))


def test_names_are_shown_as_they_are_written(page):
    for name in (*ODD, TITLE):
        assert name in page.prose


def test_the_tables_hold_the_numbers_of_the_evaluation(page):
    distances = ["4.50 ± 0.06 (3 of 6)", "1.25 ± 0.06 (3 of 6)"]  # the second structure has none in any of 3 cases
    assert ["Segmentation", "0.600 ± 0.062", *distances, "–", "–", "–", "3"] in page.rows
    field = ["0.125 ± 0.062", "0.375 ± 0.062", "2.50 ± 0.06"]
    assert ["Registration", "0.700 ± 0.062", *distances, *field, "3"] in page.rows
    assert ["No registration", "0.250 ± 0.062", *distances, "–", "–", "–", "3"] in page.rows
    assert [ODD[0], "0.600 ± 0.062", "0.700 ± 0.062", "0.250 ± 0.062"] in page.rows


def test_a_distance_over_fewer_structures_than_dice_says_so_in_each_case(page):
    assert ["a", "0.500", "4.50 (1 of 2)", "1.25 (1 of 2)"] in page.rows


def test_every_case_is_listed_worst_first(page):
    first = [row[0] for row in page.rows if len(row) == 8 and "target" in row[0]]
    assert first == ["a → target", "b → target", "c → target"]


def test_a_pair_shows_its_structures_before_and_after(page):
    assert [ODD[0], "0.250 → 0.700", "4.50 → 4.50"] in page.rows
    assert [ODD[1], "0.250 → 0.700", "– → –"] in page.rows


def test_settings_of_the_evaluation_are_stated(page):
    assert ["recipe", "deeprs"] in page.rows
    assert ["sizes", "[16, 20, 12]"] in page.rows


def test_what_is_not_defined_is_a_dash(page):
    assert not re.search(r"\bnan\b|\bNone\b", page.prose)
    assert [ODD[1], *["– (0 of 3)"] * 3] in page.rows


@pytest.mark.parametrize(
    ("task", "other", "pictures"), [("segmentation", "Registration", 2), ("registration", "Segmentation", 4)]
)
def test_a_method_of_one_task_has_a_report_of_that_task(tmp_path, task, other, pictures):
    folder = write_evaluation(tmp_path / "evaluation", tasks=[task], cases=["a"], with_confidence=False)
    page = read(folder)
    assert len(page.named("img")) == pictures
    assert not any(row[0] == other for row in page.rows)
    assert "Onlya" in "".join(page.words)


def test_a_missing_evaluation_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="monai.bundle run evaluating"):
        Report(tmp_path / "nowhere").run()


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(0.12345, 3, "0.123"), (-1.5, 1, "−1.5"), (float("nan"), 2, UNDEFINED), (None, 2, UNDEFINED)],
)
def test_numbers_are_rounded_or_a_dash(value, digits, shown):
    assert number(value, digits) == shown


@pytest.mark.parametrize(
    ("statistics", "shown"),
    [
        ({"mean": 0.5, "std": 0.25}, '0.50 <span class="spread">± 0.25</span>'),
        ({"mean": 0.5, "std": None}, "0.50"),
        ({"mean": float("nan"), "std": 0.0}, UNDEFINED),
        ({"mean": None, "std": None}, UNDEFINED),
        (None, UNDEFINED),
    ],
)
def test_a_mean_comes_with_its_spread_where_there_is_one(statistics, shown):
    assert mean_and_spread(statistics, 2) == shown


def test_an_evaluation_without_affines_says_that_its_orientation_is_unknown(page):
    assert page.prose.count("Orientation unknown") == 2
    assert "The view is" not in page.prose


@pytest.mark.parametrize(("view", "side"), [("radiological", "left"), ("neurological", "right")])
def test_the_page_says_on_which_side_the_patients_right_is(tmp_path, view, side):
    folder = write_evaluation(tmp_path / "evaluation", cases=["a"], affine=np.diag([-1.0, -1.5, 2.0, 1.0]))
    page = read(folder, view=view)
    told = f"The view is {view}: the patient's right is on the {side} of axial and coronal slices."
    assert page.prose.count(told) == 2 and "oblique" not in page.prose and "unknown" not in page.prose


def test_the_page_says_that_a_volume_is_oblique_and_by_how_much(tmp_path):
    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    page = read(write_evaluation(tmp_path / "evaluation", tasks=["segmentation"], cases=["a"], affine=affine))
    assert "The volumes are oblique: their axes are up to 20° off the sides that the letters name." in page.prose


def test_a_view_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match="view: expected one of"):
        Report(tmp_path, view="upside down")


def test_text_cannot_open_or_close_an_element_or_an_attribute():
    assert not set(text("<>\"'")) & set("<>\"'")
