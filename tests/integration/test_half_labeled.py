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
"""Four cases that each show half of the structures teach more than the two whole cases that they add up to."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import STRUCTURES, TINY, workflow

from scripts.phantom.volumes import make_phantoms

CONFIGS = ["train.yaml", "recipes/unet.yaml"]
SMALL = TINY | {
    "num_labeled": None,
    "tasks": ["segmentation"],
    "learning_rate": 0.003,
    "iterations_per_epoch": 200,
    "network_def::channels": [16, 32, 64],
    "network_def::strides": [2, 2],
}
#: ids that are missing in every other case
HALVES = ((205, 420, 550, 820), (500, 600, 850))


def erase(path, ids):
    label = nib.load(path)
    array = np.asarray(label.dataobj).copy()
    array[np.isin(array, ids)] = 0
    nib.save(nib.Nifti1Image(array, label.affine), path.with_name(f"half_{path.name}"))
    return f"labels/half_{path.name}"


def dice_after(folder, name, entries, out):
    content = json.loads((folder / "datalist.json").read_text()) | {"labeled": entries}
    (folder / f"{name}.json").write_text(json.dumps(content))
    entries = SMALL | {"dataset_dir": str(folder), "datalist": str(folder / f"{name}.json"), "output_dir": str(out)}
    with workflow(CONFIGS, **entries) as training:
        training.run()
        return float(training.parser.get_parsed_content("validate::evaluator").state.metrics["segmentation_dice"])


@pytest.mark.slow
def test_four_half_labelled_phantoms_teach_more_than_two_whole_ones(tmp_path):
    make_phantoms(tmp_path / "data", num_labeled=4, num_unlabeled=2, num_validation=6, num_test=0, size=16)
    whole = json.loads((tmp_path / "data" / "datalist.json").read_text())["labeled"]
    half = []
    for number, entry in enumerate(whole):
        ids = HALVES[number % 2]
        label = erase(tmp_path / "data" / entry["label"], ids)
        half.append({**entry, "label": label, "missing": [STRUCTURES[i] for i in ids]})
    of_half = dice_after(tmp_path / "data", "half", half, tmp_path / "half")
    of_two = dice_after(tmp_path / "data", "two", whole[::2], tmp_path / "two")
    assert of_half > of_two
