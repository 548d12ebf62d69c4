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
"""Does a confidence map tell right from wrong voxels of a warped label?

python benchmarks/confidence.py RUN_FOLDER --dataset hippocampus --dataset_dir DIR
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import fire
import numpy as np
import torch
from monai.metrics import compute_roc_auc
from trained import open_run

from scripts.state import PairState


def main(run_folder: str, dataset: str, dataset_dir: str) -> dict[str, float]:
    """Area under the ROC curve of two maps on the validation pairs, each case with the next.

    ``confidence`` is the discriminator's, where the run has one; ``agreement`` is what segmentation says. Asked are the
    voxels that are a structure in the warped or in the fixed label; right is where both say the same. 0.5 is a map that
    knows nothing.

    Args:
        run_folder: what training wrote: weights of all networks, and model.yaml.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
    """
    parser, networks = open_run(run_folder, dataset, dataset_dir)
    make_state, pairs = (parser.get_parsed_content(key) for key in ("state", "validate::dataloader"))
    maps = ["agreement"] + (["confidence"] if "discriminator" in networks else [])
    return {f"auc_{name}": area for name, area in areas(make_state, networks, pairs, maps).items()}


@torch.no_grad()
def areas(
    make_state: Callable[..., PairState],
    networks: Mapping[str, torch.nn.Module],
    pairs: Iterable[Mapping[str, Any]],
    maps: Sequence[str],
) -> dict[str, float]:
    """Area under the ROC curve of maps, averaged over labelled pairs.

    Args:
        make_state: of a pair, called as :class:`scripts.state.PairState` is.
        networks: name -> network, in evaluation.
        pairs: batches of one pair.
        maps: quantities of the state, (B, 1, D, H, W).
    """
    found: dict[str, list[float]] = {name: [] for name in maps}
    for batch in pairs:
        pair = make_state(batch, networks)
        warped, fixed = pair.warped_label.argmax(1), pair.fixed_label.argmax(1)
        asked, right = (warped > 0) | (fixed > 0), warped == fixed
        for name in maps:
            map_ = getattr(pair, name)[:, 0]
            found[name].append(float(compute_roc_auc(map_[asked], right[asked].float())))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


if __name__ == "__main__":
    fire.Fire(main)
