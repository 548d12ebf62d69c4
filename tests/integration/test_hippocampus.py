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
"""Real volumes from files to files: a few iterations on the hippocampus, and everything that follows from weights."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import ROOT, names_in, succeed

DATA_CONFIGS = ["configs/train.yaml", "configs/data/hippocampus.yaml"]


@pytest.fixture(scope="module")
def short_run(hippocampus, tmp_path_factory):
    """(datalist of a few cases, its lists, folder of weights after a few iterations)."""
    folder = tmp_path_factory.mktemp("hippocampus")
    lists = json.loads((hippocampus / "datalist.json").read_text())
    for name, count in {"labeled": 4, "unlabeled": 4, "validation": 2, "test": 3}.items():
        lists[name] = lists[name][:count]
        for case in lists[name]:
            case.update({key: str(hippocampus / case[key]) for key in ("image", "label") if key in case})
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps(lists))
    options = {"max_epochs": 1, "iterations_per_epoch": 4, "num_unlabeled": 4}
    succeed("training", DATA_CONFIGS, dataset_dir=hippocampus, datalist=datalist, output_dir=folder / "out", **options)
    return datalist, lists, folder / "out"


def check_grid(written: Path, image: str | Path) -> np.ndarray:
    label, expected = nib.load(written), nib.load(image)
    assert label.shape[:3] == expected.shape
    np.testing.assert_allclose(label.affine, expected.affine, atol=1e-5)
    return np.asarray(label.dataobj)


def test_both_tasks_are_scored_on_the_test_cases(short_run, tmp_path):
    datalist, _, weights = short_run
    options = {"dataset_dir": ROOT, "datalist": datalist, "num_unlabeled": 4, "ckpt_dir": weights, "report": "true"}
    succeed("evaluating", [*DATA_CONFIGS, "configs/evaluate.yaml"], output_dir=tmp_path, **options)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [metrics[task]["n"] for task in ("segmentation", "registration", "identity")] == [3, 6, 6]
    assert metrics["structures"] == ["Anterior", "Posterior"]
    assert 0.3 < metrics["identity"]["dice"]["mean"] < 0.75
    assert 0.5 < metrics["identity"]["asd"]["mean"] < 5
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_label_maps_lie_on_the_images_with_the_ids_of_the_data(short_run, tmp_path):
    datalist, lists, weights = short_run
    configs = ["configs/inference.yaml", weights / "model.yaml"]
    succeed("inferring", configs, datalist=datalist, output_dir=tmp_path)
    cases = [case for name in ("labeled", "unlabeled", "validation", "test") for case in lists[name]]
    assert len(names_in(tmp_path) - {"review.csv"}) == len(cases) == 13
    for case in cases:
        name = Path(case["image"]).name.replace(".nii.gz", "_seg.nii.gz")
        assert set(np.unique(check_grid(tmp_path / name, case["image"]))) <= {0, 1, 2}


def test_a_pair_of_files_is_registered_on_the_fixed_one(short_run, tmp_path):
    _, lists, weights = short_run
    moving, fixed = lists["test"][:2]
    assert nib.load(moving["image"]).shape != nib.load(fixed["image"]).shape
    files = {"moving": moving["image"], "fixed": fixed["image"], "moving_label": moving["label"]}
    succeed("registering", ["configs/register.yaml", weights / "model.yaml"], output_dir=tmp_path, **files)
    field = "{}_to_{}_warp".format(*(Path(case["image"]).name.replace(".nii.gz", "") for case in (moving, fixed)))
    for name in ("warped", "confidence"):
        assert np.isfinite(check_grid(tmp_path / f"{name}.nii.gz", fixed["image"])).all()
    displacement = nib.load(tmp_path / f"{field}.nii.gz")  # in voxels of the networks, and holds the file
    assert np.isfinite(displacement.get_fdata()).all()
    extents = [
        np.multiply(one.shape[:3], one.header.get_zooms()[:3]) for one in (displacement, nib.load(fixed["image"]))
    ]
    assert (extents[0] >= extents[1] - 1e-3).all()
    assert set(np.unique(check_grid(tmp_path / "warped_label.nii.gz", fixed["image"]))) == {0, 1, 2}
