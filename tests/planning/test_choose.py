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
"""What follows from the facts: settings that are those of hand-written configs where the data are those."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from test_plan_grids import ABDOMEN, BRAIN, HIPPOCAMPUS

from scripts.planning.budget import Budget, Expected
from scripts.planning.choose import (
    Machine,
    choose_intensity,
    choose_networks,
    is_wide,
    multiple_of_networks,
    schedule,
    settings,
    summary,
)
from scripts.planning.grids import Grid, grids_of
from scripts.planning.plan_file import plan_text

GPU, CPU = Machine("cuda", has_bf16=True), Machine()
CT = replace(ABDOMEN, is_ct=True, values=(-1024, 3071), foreground=(50, 150, 450))


def values(found) -> dict:
    return {name: setting.value for name, setting in found.items()}


def test_ct_gets_the_window_of_its_foreground_and_half_as_much_on_either_side():
    assert values(choose_intensity(CT)) == {"intensity": "window", "intensity_range": [-150, 650]}
    narrow = replace(CT, values=(-60, 500))  # never wider than the values
    assert choose_intensity(narrow)["intensity_range"].value == [-60, 500]


@pytest.mark.parametrize("background, upper", [(0.0, 99), (0.49, 99), (0.75, 99.5)])
def test_other_images_get_percentiles_of_each_volume(background, upper):
    found = values(choose_intensity(replace(BRAIN, background=background)))
    assert found == {"intensity": "percentiles", "intensity_range": [1, upper]}


HAND_WRITTEN = {
    "hippocampus": (HIPPOCAMPUS, Grid((40, 56, 40), (1, 1, 1), False)),
    "abdomen_ct": (ABDOMEN, Grid((64, 48, 64), (5, 5, 5))),
    "brain_mr": (replace(BRAIN, background=0.75), Grid((80, 96, 80), (2, 2, 2), False)),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_networks_and_the_rest_are_those_of_the_hand_written_config(name):
    from scripts.planning.choose import _LIGHT

    written = yaml.safe_load((_LIGHT.parents[1] / "data" / f"{name}.yaml").read_text())
    facts, grid = HAND_WRITTEN[name]
    found = values(settings(facts, grid, CPU))
    of_r = written.pop("registration_def")
    assert {key: found[f"registration_def::{key}"] for key in of_r if key != "_target_"} == {
        key: value for key, value in of_r.items() if key != "_target_"
    }
    alike = {key for key in written if key.endswith(("channels", "strides")) or key in ("spatial_size", "pixdim")}
    assert len(alike) >= 5 and {key: found[key] for key in alike} == {key: written[key] for key in alike}
    steps = [transform["_target_"] for transform in found["augmentation"]["transforms"]]
    assert steps == [transform["_target_"] for transform in written["augmentation"]["transforms"]]


@pytest.mark.parametrize("side", [16, 24, 32, 40, 48, 64, 96])
def test_a_volume_has_something_left_where_the_networks_are_coarsest(side):
    grid = Grid((side, side + 32, side), (1, 1, 1))
    for wide in (False, True) if side % 32 == 0 else (False,):
        found = values(choose_networks(grid, wide))
        halvings = max(
            len(found["network_def::strides"]),
            len(found["registration_def::encoder_channels"]),
            1 + len(found["discriminator_def::network::strides"]),
        )
        assert multiple_of_networks(wide) == 2**halvings and side >= 2**halvings
        assert len(found["network_def::channels"]) == len(found["network_def::strides"]) + 1


def test_a_gpu_gets_the_networks_of_the_paper_where_the_volumes_have_the_voxels():
    assert is_wide(ABDOMEN, GPU) and not is_wide(HIPPOCAMPUS, GPU) and not is_wide(ABDOMEN, CPU)
    found = values(settings(ABDOMEN, grids_of(ABDOMEN, 32)[0], GPU))
    assert found["network_def::channels"] == [16, 32, 64, 128, 256] and found["amp"] is True
    assert "registration_def::half_resolution" not in found and found["registration_def::encoder_channels"][3] == 32


def test_the_text_has_a_reason_for_every_entry_and_reads_back_as_they_are():
    grid = Grid((64, 48, 64), (5, 5, 5))
    expected = Expected(10, 160, 28.0, 1.5)
    found = settings(CT, grid, CPU) | schedule(expected)
    budget = Budget(8, 30)
    text = plan_text(CT, found, ["network_def::dropout"], summary(CT, grid, expected), budget)
    assert yaml.safe_load(text) == values(found)
    lines = text.splitlines()
    for name in found:
        (at,) = (number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("# ") and len(lines[at - 1]) > 6
    assert max(map(len, lines)) <= 120
    for told in (
        "8 GiB, 30 minutes",
        "1.5 GiB, 28.0 minutes, 1600 iterations",
        "2 times the files'",
        "written_by DeepRS",
    ):
        assert told in text
    assert "adrenal gland" in text and text.rstrip().endswith("network_def::dropout")
