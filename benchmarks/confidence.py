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
"""Does the discriminator's map tell right from wrong voxels of a warped label?

python benchmarks/confidence.py RUN_FOLDER --dataset hippocampus --dataset_dir DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.metrics import compute_roc_auc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.weights import load_all  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[1] / "bundle" / "configs"


def main(run_folder: str, dataset: str, dataset_dir: str) -> dict[str, float]:
    """Area under the ROC curve of the confidence map on the validation pairs, each case with the next.

    Asked are the voxels that are a structure in the warped or in the fixed label; right is where both say the same.
    0.5 is a map that knows nothing. Beside it the mean map where labels are right and where they are wrong.

    Args:
        run_folder: what training wrote: weights of all networks, and model.yaml.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
    """
    files = [CONFIGS / "train.yaml", CONFIGS / "data" / f"{dataset}.yaml", Path(run_folder) / "model.yaml"]
    parser = ConfigParser(ConfigParser.load_config_files([str(path) for path in files]))
    parser["dataset_dir"] = dataset_dir
    definitions = {name: parser.get_parsed_content(key) for name, key in DEFINITIONS.items()}
    networks = load_all(definitions, run_folder, required=definitions)
    make_state = parser.get_parsed_content("state")
    areas, means = [], []
    with torch.no_grad():
        for batch in parser.get_parsed_content("validate::dataloader"):
            pair = make_state(batch, networks)
            warped, fixed = pair.warped_label.argmax(1), pair.fixed_label.argmax(1)
            asked, right = (warped > 0) | (fixed > 0), warped == fixed
            confidence = pair.confidence[:, 0]
            areas.append(float(compute_roc_auc(confidence[asked], right[asked].float())))
            means.append([float(confidence[asked & right].mean()), float(confidence[asked & ~right].mean())])
    right, wrong = np.mean(means, axis=0)
    return {"pairs": len(areas), "auc": round(float(np.mean(areas)), 4), "right": right, "wrong": wrong}


DEFINITIONS = {
    "segmentation": "network_def",
    "registration": "registration_def",
    "discriminator": "discriminator_def",
}

if __name__ == "__main__":
    fire.Fire(main)
