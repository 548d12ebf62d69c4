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
"""The memory that an iteration of training needs, by configs and size, counted on the CPU.

    python -m benchmarks.costs.memory --configs train.yaml,run/low_memory.yaml --size "[64,64,64]"

Runs one iteration, in which every term is live, on a pair of phantoms, and prints the most that PyTorch keeps at a time
for the backward pass. It is what grows with the volume and what a GPU needs as well; buffers of the convolutions, which
differ from device to device, the weights and their moments come on top. The peak of the process is printed beside it.
"""

from __future__ import annotations

import logging
import resource
import tempfile
from collections import Counter
from collections.abc import Sequence

import fire
import torch
from monai.bundle import ConfigWorkflow
from torch.autograd.graph import saved_tensors_hooks

from benchmarks import ROOT
from scripts.phantom.volumes import make_phantoms

logger = logging.getLogger("memory")
BUNDLE = ROOT / "bundle"

#: one pair with a label, and no validation
RUN = {
    "max_epochs": 1,
    "iterations_per_epoch": 1,
    "num_labeled": 1,
    "train::sampler::kinds": {"labeled_unlabeled": 1.0},
    "data_check::min_unlabeled": 1,
}


class Kept:
    """Counts the bytes kept for the backward pass, a storage that is kept twice once, while it is entered as a context.

    Attributes:
        now: bytes at present.
        peak: the most there have been.
        total: all there ever were.
    """

    def __init__(self) -> None:
        self.now = self.peak = self.total = 0
        self._holders: Counter[int] = Counter()
        self._hooks = saved_tensors_hooks(lambda tensor: _Held(self, tensor), lambda held: held.tensor)

    def __enter__(self) -> Kept:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def add(self, storage: torch.UntypedStorage, holders: int) -> None:
        """Count one holder of a storage more (1) or less (-1)."""
        address = storage.data_ptr()
        before = self._holders[address]
        self._holders[address] += holders
        change = storage.nbytes() * (bool(self._holders[address]) - bool(before))
        self.now += change
        self.total += max(0, change)
        self.peak = max(self.peak, self.now)


class _Held:
    def __init__(self, kept: Kept, tensor: torch.Tensor) -> None:
        self.kept, self.tensor = kept, tensor.detach()  # attached, an output would keep the graph that keeps it
        kept.add(self.tensor.untyped_storage(), 1)

    def __del__(self) -> None:
        self.kept.add(self.tensor.untyped_storage(), -1)


def main(configs: str | Sequence[str] = "train.yaml", size: Sequence[int] = (64, 64, 64)) -> None:
    """Print the memory of one iteration.

    Args:
        configs: relative to ``bundle/configs``, separated by commas.
        size: voxels of the networks' grid.
    """
    files = configs.split(",") if isinstance(configs, str) else configs
    with tempfile.TemporaryDirectory() as folder:
        make_phantoms(f"{folder}/data", num_labeled=1, num_unlabeled=1, num_validation=0, num_test=0, size=32)
        entries = RUN | {"dataset_dir": f"{folder}/data", "output_dir": f"{folder}/out", "spatial_size": [*size]}
        paths = [str(BUNDLE / "configs" / file) for file in files]
        training = ConfigWorkflow(paths, logging_file=False, workflow_type="train", **entries)
        training.initialize()
        with Kept() as kept:
            training.run()
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts it in KiB
    message = "%s, %s: %.0f MiB kept, at most %.0f MiB in the process"
    logger.info(message, " ".join(files), " x ".join(map(str, size)), kept.peak / 2**20, process)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    fire.Fire(main)
