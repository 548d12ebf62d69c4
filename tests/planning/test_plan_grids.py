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
"""The grids of a plan: they hold the labels, their sides suit the networks, and voxels grow from the median spacing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.planning.fingerprint import Fingerprint
from scripts.planning.grids import grids_of, region_of

#: what was found in hippocampi of the Decathlon
HIPPOCAMPUS = Fingerprint(
    cases=144,
    labeled=24,
    shape=(35, 51, 35),
    spacing=(1.0, 1.0, 1.0),
    is_uniform=True,
    extent=(43.0, 59.0, 47.0),
    orientations={"RAS": 144},
    is_ct=False,
    values=(0, 1561664.9),
    foreground=(134.6, 394.6, 790.1),
    background=0.0002,
    volumes={"Anterior": (1669.5, 1179.0), "Posterior": (1650.0, 1230.0)},
    apart={"Anterior": 1.73, "Posterior": 1.75},
    spread=(0.876, 1.156, 1.249),
    reach=(14.5, 24.0, 17.0),
    border=(4.0, 4.0, 3.0),
    largest=92496,
)
BRAIN = replace(
    HIPPOCAMPUS,
    shape=(80, 96, 80),
    spacing=(2.0, 2.0, 2.0),
    extent=(160.0, 192.0, 160.0),
    spread=(1.65, 2.84, 2.87),
    reach=(70.0, 90.0, 68.0),
)
ABDOMEN = replace(
    HIPPOCAMPUS,
    shape=(126.5, 92.5, 114.5),
    spacing=(2.5, 2.5, 2.5),
    extent=(375.0, 290.0, 435.0),
    spread=(12.7, 12.0, 34.6),
    reach=(167.5, 125.0, 197.5),
    volumes={"adrenal gland": (3000.0, 1200.0)},
    apart={"adrenal gland": 40.3},
)
THICK = replace(ABDOMEN, spacing=(0.8, 0.8, 5.0), is_uniform=False)


@pytest.mark.parametrize("facts, size", [(HIPPOCAMPUS, (40, 56, 40)), (BRAIN, (80, 96, 80))])
def test_the_finest_grid_is_the_one_that_people_have_written(facts, size):
    first = grids_of(facts, 8)[0]
    assert first.size == size and first.voxel == facts.spacing and not first.resampled


@pytest.mark.parametrize("facts", [HIPPOCAMPUS, BRAIN, ABDOMEN, THICK])
@pytest.mark.parametrize("multiple", [4, 8, 16, 32])
def test_every_grid_holds_every_label_in_sides_that_the_networks_take(facts, multiple):
    grids = grids_of(facts, multiple)
    for grid in grids:
        assert all(side % multiple == 0 and side >= 16 for side in grid.size)
        assert (np.multiply(grid.size, grid.voxel) >= 2 * np.array(facts.reach) * 0.995).all()
    voxels = [grid.voxels for grid in grids]
    assert voxels == sorted(voxels, reverse=True) and len(set(grid.size for grid in grids)) == len(grids)
    assert all(np.greater_equal(b.voxel, a.voxel).all() for a, b in zip(grids[:-1], grids[1:], strict=True))


def test_voxels_become_cubes_before_they_become_large():
    for grid in grids_of(THICK, 8):
        fine, fine_too, thick = grid.voxel
        assert fine == fine_too and (thick == 5.0 or fine == pytest.approx(thick, rel=0.01))


def test_the_smallest_structure_keeps_some_voxels():
    coarsest = grids_of(replace(ABDOMEN, volumes={"gland": (3000.0, 4 * 64.0)}), 8)[-1]
    assert np.prod(coarsest.voxel) <= 64.0


def test_what_somebody_has_chosen_stays():
    assert [grid.voxel for grid in grids_of(ABDOMEN, 8, pixdim=[5, 5, 5])] == [(5.0, 5.0, 5.0)]
    assert [grid.size for grid in grids_of(ABDOMEN, 8, spatial_size=[64, 48, 64])] == [(64, 48, 64)]
    (both,) = grids_of(ABDOMEN, 8, [3, 3, 3], [32, 32, 32])
    assert (both.size, both.voxel) == ((32, 32, 32), (3.0, 3.0, 3.0))
    (grid,) = grids_of(ABDOMEN, 8, spatial_size=[64, 48, 64])
    assert (np.multiply(grid.size, grid.voxel) >= 2 * np.array(ABDOMEN.reach)).all()


def test_the_margin_ends_with_the_image_and_without_labels_the_image_is_the_region():
    labels, wanted = region_of(replace(HIPPOCAMPUS, reach=(20.0, 20.0, 20.0), extent=(41.0, 90.0, 41.0)))
    assert labels.tolist() == [40, 40, 40] and wanted.tolist() == pytest.approx([41, 40 + 4 * 2.156, 41])
    labels, wanted = region_of(replace(HIPPOCAMPUS, labeled=0, reach=(0, 0, 0)))
    assert labels.tolist() == wanted.tolist() == [35, 51, 35]
