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
"""What the model zoo's CI does with a bundle: by its commands, offline, in the folder that `make zoo` writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from bundle_runs import BUNDLE, ROOT
from document_blocks import blocks
from onnx.reference import ReferenceEvaluator
from tiny_networks import shipped

from scripts.networks.weights import FILES

METADATA = "configs/metadata.json"
#: network -> the config and the id it is exported by
EXPORTED = {"segmentation": ("inference.yaml", "network_def"), "registration": ("register.yaml", "registration_def")}
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Where ``make zoo`` has written the folder and the zip."""
    if shutil.which("make") is None or shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("`make zoo` takes make, git, and a clone")
    out = tmp_path_factory.mktemp("zoo")
    subprocess.run(["make", "zoo", f"OUT={out}"], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def zoo(written):
    return written / "deeprs"


def monai_bundle(folder: Path, *arguments: str) -> str:
    """A command of MONAI's own, typed in a bundle that python has no other way of finding."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "monai.bundle", *arguments]
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def export(zoo: Path, action: str, name: str) -> Path:
    """The documented command that exports a network, and the file it writes."""
    config, entry = EXPORTED[name]
    suffix = {"ckpt_export": ".ts", "onnx_export": ".onnx"}[action]
    target, weights = (f"models/{FILES[name]}".replace(".pt", end) for end in (suffix, ".pt"))
    options = ["--net_id", entry, "--filepath", target, "--ckpt_file", weights]
    monai_bundle(zoo, action, *options, "--meta_file", METADATA, "--config_file", f"configs/{config}")
    return zoo / target


def loaded(name: str) -> torch.nn.Module:
    """A network with the weights that ship, without the detour by a file of another kind."""
    config, entry = EXPORTED[name]
    network = shipped(config, entry).eval()
    network.load_state_dict(torch.load(BUNDLE / "models" / FILES[name], weights_only=True))
    return network


@pytest.fixture(scope="module")
def inputs(phantoms):
    """Two images as the networks get them, by number of inputs: (1, 1, D, H, W) each."""
    return preprocessed(phantoms, "phantom_000", "phantom_001")


def preprocessed(folder: Path, *cases: str) -> list[torch.Tensor]:
    prepare = shipped("register.yaml", "preprocessing")
    paths = [next(folder.glob(f"images*/{case}.nii.gz")) for case in cases]
    return [prepare({"image": str(path)})["image"].as_tensor()[None] for path in paths]


def results(name: str, network, images: list[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return network(*(images[:1] if name == "segmentation" else map(shown_to_registration, images)))


def shown_to_registration(image: torch.Tensor) -> torch.Tensor:
    """An image and, beside it, the probability of each structure."""
    with torch.no_grad():
        return torch.cat([image, loaded("segmentation")(image).softmax(dim=1)[:, 1:]], dim=1)


# ---- the folder


def test_the_folder_is_what_the_zoo_asks_for_and_nothing_that_a_run_left(written, zoo):
    files = {path.relative_to(zoo).as_posix() for path in zoo.rglob("*") if path.is_file()}
    weights = {f"models/{FILES[name]}" for name in EXPORTED}  # recipes/best.yaml has no discriminator
    asked = {"LICENSE", METADATA, "configs/inference.yaml", "configs/train.yaml", "configs/logging.conf"}
    assert {*asked, *weights, "docs/README.md", "docs/data_license.txt"} <= files
    assert {name.split("/")[0] for name in files} == {"LICENSE", "configs", "docs", "models", "scripts"}
    assert not {name.rsplit(".", 1)[-1] for name in files} & {"pyc", "nii", "gz", "csv", "npz", "ts", "onnx"}
    assert {name for name in files if name.startswith("models/")} == weights
    with zipfile.ZipFile(written / "deeprs.zip") as archive:
        zipped = {name for name in archive.namelist() if not name.endswith("/")}
        assert zipped == {f"deeprs/{name}" for name in files}
        for name in ("models/model.pt", METADATA):
            assert archive.read(f"deeprs/{name}") == (BUNDLE / name).read_bytes()


def test_files_are_small_enough_to_go_without_a_list_of_large_ones(zoo):
    assert max(path.stat().st_size for path in zoo.rglob("*")) < 25 * MEGABYTE
    assert not list(zoo.glob("large_files.*"))


def test_the_readme_has_the_sections_of_the_zoo_in_its_order():
    sections = re.findall(r"^## (.+)$", (BUNDLE / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sections == [
        "Overview",
        "Data",
        "Training configuration",
        "Performance",
        "Commands",
        "References",
        "License",
    ]


# ---- the metadata


def test_the_metadata_describe_the_shipped_inference():
    metadata = json.loads((BUNDLE / METADATA).read_text())
    data_format = metadata["network_data_format"]
    image, pred = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    assert image["spatial_shape"] == pred["spatial_shape"] == shipped("inference.yaml", "spatial_size")
    labels = {"0": "background"} | shipped("inference.yaml", "labels")
    assert pred["channel_def"] == labels and pred["num_channels"] == len(labels)
    assert metadata["version"] in metadata["changelog"]


@pytest.mark.parametrize("name", ["registration", "discriminator"])
def test_the_metadata_describe_the_networks_of_pairs(name):
    described = json.loads((BUNDLE / METADATA).read_text())[f"{name}_data_format"]
    network = shipped("register.yaml", f"{name}_def").eval()
    inputs, (output,) = described["inputs"].values(), described["outputs"].values()
    images = [torch.rand(1, tensor["num_channels"], *tensor["spatial_shape"]) for tensor in inputs]
    with torch.no_grad():
        assert network(*images).shape == (1, output["num_channels"], *output["spatial_shape"])


@pytest.mark.slow
def test_the_metadata_follow_the_schema_that_they_name(zoo, data_root, tmp_path):
    address = json.loads((zoo / METADATA).read_text())["schema"]
    known = data_root / address.rsplit("/", 1)[-1]
    if not known.is_file():
        pytest.skip(f"the schema is not in {known}; it can be had at {address}")
    shutil.copy(known, tmp_path / "schema.json")  # a file that is there is not downloaded
    said = monai_bundle(zoo, "verify_metadata", "--meta_file", METADATA, "--filepath", str(tmp_path / "schema.json"))
    assert "metadata is verified with no error" in said
    broken = json.loads((zoo / METADATA).read_text())
    del broken["registration_data_format"]["inputs"]["moving"]["spatial_shape"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads(known.read_text()))


def test_the_network_takes_and_gives_what_the_metadata_say(zoo):
    options = ["--net_id", "network_def", "--meta_file", METADATA, "--config_file", "configs/inference.yaml"]
    assert "data shape of network is verified with no error" in monai_bundle(zoo, "verify_net_in_out", *options)


# ---- exports


@pytest.fixture(scope="module")
def scripts(zoo):
    """name -> the network in TorchScript, from the file that the documented command writes."""
    return {name: torch.jit.load(export(zoo, "ckpt_export", name)) for name in EXPORTED}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_network_in_torchscript_computes_what_it_does_in_python(name, scripts, inputs):
    expected = results(name, loaded(name), inputs)
    assert expected.std() > 0.01
    torch.testing.assert_close(results(name, scripts[name], inputs), expected)


@pytest.mark.parametrize("name", EXPORTED)
def test_it_does_so_on_images_of_the_hippocampus(name, scripts, hippocampus):
    images = preprocessed(hippocampus, "hippocampus_003", "hippocampus_006")
    torch.testing.assert_close(results(name, scripts[name], images), results(name, loaded(name), images))


def test_a_registration_network_that_integrates_can_be_exported_too():
    network = shipped("register.yaml", "registration_def", **{"registration_def::flow_init_std": 0.5}).eval()
    images = [torch.rand(1, 3, 16, 24, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    with torch.no_grad():
        ddf, exported = network(*images), torch.jit.script(network)(*images)
    assert ddf.abs().max() > 1
    torch.testing.assert_close(exported, ddf, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_segmentation_network_in_onnx_computes_what_it_does_in_python(zoo, inputs):
    network = ReferenceEvaluator(onnx.load(export(zoo, "onnx_export", "segmentation")))
    (pred,) = network.run(None, {network.input_names[0]: inputs[0].numpy()})
    expected = results("segmentation", loaded("segmentation"), inputs)
    np.testing.assert_allclose(pred, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_lines_of_the_readme_export_the_registration_network_to_onnx(zoo, inputs):
    (lines,) = blocks(BUNDLE / "docs" / "README.md", "python")
    subprocess.run([sys.executable, "-c", lines], cwd=zoo, check=True, capture_output=True)
    network = ReferenceEvaluator(onnx.load(zoo / "model_registration.onnx"))
    (ddf,) = network.run(
        None, dict(zip(("moving", "fixed"), (shown_to_registration(image).numpy() for image in inputs), strict=True))
    )
    expected = results("registration", loaded("registration"), inputs)
    np.testing.assert_allclose(ddf, expected, rtol=1e-3, atol=1e-4)
