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

"""Affine alignment pair by pair: the moving image comes to the fixed one, and both are ready for the networks."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from aligned_phantoms import AFFINE, IDS, MOVED, SHAPE, dice, distance_mm, elastix_python, known, read, write_phantom
from bundle_runs import succeed

from scripts.alignment.prepare_pairs import PreparePairs
from scripts.alignment.target_grid import TargetGrid
from scripts.data.pair_table import read_pair_table
from scripts.data.pairs import read_pairs
from scripts.files.datalist import case_name
from scripts.registration.restore import Restore


@pytest.fixture
def table(tmp_path):
    """A case and one that lies elsewhere, with labels; each onto the other."""
    folder = tmp_path / "data"
    write_phantom(folder, "here")
    write_phantom(folder, "moved", MOVED)
    lines = ["moving,fixed,moving_label,fixed_label"]
    for moving, fixed in (("moved", "here"), ("here", "moved")):
        columns = (f"images/{moving}", f"images/{fixed}", f"labels/{moving}", f"labels/{fixed}")
        lines.append(",".join(f"{column}.nii.gz" for column in columns))
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


def either_way(moving, fixed):
    """The matrices by which the phantoms were made, from points of the fixed one to those of the moving one."""
    return known(moving, fixed) @ np.linalg.inv(known(fixed.with_name(fixed.name.removeprefix("fixed_")), None))


def prepared(table, out, aligner=either_way, **options):
    return PreparePairs(table, out, aligner, **options).run()


def test_the_moving_one_of_each_pair_comes_to_lie_on_the_fixed_one(table, tmp_path):
    pairs = read_pairs(prepared(table, tmp_path / "out"))
    assert [(pair["moving"]["case"], pair["fixed"]["case"]) for pair in pairs] == [
        ("moved_to_here_moving", "moved_to_here_fixed"),
        ("here_to_moved_moving", "here_to_moved_fixed"),
    ]
    for pair in pairs:
        moving, fixed = (read(pair[role]["label"]) for role in ("moving", "fixed"))
        assert dice(moving, fixed) > 0.93
        assert set(np.unique(moving)) == {0, *IDS}
        assert np.allclose(nib.load(pair["moving"]["image"]).affine, AFFINE)
    original = table.parent / "labels"
    assert dice(read(original / "moved.nii.gz"), read(original / "here.nii.gz")) < 0.7
    assert (read(pairs[0]["fixed"]["label"]) == read(original / "here.nii.gz")).all()


def test_the_matrix_of_a_pair_leads_from_the_fixed_to_the_moving_file(table, tmp_path):
    prepared(table, tmp_path / "out")
    for name, matrix in (("moved_to_here", MOVED), ("here_to_moved", np.linalg.inv(MOVED))):
        record = json.loads((tmp_path / "out/transforms" / f"{name}_moving.json").read_text())
        assert np.allclose(record["matrix_ras"], matrix)
        assert np.allclose(
            json.loads((tmp_path / f"out/transforms/{name}_fixed.json").read_text())["matrix_ras"], np.eye(4)
        )


def test_a_grid_of_ones_own_is_made_of_each_fixed_image(table, tmp_path):
    grid = TargetGrid(size=[16, 12, 10], region="foreground", margin=2.0, orientation="RAS")
    pairs = read_pairs(prepared(table, tmp_path / "out", grid=grid, align_region=True))
    for pair in pairs:
        images = [nib.load(pair[role]["image"]) for role in ("moving", "fixed")]
        assert [image.shape for image in images] == [(16, 12, 10)] * 2
        assert np.allclose(images[0].affine, images[1].affine) and nib.aff2axcodes(images[0].affine) == ("R", "A", "S")
        assert dice(*(read(pair[role]["label"]) for role in ("moving", "fixed"))) > 0.85  # in large voxels
    assert not np.allclose(*(nib.load(pair["fixed"]["image"]).affine for pair in pairs))


def test_the_aligner_sees_the_region_alone_when_it_is_asked_to(table, tmp_path):
    shapes = []

    def remember(moving, fixed):
        shapes.append(nib.load(fixed).shape)
        return np.eye(4)

    for align_region in (False, True):
        grid = TargetGrid(region="foreground")
        prepared(table, tmp_path / f"out_{align_region}", remember, grid=grid, align_region=align_region)
    assert shapes[:2] == [SHAPE] * 2
    assert all(small < large for shape in shapes[2:] for small, large in zip(shape, SHAPE, strict=True))


def test_what_is_prepared_is_a_table_for_registering_and_goes_back_by_its_name(table, tmp_path):
    out = tmp_path / "out"
    pairs = read_pair_table(prepared(table, out))
    assert [pair["name"] for pair in pairs] == [pair["name"] for pair in read_pair_table(table)]
    (path,) = Restore(out, pairs[0]["moving"]["label"], tmp_path / "restored").run()
    assert path.name == "moved_to_here_moving.nii.gz"
    assert dice(read(path), read(table.parent / "labels" / "moved.nii.gz")) > 0.93


def test_a_pair_that_fails_is_told_at_the_end_and_made_up_for_later(table, tmp_path):
    def fails(moving, fixed):
        if case_name(moving) == "moved":
            raise RuntimeError("too few samples")
        return either_way(moving, fixed)

    with pytest.raises(RuntimeError, match="1 of 2 pairs.*\n'moved_to_here'.*too few samples"):
        prepared(table, tmp_path / "out", fails)
    assert [pair["moving"]["case"] for pair in read_pairs(tmp_path / "out/pairs.json")] == ["here_to_moved_moving"]
    done = (tmp_path / "out/images/here_to_moved_moving.nii.gz").stat().st_mtime_ns
    assert len(read_pairs(prepared(table, tmp_path / "out"))) == 2
    assert (tmp_path / "out/images/here_to_moved_moving.nii.gz").stat().st_mtime_ns == done


@pytest.mark.parametrize(
    ("pairs", "region", "message"),
    [(None, None, "--pairs is missing"), ("pairs.csv", "label", "would look at the label of a fixed image")],
)
def test_options_that_cannot_be_are_refused(tmp_path, pairs, region, message):
    with pytest.raises(ValueError, match=message):
        PreparePairs(pairs, tmp_path, known, grid=TargetGrid(region=region))


@pytest.mark.slow
def test_the_command_aligns_pairs_by_elastix(table, tmp_path):
    out = tmp_path / "out"
    options = {"pairs": table, "output_dir": out, "elastix_python": elastix_python()}
    succeed("preparing_pairs", ["configs/prepare.yaml"], **options)
    for pair in read_pairs(out / "pairs.json"):
        assert dice(*(read(pair[role]["label"]) for role in ("moving", "fixed"))) > 0.9
    record = json.loads((out / "transforms/moved_to_here_moving.json").read_text())
    assert distance_mm(record["matrix_ras"]) < 1.5
