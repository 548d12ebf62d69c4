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
"""What the slice viewer carries: the volumes come out as they went in, small, and with colours that all eyes tell."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from synthetic_evaluation import SHAPE, SPACING, write_evaluation

from scripts.pictures.orientation import VIEWS, Frame
from scripts.pictures.panels import VOLUME_CHANGE, VOLUME_CHANGE_COLORS
from scripts.pictures.planes import planes_through
from scripts.report import viewer as report_viewer
from scripts.report.evaluation_folder import read_evaluation
from scripts.report.viewer import COLORS, FOLDED, PANELS, _table, pack

VOLUME = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return read_evaluation(write_evaluation(tmp_path_factory.mktemp("evaluation") / "evaluation"))


def example(evaluation, task, **arrays):
    """An example whose structures fill the volume, so that nothing is cut away."""
    given = evaluation.examples[task][0]
    filled = {
        name: np.ones(SHAPE, np.uint8) for name in ("label", "moving_label", "fixed_label") if name in given.arrays
    }
    return replace(given, arrays={**given.arrays, **filled, **arrays})


def unpacked(packed, name):
    """A volume by the layout that the docstring of ``pack`` promises."""
    values = np.frombuffer(gzip.decompress(base64.b64decode(packed["volumes"][name])), np.uint8)
    return values.reshape(packed["shape"])


def test_classes_arrive_voxel_by_voxel(evaluation):
    packed = pack("segmentation", example(evaluation, "segmentation", pred=VOLUME))
    np.testing.assert_array_equal(unpacked(packed, "pred"), VOLUME)
    assert packed["spacing"] == list(SPACING)


def test_intensities_fill_the_window_of_the_image(evaluation):
    ramp = np.linspace(-3, 5, VOLUME.size).reshape(SHAPE)
    seen = unpacked(pack("segmentation", example(evaluation, "segmentation", image=ramp)), "image")
    low, high = np.percentile(ramp, (0.5, 99.5))
    np.testing.assert_allclose(seen, 255 * np.clip((ramp - low) / (high - low), 0, 1), atol=0.5)


def test_the_warped_image_is_seen_in_the_window_of_the_moving_one(evaluation):
    moving = np.linspace(0, 1, VOLUME.size).reshape(SHAPE)
    packed = pack("registration", example(evaluation, "registration", moving=moving, warped=np.full(SHAPE, 0.5)))
    assert set(np.unique(unpacked(packed, "warped"))) == {128}


def test_a_displacement_comes_back_in_millimetres(evaluation):
    ddf = np.random.default_rng(1).normal(0, 2, (3, *SHAPE)).astype(np.float32)
    packed = pack("registration", example(evaluation, "registration", ddf=ddf))
    for axis in range(3):
        back = (unpacked(packed, f"ddf_{axis}").astype(float) - 128) / 127 * packed["limit"]
        np.testing.assert_allclose(back, ddf[axis] * SPACING[axis], atol=packed["limit"] / 127)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 2.0])
def test_a_change_of_volume_has_the_colour_of_the_pictures(evaluation, factor):
    ddf = np.zeros((3, *SHAPE), np.float32)
    ddf[2] = (factor - 1) * np.arange(SHAPE[2])
    seen = np.unique(unpacked(pack("registration", example(evaluation, "registration", ddf=ddf)), "change"))
    table = np.frombuffer(_table(VOLUME_CHANGE_COLORS), np.uint8).reshape(256, 4)
    expected = VOLUME_CHANGE_COLORS(VOLUME_CHANGE([factor]), bytes=True)[0].astype(int)
    assert np.abs(table[seen].astype(int) - expected).max() <= 3


def test_folds_have_a_colour_of_their_own(evaluation):
    ddf = np.zeros((3, *SHAPE), np.float32)
    ddf[0] = -2.0 * np.arange(SHAPE[0])[:, None, None]
    packed = pack("registration", example(evaluation, "registration", ddf=ddf))
    assert set(np.unique(unpacked(packed, "change"))) == {FOLDED}


def test_a_large_volume_is_shrunk_and_keeps_its_size_in_millimetres(evaluation, monkeypatch):
    monkeypatch.setattr(report_viewer, "MOST_VOXELS", 500)
    packed = pack("registration", example(evaluation, "registration"))
    assert 250 < np.prod(packed["shape"]) <= 500
    np.testing.assert_allclose(np.multiply(packed["shape"], packed["spacing"]), np.multiply(SHAPE, SPACING), rtol=1e-3)
    assert unpacked(packed, "ddf_1").shape == packed["shape"]


def slice_of(packed, plane, volume, index):
    """A slice as `viewer.js` takes it: rows from the bottom up, columns from left to right."""
    (across, up, cut), flipped = packed["planes"][plane]["axes"], packed["planes"][plane]["flipped"]
    turned = np.flip(volume, [axis for axis, turn in zip((across, up, cut), flipped, strict=True) if turn])
    return np.moveaxis(turned, (up, across, cut), (0, 1, 2))[..., index]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_slices_of_the_viewer_are_those_of_the_pictures_with_their_letters(evaluation, codes, view):
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    frame = Frame.of(inv_ornt_aff(turn, SHAPE), view)
    packed = pack("segmentation", replace(example(evaluation, "segmentation", pred=VOLUME), frame=frame))
    for plane in planes_through((3, 3, 3), frame):
        last = VOLUME.shape[plane.axis] - 1
        shown = slice_of(packed, plane.name, unpacked(packed, "pred"), last - 3 if plane.flipped[2] else 3)
        np.testing.assert_array_equal(shown, plane.take(VOLUME))
        assert "".join(packed["planes"][plane.name]["letters"]) in ("RLPA", "LRPA", "RLIS", "LRIS", "APIS")
    assert ("".join(packed["planes"]["axial"]["letters"]) == "RLPA") is (view == "radiological")


def test_without_an_affine_the_viewer_has_no_letters_and_the_array_as_it_is(evaluation):
    planes = pack("registration", evaluation.examples["registration"][0])["planes"]
    assert [plane["letters"] for plane in planes.values()] == [None] * 3
    assert not any(any(plane["flipped"]) for plane in planes.values())
    assert {name: plane["axes"] for name, plane in planes.items()} == {
        "axial": [0, 1, 2],
        "coronal": [0, 2, 1],
        "sagittal": [1, 2, 0],
    }


@pytest.mark.parametrize("task", PANELS)
def test_every_layer_has_its_volume_and_its_colours(evaluation, task):
    packed = pack(task, evaluation.examples[task][0])
    for panel in PANELS[task]:
        for _, colors, *names in panel.layers:
            assert set(names) <= packed["volumes"].keys()
            assert colors in {*COLORS, "dimmed", "structures", "white", "ink"}
