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
"""Do the labels that registration brings help segmentation at inference?

python benchmarks/fusion.py RUN_FOLDER --dataset hippocampus --dataset_dir DIR
"""

from __future__ import annotations

from collections import defaultdict

import fire
import numpy as np
import torch
from torch import Tensor
from trained import open_run

from scripts.metrics import dice_per_structure

#: share of the warped labels in the fused prediction
SHARES = (0.3, 0.5, 0.7)


def fused(probability: Tensor, warped: Tensor) -> dict[str, Tensor]:
    """Ways to put together what a segmentation network says and what labelled cases say.

    Args:
        probability: class probabilities (1, C, D, H, W) of the image.
        warped: labels of the labelled cases on its grid, (N, C, D, H, W), soft.

    Returns:
        name -> (1, C, D, H, W). A weighted vote weighs each case, voxel by voxel, with the probability that the
        network gives to its label.
    """
    agreement = (probability * warped).sum(dim=1, keepdim=True)
    votes = {
        "vote": warped.mean(dim=0, keepdim=True),
        "weighted vote": (agreement * warped).sum(dim=0, keepdim=True) / agreement.sum(dim=0).clamp_min(1e-6),
    }
    mixed = {
        f"{1 - share:.1f} network + {share} {name}": (1 - share) * probability + share * vote
        for name, vote in votes.items()
        for share in SHARES
    }
    return {"network": probability, **votes, **mixed}


def main(run_folder: str, dataset: str, dataset_dir: str) -> dict[str, float]:
    """Mean Dice on the validation cases of the network alone, of the labelled cases warped onto each, and of both.

    Args:
        run_folder: what training wrote: weights of all networks, and model.yaml.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
    """
    parser, networks = open_run(run_folder, dataset, dataset_dir)
    make_state, preprocess = parser.get_parsed_content("state"), parser.get_parsed_content("preprocessing")
    cases = parser.get_parsed_content("cases")
    labeled, validation = ([preprocess(dict(case)) for case in group] for group in (cases.labeled, cases.validation))
    dice = defaultdict(list)
    with torch.no_grad():
        for fixed in validation:
            image, label = fixed["image"][None], fixed["label"][None].long()
            pairs = [
                make_state(
                    {"moving_image": m["image"][None], "moving_label": m["label"][None], "fixed_image": image}, networks
                )
                for m in labeled
            ]
            warped = torch.cat([pair.warped_label for pair in pairs])
            for name, prediction in fused(pairs[0].fixed_prob, warped).items():
                classes = prediction.argmax(dim=1, keepdim=True)
                dice[name].append(float(dice_per_structure(classes, label, cases.num_classes).mean()))
    return {name: round(float(np.mean(values)), 4) for name, values in dice.items()}


if __name__ == "__main__":
    fire.Fire(main)
