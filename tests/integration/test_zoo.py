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
"""What the CI of the model zoo does with a bundle, offline, in a copy of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from bundle_runs import BUNDLE
from tiny_networks import shipped

FILES = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the bundle under a name of its own, with the weights that ship, or with random ones of their shape."""
    folder = tmp_path_factory.mktemp("zoo") / "deeprs"
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("__pycache__", "output", "eval", "data"))
    shutil.copytree(BUNDLE / "configs" / "data", folder / "configs" / "data", dirs_exist_ok=True)
    if not (folder / "models" / "model.pt").is_file():
        (folder / "models").mkdir(exist_ok=True)
        torch.save(shipped("inference.yaml", "network_def").state_dict(), folder / "models" / "model.pt")
    return folder


def monai_bundle(folder, *arguments: str) -> None:
    command = [sys.executable, "-m", "monai.bundle", *arguments, *FILES]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_network_takes_and_gives_what_the_metadata_say(copied):
    monai_bundle(copied, "verify_net_in_out", "--net_id", "network_def")


def test_the_metadata_describe_the_shipped_inference():
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())["network_data_format"]
    image, pred = metadata["inputs"]["image"], metadata["outputs"]["pred"]
    assert image["spatial_shape"] == pred["spatial_shape"] == shipped("inference.yaml", "spatial_size")
    labels = {"0": "background"} | shipped("inference.yaml", "labels")
    assert pred["channel_def"] == labels and pred["num_channels"] == len(labels)


def test_the_weights_export_to_a_script_that_computes_the_same(copied):
    arguments = ["--net_id", "network_def", "--filepath", "models/model.ts", "--ckpt_file", "models/model.pt"]
    monai_bundle(copied, "ckpt_export", *arguments)
    network = shipped("inference.yaml", "network_def").eval()
    network.load_state_dict(torch.load(copied / "models" / "model.pt", weights_only=True))
    image = torch.rand(1, 1, *shipped("inference.yaml", "spatial_size"), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(copied / "models" / "model.ts")(image), network(image))
