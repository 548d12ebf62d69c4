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
"""The report in a real browser, without a network: the slider moves the slices, headings sort, nothing complains."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image
from synthetic_evaluation import SHAPE, ball, write_evaluation

from scripts.report.write import Report

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; `make setup` installs it")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; with Debian: apt-get install chromium")
STRUCTURES = ("front", "back")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Opened:
    """A page that is open, and what the browser had to say about it."""

    def __init__(self, browser, path):
        self.complaints, self.requests = [], []
        self.page = browser.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        for viewer in self.page.query_selector_all(".viewer"):
            self.page.wait_for_selector(f"#{viewer.get_attribute('id')}[data-drawn]")

    def picture(self, title, task="registration", run=0):
        """What a panel shows, as red, green and blue (H, W, 3)."""
        canvas = self.page.locator(f"#{task}-viewer .run >> nth={run}").locator(f"canvas[aria-label^='{title}']")
        data = canvas.evaluate("canvas => canvas.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def slide(self, index, task="registration"):
        """Move the slider as a hand does, by its events."""
        slider = self.page.locator(f"#{task}-viewer .slice")
        slider.evaluate("(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", index)

    def column(self, table, number):
        return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An evaluation whose worst pair has an image that grows brighter from slice to slice, and a field with folds."""
    folder = write_evaluation(tmp_path_factory.mktemp("browser") / "evaluation", structures=STRUCTURES)
    path = folder / "examples" / "registration_worst.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["moving"] = np.broadcast_to(np.arange(SHAPE[2]) / SHAPE[2], SHAPE).astype(np.float32)
    arrays["fixed"] = arrays["warped"] = arrays["moving"]
    arrays["moving_label"], arrays["fixed_label"] = np.ones(SHAPE, np.uint8), np.full(SHAPE, 2, np.uint8)
    arrays["warped_label"] = ball((8, 10, 6))
    arrays["ddf"] = np.zeros((3, *SHAPE), np.float32)
    arrays["ddf"][0, :8] = -2.0 * np.arange(8)[:, None, None]  # one half folds, in the other nothing moves
    arrays["ddf"][0, 8:] = 0.0
    np.savez(path, **arrays)
    return folder


@pytest.fixture(scope="module")
def report(browser, folder):
    return Opened(browser, Report(folder).run())


@pytest.fixture(autouse=True)
def quiet(request):
    """After each test: no word in the console, and nothing asked for but the page itself."""
    yield
    for name in ("report", "comparison"):
        if name in request.fixturenames:
            opened = request.getfixturevalue(name)
            assert opened.complaints == []
            assert [url for url in opened.requests if not url.startswith("data:")] == opened.requests[:1]


def test_the_slider_moves_the_slices(report):
    brightness = []
    for index in (0, 5, SHAPE[2] - 1):
        report.slide(index)
        brightness.append(report.picture("moving").mean())
    np.testing.assert_allclose(brightness, [0, 255 * 5 / 11, 255], atol=3)
    assert report.page.locator("#registration-viewer output").inner_text() == f"{SHAPE[2]} of {SHAPE[2]}"


def test_the_arrow_keys_move_the_slider_too(report):
    report.slide(3)
    before = report.picture("moving").mean()
    report.page.locator("#registration-viewer .slice").press("ArrowRight")
    assert report.picture("moving").mean() - before == pytest.approx(255 / 11, abs=3)


def test_images_that_are_alike_have_no_difference_and_no_seams(report):
    report.slide(5)
    assert np.ptp(report.picture("difference"), axis=(0, 1)).max() == 0
    assert np.ptp(report.picture("checkerboard"), axis=(0, 1)).max() <= 1


def test_where_nothing_moves_the_grid_is_straight_and_the_volume_is_kept(report):
    report.slide(5)
    half = report.picture("volume change")
    ink, even = half[:, : half.shape[1] * 6 // 16], half[:, half.shape[1] * 10 // 16 :]
    assert (ink < 60).all() and (even > 240).all()
    grid = report.picture("deformation")[:, half.shape[1] * 10 // 16 : -20].min(axis=-1) < 128
    assert (grid.mean(axis=0) > 0.9).sum() >= 2  # lines from the bottom to the top


def test_before_registration_the_moving_structures_are_shown(report):
    def share_of_orange(picture):
        return np.all(np.abs(picture - [0xE6, 0x9F, 0x00]) < 40, axis=-1).mean()

    report.slide(6)
    after = share_of_orange(report.picture("contours"))
    report.page.locator("#registration-viewer .before").check()
    before = share_of_orange(report.picture("contours"))
    report.page.locator("#registration-viewer .before").uncheck()
    assert after > 0.005 and before == 0  # the label that fills the volume has no outline in it


def test_another_plane_and_another_example_are_other_pictures(report):
    axial = report.picture("fixed")
    assert axial.shape[0] / axial.shape[1] == pytest.approx(20 * 1.5 / 16, rel=0.01)
    report.page.locator("#registration-viewer [value=sagittal]").check()
    sagittal = report.picture("fixed")
    assert sagittal.shape[0] / sagittal.shape[1] == pytest.approx(12 * 2 / 30, rel=0.01)
    report.page.locator("#registration-viewer select").select_option("registration-0-2")
    report.page.wait_for_function("document.querySelector('#registration-viewer select').value === 'registration-0-2'")
    report.page.locator("#registration-viewer [value=axial]").check()
    assert np.abs(report.picture("warped").shape[0] - axial.shape[0]) + np.ptp(report.picture("warped")) > 50


def test_the_slider_of_segmentation_walks_into_the_ball_and_out_of_it(report):
    seen = []
    for index in (0, 6):
        report.slide(index, task="segmentation")
        seen.append(np.ptp(report.picture("errors", task="segmentation"), axis=-1).max())
    assert seen[0] < 10 < 60 < seen[1]


@pytest.mark.parametrize("column", [2, 3])
def test_a_heading_sorts_by_its_column_and_back(report, column):
    table = report.page.locator("details table").last
    report.page.locator("details").last.evaluate("details => details.open = true")
    head = table.locator(f"thead th:nth-child({column}) button")
    head.click()
    rising = [float(cell) for cell in report.column(table, column)]
    head.click()
    falling = [float(cell) for cell in report.column(table, column)]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    assert table.locator(f"thead th:nth-child({column})").get_attribute("aria-sort") == "descending"


def test_names_are_sorted_too_and_dashes_stay_last(report):
    table = report.page.locator("details table").last
    report.page.locator("details").last.evaluate("details => details.open = true")
    table.locator("thead th:nth-child(1) button").click()
    assert report.column(table, 1) == ["a → target", "b → target", "c → target"]
    table.locator("thead th:nth-child(1) button").click()
    assert report.column(table, 1) == ["c → target", "b → target", "a → target"]
    undefined = report.page.locator(".even table").nth(1)  # HD95, which the last structure does not have
    for _ in range(2):
        undefined.locator("thead th:nth-child(2) button").click()
        assert report.column(undefined, 1) == list(STRUCTURES)


@pytest.fixture(scope="module")
def comparison(browser, folder):
    other = write_evaluation(folder.parent / "other", structures=STRUCTURES, with_confidence=False)
    return Opened(browser, Report(folder, compare_with=other).run())


def test_two_runs_stand_side_by_side_under_one_slider(comparison):
    assert comparison.page.locator("#registration-viewer .run h4").all_inner_texts() == ["evaluation", "other"]
    boxes = [run.bounding_box() for run in comparison.page.locator("#registration-viewer .run").all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    pictures = []
    for index in (0, 6):
        comparison.slide(index)
        pictures.append([comparison.picture("moving", run=run).mean() for run in (0, 1)])
    assert pictures[1][0] > pictures[0][0] + 50 and pictures[1][1] > pictures[0][1]
    assert comparison.page.locator("#registration-viewer canvas[aria-label=confidence]").count() == 1


@pytest.mark.parametrize("width", [390, 1180])
def test_the_page_fits_its_window(report, width):
    report.page.set_viewport_size({"width": width, "height": 800})
    assert report.page.evaluate("document.documentElement.scrollWidth") <= width


# ---- left and right

CORNER = np.s_[2:5, 14:18, 8:11]  # of an array in LPS: the patient's right, back and head


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """An evaluation in LPS whose image is bright in one corner."""
    affine = np.diag([-1.0, -1.5, 2.0, 1.0])
    folder = write_evaluation(tmp_path_factory.mktemp("marked") / "evaluation", cases=["a"], affine=affine)
    for path in (folder / "examples").glob("segmentation_*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        arrays["image"] = np.zeros(SHAPE, np.float32)
        arrays["image"][CORNER] = 1
        arrays["label"], arrays["pred"] = np.ones(SHAPE, np.uint8), np.ones(SHAPE, np.uint8)  # nothing is cut away
        np.savez(path, **arrays)
    return folder


@pytest.mark.parametrize(
    ("view", "plane", "letters", "corner"),
    [
        ("radiological", "axial", "RLPA", ("left", "bottom")),
        ("radiological", "coronal", "RLIS", ("left", "top")),
        ("radiological", "sagittal", "APIS", ("right", "top")),
        ("neurological", "axial", "LRPA", ("right", "bottom")),
        ("neurological", "coronal", "LRIS", ("right", "top")),
        ("neurological", "sagittal", "APIS", ("right", "top")),
    ],
)
def test_a_bright_corner_of_the_patient_is_in_its_corner_of_the_slice_with_the_letters(
    browser, marked, view, plane, letters, corner
):
    opened = Opened(browser, Report(marked, view=view).run())
    opened.page.locator(f"#segmentation-viewer [value={plane}]").check()
    last = int(opened.page.locator("#segmentation-viewer .slice").get_attribute("max"))
    # slices are counted towards the head, the front and the right of the patient
    opened.slide({"axial": 9, "coronal": last - 16, "sagittal": last - 3}[plane], task="segmentation")
    canvas = opened.page.locator("#segmentation-viewer canvas[aria-label=image]")
    assert canvas.get_attribute("data-letters") == letters
    picture = opened.picture("image", task="segmentation")[..., 0]
    height, width = picture.shape
    ends = {"left": np.s_[: width // 3], "right": np.s_[-(width // 3) :]}
    rows = {"top": np.s_[: height // 3], "bottom": np.s_[-(height // 3) :]}
    bright = {(x, y): (picture[rows[y], ends[x]] > 200).mean() for x in ends for y in rows}
    assert max(bright, key=bright.get) == corner and bright[corner] > 3 * sorted(bright.values())[-2]
    for x in (np.s_[:40], np.s_[-40:]):  # the letters themselves, white in the middle of each edge
        assert (picture[height // 2 - 17 : height // 2 + 17, x] > 200).any()
        assert (picture[x, width // 2 - 17 : width // 2 + 17] > 200).any()
    assert opened.complaints == []
    opened.page.close()


def test_where_the_orientation_is_not_known_no_slice_has_letters(report):
    canvases = report.page.locator("canvas")
    assert canvases.count() > 10
    assert set(canvases.evaluate_all("all => all.map((each) => each.dataset.letters)")) == {""}
