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
"""Recipes with networks of their own by the commands of DeepRS: trained, resumed, evaluated, and used on files."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import pytest
import torch
import yaml
from bundle_runs import BUNDLE, succeed, tiny

#: config, id and file of a network, as docs/README.md exports them
EXPORTED = [
    ("inference.yaml", "network_def", "model"),
    ("register.yaml", "registration_def", "model_registration"),
]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["brbs", "pc_reg", "pc_reg_rt"])
def test_a_recipe_trains_resumes_evaluates_segments_registers_and_exports_by_the_commands_of_deeprs(
    recipe, phantoms, tmp_path, request
):
    overlay, out = tmp_path / "tiny.yaml", tmp_path / "out"
    overlay.write_text(yaml.safe_dump(tiny(["train.yaml", f"recipes/{recipe}.yaml"])))
    configs, model = ["configs/train.yaml", f"configs/recipes/{recipe}.yaml", overlay], out / "model.yaml"
    options = {"dataset_dir": phantoms, "output_dir": out}
    if recipe == "pc_reg_rt":
        options["pretrained"] = request.getfixturevalue("pc_reg")  # the stage before this one
    succeed("training", configs, **options)
    first = torch.load(out / "train_state.pt", weights_only=True)
    said = succeed("training", configs, resume=True, max_epochs=2, **options)
    second = torch.load(out / "train_state.pt", weights_only=True)
    assert "resumed after epoch 1" in said and [state["iteration"] for state in (first, second)] == [2, 4]
    assert first["networks"].keys() == second["networks"].keys() >= {"segmentation", "registration"}
    assert {path.name for path in out.glob("*.pt")} == {"model.pt", "model_registration.pt", "train_state.pt"}

    options = {"dataset_dir": phantoms, "output_dir": tmp_path / "eval", "ckpt_dir": out, "max_pairs": 2}
    succeed("evaluating", [*configs, "configs/evaluate.yaml"], **options)
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert [metrics[task]["n"] for task in ("segmentation", "registration")] == [3, 2]

    options = {"dataset_dir": phantoms, "output_dir": tmp_path / "segmented"}
    succeed("inferring", ["configs/inference.yaml", model], **options)
    assert len(list((tmp_path / "segmented").glob("*_seg.nii.gz"))) == 10

    moving, fixed = (phantoms / "images" / f"phantom_00{number}.nii.gz" for number in (0, 3))
    succeed("registering", ["configs/register.yaml", model], output_dir=tmp_path / "pair", moving=moving, fixed=fixed)
    assert nib.load(tmp_path / "pair" / "warped.nii.gz").shape == nib.load(fixed).shape

    for config, network, file in EXPORTED:
        files = f"['configs/{config}','{model}']"
        options = ["--net_id", network, "--ckpt_file", str(out / f"{file}.pt"), "--filepath", str(out / f"{file}.ts")]
        command = [sys.executable, "-m", "monai.bundle", "ckpt_export", *options, "--config_file", files]
        subprocess.run([*command, "--meta_file", "configs/metadata.json"], cwd=BUNDLE, check=True, capture_output=True)
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.jit.load(out / "model.ts")(image).shape == (1, 8, 16, 16, 16)
    shown = image if recipe == "brbs" else image.expand(-1, 7, -1, -1, -1)  # PC-Reg: a masked image for each structure
    assert torch.jit.load(out / "model_registration.ts")(shown, shown).shape == (1, 3, 16, 16, 16)
