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
"""The classical methods: votes whose winner is known, known fields, and tools that have to find a known shift."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from bundle_runs import ROOT
from packaging.requirements import Requirement

from benchmarks.tools import classical
from benchmarks.tools.classical_tools import PACKAGES, no_registration
from benchmarks.tools.label_fusion import locally_weighted_vote, majority_vote
from scripts.data.cases import Cases

SHAPE = (20, 24, 16)
#: left-posterior-superior axes, 1 x 1 x 1.5 mm: neither the axes nor the voxels of the millimetres of a field
FIXED_AFFINE = np.diag([-1.0, -1.0, 1.5, 1.0])
INTERPRETER = classical.ENVIRONMENT if classical.ENVIRONMENT.is_file() else sys.executable


def shares_of(labels, num_classes=3):
    return np.stack([[label == c for c in range(num_classes)] for label in labels]).astype(float)


def box(start, size=(6, 8, 6)):
    """Class 1 in one half of a box and class 2 in the other."""
    label = np.zeros(SHAPE, np.uint8)
    inside = tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))
    label[inside] = 1
    label[inside[0], inside[1], start[2] + size[2] // 2 : start[2] + size[2]] = 2
    return label


def blurred(label):
    """An image of a box, its corners and sides in different grey, smooth enough to register."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(100.0 * label, 1.5).astype(np.float32)


# ---- votes


def test_the_majority_wins_and_of_equals_the_lowest_class():
    first, second, third = (np.full((2, 2, 2), c) for c in (1, 1, 2))
    assert (majority_vote(shares_of([first, second, third])) == 1).all()
    assert (majority_vote(shares_of([first, third])) == 1).all()


def test_one_atlas_gives_its_own_label():
    label = np.random.default_rng(0).integers(0, 3, SHAPE)
    assert (majority_vote(shares_of([label])) == label).all()
    image = np.random.default_rng(1).normal(size=SHAPE)
    assert (locally_weighted_vote(image, image[None], shares_of([label])) == label).all()


def test_an_atlas_that_is_the_target_outvotes_the_others():
    generator = np.random.default_rng(0)
    target, label = generator.normal(size=SHAPE), generator.integers(0, 3, SHAPE)
    images = np.stack([generator.normal(size=SHAPE) for _ in range(3)] + [target])
    shares = shares_of([(label + 1) % 3] * 3 + [label])
    assert (majority_vote(shares) == (label + 1) % 3).all()
    assert (locally_weighted_vote(target, images, shares) == label).all()


def test_atlases_that_resemble_the_target_alike_vote_by_majority():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (3, *SHAPE))
    image = generator.normal(size=SHAPE)
    shares = shares_of(labels)
    voted = locally_weighted_vote(generator.normal(size=SHAPE), np.stack([image] * 3), shares)
    assert (voted == majority_vote(shares)).all()


def test_a_vote_is_local_and_does_not_ask_for_the_scale_of_an_image():
    generator = np.random.default_rng(0)
    target = generator.normal(size=SHAPE)
    left, right = target.copy(), target.copy()
    left[10:], right[:10] = generator.normal(size=(2, 10, *SHAPE[1:]))  # each is the target on one side
    labels = [np.full(SHAPE, 1), np.full(SHAPE, 2)]
    voted = locally_weighted_vote(target, np.stack([500 + 30 * left, right]), shares_of(labels))
    assert (voted[:7] == 1).all()
    assert (voted[13:] == 2).all()


# ---- fields


@pytest.fixture
def dataset(tmp_path, write_volume):
    """Three cases: the test case, and two whose box lies elsewhere, in files whose centres are elsewhere, too."""
    entries = {}
    for name, start, affine in [
        ("fixed", (7, 8, 5), FIXED_AFFINE),
        ("near", (7, 8, 5), FIXED_AFFINE + np.array([[0, 0, 0, 40], [0, 0, 0, -7], [0, 0, 0, 3], [0, 0, 0, 0]])),
        ("shifted", (9, 7, 4), FIXED_AFFINE),
    ]:
        label = box(start)
        entries[name] = {
            "case": name,
            "image": str(write_volume(tmp_path / f"images/{name}.nii.gz", blurred(label), affine)),
            "label": str(write_volume(tmp_path / f"labels/{name}.nii.gz", label, affine)),
        }
    return entries


def cases_of(dataset, *atlases):
    labeled = tuple(dataset[name] for name in atlases)
    return Cases({1: "low", 2: "high"}, labeled=labeled, unlabeled=(), validation=(), test=(dataset["fixed"],))


def test_centres_are_laid_on_each_other(dataset, tmp_path):
    field = no_registration(dataset["near"]["image"], dataset["fixed"]["image"], tmp_path)
    assert field.shape == (*SHAPE, 3)
    assert np.allclose(field, (-40, 7, 3))  # RAS (40, -7, 3) in LPS


def test_a_displacement_in_mm_becomes_one_in_voxels():
    displacement = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64).expand(*SHAPE, 3)
    ddf = classical.in_voxels(displacement, torch.from_numpy(FIXED_AFFINE))
    assert ddf.shape == (1, 3, *SHAPE)
    assert ddf[0, :, 0, 0, 0].tolist() == pytest.approx([-2, 1, 2])


def test_a_pair_whose_centres_differ_only_is_registered_without_a_tool(dataset, tmp_path):
    pairs = [(dataset[name], dataset["fixed"]) for name in ("near", "shifted")]
    record = classical.measure("none", cases_of(dataset), pairs, tmp_path, sys.executable)
    registration = record["cases"]["registration"]
    assert registration["moving"] == ["near", "shifted"]
    assert [registration["dice"][name][0] for name in ("low", "high")] == [1, 1]
    assert registration["dice"]["low"][1] < 0.6
    assert record["metrics"]["registration"]["folding_percent"]["mean"] == 0
    assert (record["augmented"], record["num_labeled"], record["seed"]) == (None, 0, None)


def test_fields_that_are_there_are_not_computed_again(dataset, tmp_path):
    fields = classical.Fields("none", tmp_path, sys.executable)
    pair = (dataset["near"], dataset["fixed"])
    fields.compute([pair])
    (file,) = fields.folder.glob("*.npz")
    written = file.stat().st_mtime_ns
    fields.compute([pair])
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize("vote", ["majority", "weighted"])
def test_a_test_case_is_segmented_by_the_atlas_that_fits(dataset, tmp_path, vote):
    cases = cases_of(dataset, "near") if vote == "majority" else cases_of(dataset, "shifted", "near")
    record = classical.measure(f"none_{vote}", cases, [], tmp_path, sys.executable)
    assert record["metrics"]["segmentation"]["dice"]["mean"] == pytest.approx(1)
    assert record["num_labeled"] == len(cases.labeled)


def test_the_shares_of_a_label_sum_to_one_also_outside(dataset):
    atlas = classical.load_subject(dataset["near"], dict, (1, 2))
    points = classical.voxel_points(SHAPE, torch.from_numpy(FIXED_AFFINE)) + 3.3
    shares = classical.warped_shares(atlas, points, 3)
    assert shares.shape == (3, *SHAPE)
    assert np.allclose(shares.sum(axis=0), 1)


def test_a_method_that_is_not_there_is_refused(dataset, tmp_path):
    for method in ("demons", "greedy_unanimous"):
        with pytest.raises(ValueError, match=f"no method '{method}'"):
            classical.measure(method, cases_of(dataset), [], tmp_path, sys.executable)


# ---- the packages


def has(package):
    code = f"from importlib.metadata import version; version('{package}')"
    return subprocess.run([INTERPRETER, "-c", code], capture_output=True).returncode == 0


def test_a_tool_without_its_package_says_what_is_missing(dataset, tmp_path):
    if has("picsl-greedy"):
        pytest.skip(f"picsl-greedy is there, in {INTERPRETER}")
    with pytest.raises(RuntimeError, match="It needs picsl-greedy: `make classical-env`"):
        classical.Fields("greedy", tmp_path, INTERPRETER).compute([(dataset["shifted"], dataset["fixed"])])


@pytest.mark.slow
@pytest.mark.parametrize("tool", PACKAGES)
def test_a_tool_finds_a_shift_in_the_axes_of_its_files(tool, dataset, tmp_path):
    if not has(PACKAGES[tool]):
        pytest.skip(f"{PACKAGES[tool]} is not there: `make classical-env` installs it")
    fields = classical.Fields(tool, tmp_path, INTERPRETER)
    pair = (dataset["shifted"], dataset["fixed"])
    fields.compute([pair])
    moving, fixed = (classical.load_subject(case, dict, (1, 2)) for case in pair)
    inside = fields.read(moving, fixed)[fixed.label.as_tensor()[0] > 0]
    # the box of the moving image starts (2, -1, -1) voxels from that of the fixed one
    assert inside.mean(dim=0).tolist() == pytest.approx([-2.0, 1.0, -1.5], abs=0.75)
    assert fields.version and fields.seconds[0] > 0


def test_the_environment_of_the_tools_is_pinned():
    lines = (ROOT / "requirements-classical.txt").read_text().splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if line and not line.startswith("#")]
    assert {pin.name for pin in pins} >= set(PACKAGES.values()) - {"deeprs"}
    assert all(str(pin.specifier).startswith("==") for pin in pins)


def test_results_of_votes_and_tools_hold_their_cases():
    for path in sorted((ROOT / "benchmarks/results/hippocampus").glob("*.json")):
        record = json.loads(path.read_text())
        if record["augmented"] is None:
            ((task, cases),) = record["cases"].items()
            mean = np.mean([np.mean(column) for column in zip(*cases["dice"].values(), strict=True)])
            assert mean == pytest.approx(record["metrics"][task]["dice"]["mean"], abs=1e-4), path.name
