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

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch

from scripts.pictures.charts import MEDIAN_WIDTH, METHOD_COLORS, MOST_POINTS, dice_box_plot

NAN = float("nan")


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def medians(figure):
    return [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linewidth() == MEDIAN_WIDTH]


def test_a_box_stands_at_the_median_of_the_defined_values():
    figure = dice_box_plot({"segmentation": {"a": [0.2, 0.4, NAN, 0.9], "b": [NAN, 0.5]}})
    assert medians(figure) == pytest.approx([0.4, 0.5])


def test_a_structure_without_any_defined_value_has_no_box_but_its_name():
    figure = dice_box_plot({"registration": {"a": [NAN], "b": [0.5], "c": []}})
    assert len(boxes(figure)) == 1
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


def test_the_first_structure_is_on_top_and_methods_keep_their_colours():
    samples = {"segmentation": {"a": [0.1], "b": [0.2]}, "no registration": {"a": [0.3], "b": [0.4]}}
    figure = dice_box_plot(samples)
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top
    assert medians(figure) == pytest.approx([0.1, 0.3, 0.2, 0.4])
    edges = [patch.get_edgecolor()[:3] for patch in boxes(figure)]
    expected = [to_rgba(METHOD_COLORS[name])[:3] for name in ("segmentation", "no registration")]
    np.testing.assert_allclose(edges, expected * 2)


@pytest.mark.parametrize(("count", "drawn"), [(MOST_POINTS, MOST_POINTS), (MOST_POINTS + 1, 0)])
def test_single_cases_are_drawn_while_there_are_few(count, drawn):
    figure = dice_box_plot({"segmentation": {"a": np.linspace(0.4, 0.6, count)}})
    points = [
        line for line in figure.axes[0].lines if line.get_marker() == "o" and line.get_linestyle() in ("None", "")
    ]
    assert sum(len(line.get_xdata()) for line in points) == drawn


def test_long_names_are_broken_and_stay_inside_the_picture():
    figure = dice_box_plot({"segmentation": {"myocardium of the left ventricle $a$ $b$": [0.5]}})
    figure.draw_without_rendering()
    label = figure.axes[0].get_yticklabels()[0]
    assert "\n" in label.get_text()
    assert label.get_window_extent().x0 >= 0
