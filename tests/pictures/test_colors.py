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
"""Colours that mean something are told apart by colour-blind eyes too, as a model of these eyes sees them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb

from scripts.pictures.charts import METHOD_COLORS
from scripts.pictures.figures import ERRORS
from scripts.pictures.panels import BLUE, DIFFERENCE_COLORS, INK, ORANGE, STRUCTURE_COLORS, VOLUME_CHANGE_COLORS

#: no difference is 0, black and white are 100 apart; the nearest two of Okabe and Ito, to tritanopic eyes, 11
TOLD_APART = 10
EYES = ("normal", "deuteranomaly", "protanomaly", "tritanomaly")
SETS = {
    "structures": STRUCTURE_COLORS,
    "errors": [color for _, color in ERRORS.values()],
    "methods": list(METHOD_COLORS.values()),
    "runs": [BLUE, ORANGE],
    "volume change": [*VOLUME_CHANGE_COLORS([0.0, 0.5, 1.0])[:, :3], INK],
    "difference": list(DIFFERENCE_COLORS([0.0, 0.5, 1.0])[:, :3]),
}


def seen(color, eye):
    """What a colour becomes for an eye that lacks a kind of cone entirely (Machado, Oliveira and Fernandes 2009)."""
    if eye == "normal":
        return np.array(to_rgb(color))
    space = {"name": "sRGB1+CVD", "cvd_type": eye, "severity": 100}
    return np.clip(cspace_convert(to_rgb(color), space, "sRGB1"), 0, 1)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", SETS)
def test_colours_of_a_set_are_told_apart(name, eye):
    distances = {
        pair: deltaE(seen(pair[0], eye), seen(pair[1], eye))
        for pair in combinations(map(tuple, map(to_rgb, SETS[name])), 2)
    }
    assert min(distances.values()) > TOLD_APART, min(distances, key=distances.get)


def test_the_measure_knows_a_bad_pair():
    red, green = "#c0504d", "#6b8e23"
    assert (
        deltaE(to_rgb(red), to_rgb(green)) > 40 > 2 * deltaE(seen(red, "deuteranomaly"), seen(green, "deuteranomaly"))
    )
