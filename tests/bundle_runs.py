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
"""Running the bundle from tests: a network small enough for a test, in this process and as the commands users type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundle"
CONFIGS = BUNDLE / "configs"
#: where users stand when they type a command: the repository, or the bundle
PLACES = {"repository": ROOT, "bundle": BUNDLE}
STRUCTURES = {
    205: "myocardium of the left ventricle",
    420: "left atrium",
    500: "left ventricle",
    550: "right atrium",
    600: "right ventricle",
    820: "ascending aorta",
    850: "pulmonary artery",
}

#: shrinks whatever a config says to volumes of 16 voxels and networks of two levels, for phantoms of that size
TINY: dict[str, Any] = {
    "labels": None,
    "num_labeled": 2,
    "num_unlabeled": None,
    "pixdim": [9.0, 9.0, 9.0],
    "spatial_size": [16, 16, 16],
    "intensity": "window",
    "intensity_range": [-300, 600],
    "max_epochs": 1,
    "iterations_per_epoch": 2,
    "seed": 3,  # draws labelled pairs for the first two iterations, where a recipe mixes them with unlabelled ones
    "network_def::channels": [4, 8],
    "network_def::strides": [2],
    "discriminator_def::network::channels": [4, 8],
    "discriminator_def::network::strides": [2],
    "registration_def::encoder_channels": [4, 4],
    "registration_def::decoder_channels": [4, 4, 4],
    "registration_def::half_resolution": True,
}


#: what makes networks tiny whose sizes are not those of a UNet, by the name of their class
TINY_SIZES: dict[str, dict[str, Any]] = {
    "FCN": {"network_def::channels": [4, 8]},
    "SegNet": {"network_def::channels": [4, 8]},
    "ReconstructingUNet": {"network_def::channels": [4, 8]},
    "DenseBiasNet": {"network_def::channels": [4, 8]},
    "PriorDenseBiasNet": {"network_def::channels": [4, 8], "network_def::prior_channels": [4, 4]},
    "LastOutput": {"network_def::network::features": [8] * 6},
    "Padded": {  # V-Net: of one size, with batch norm, which at the bottom needs more than one voxel
        "batch_size": 2,
        "updates::segmentation::optimizer": {  # without the moments of Adam, of which half a gigabyte would be written
            "_target_": "torch.optim.SGD",
            "params": "$@network.parameters()",
            "lr": 0.01,
        },
    },
}


def tiny(configs: Sequence[str]) -> dict[str, Any]:
    """``TINY`` for configs relative to ``bundle/configs``, whatever they have in place of UNet and VoxelMorph-2."""
    merged = ConfigParser.load_config_files([str(CONFIGS / config) for config in configs])
    entries = dict(TINY)
    for name, usual in {"network_def": "UNet", "registration_def": "VoxelMorph2"}.items():
        found = merged[name]["_target_"].split(".")[-1]
        if found != usual:
            entries = {key: value for key, value in entries.items() if not key.startswith(f"{name}::")}
            entries |= TINY_SIZES.get(found, {})
    if merged["train"]["sampler"]["kinds"].get("unlabeled_labeled"):
        entries["seed"] = 15  # draws a labelled fixed and a labelled moving image for the first two iterations
    if "vote_epochs" in merged:  # from the first iteration on, and quickly
        quick = {f"{name}::matching::levels": [[4, 2, 1]] for name in ("votes", "state")}
        entries |= {"vote_epochs": [1], **quick}
    return entries


def write_overlay(path: Path, **entries: Any) -> Path:
    """A config that goes last: ``TINY``, and whatever a test wants beside it."""
    path.write_text(yaml.safe_dump(TINY | entries))
    return path


def run_bundle(
    run_id: str,
    configs: Sequence[str | Path],
    place: Path = ROOT,
    wait: bool = True,
    processes: int = 1,
    **entries: Any,
) -> subprocess.CompletedProcess | subprocess.Popen:
    """The command of the README as a process of its own; its streams come back as one text.

    Args:
        run_id: such as ``training``.
        configs: absolute, or relative to ``bundle/``: ``configs/train.yaml``.
        place: the folder to run it from.
        wait: for the end; otherwise the running process is returned, and it writes nowhere.
        processes: more than one are started by torchrun.
        entries: of the command line.
    """
    files = [os.path.relpath(BUNDLE / config, place) for config in configs]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [
        sys.executable,
        *torchrun,
        "-m",
        "monai.bundle",
        "run",
        run_id,
        "--config_file",
        str(files).replace(" ", ""),
    ]
    for key, value in entries.items():
        command += [f"--{key}", str(value)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["GLOO_SOCKET_IFNAME"] = "lo"  # the name of a machine need not lead to it
    options: dict[str, Any] = {"cwd": place, "env": environment, "text": True, "stderr": subprocess.STDOUT}
    if not wait:
        return subprocess.Popen(command, **options | {"stdout": subprocess.DEVNULL})
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=600, **options)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, without what an output folder keeps for itself."""
    return {path.name for path in folder.iterdir() if path.name != ".deeprs"}


def succeed(*arguments: Any, **options: Any) -> str:
    """``run_bundle``, and the output of a command that has to succeed."""
    done = run_bundle(*arguments, **options)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@contextmanager
def workflow(configs: Sequence[str], kind: str = "train", **entries: Any) -> Iterator[ConfigWorkflow]:
    """A workflow in this process, initialised; afterwards the random state is nobody's again.

    Args:
        configs: relative to ``bundle/configs``.
        kind: ``train`` or ``infer``.
        entries: over the config; keys of tuples such as ``"network_def::channels"`` by ``**{...}``.
    """
    made = ConfigWorkflow(
        [str(CONFIGS / config) for config in configs],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **entries,
    )
    try:
        made.initialize()
        yield made
        made.finalize()
    finally:
        set_determinism(seed=None)
