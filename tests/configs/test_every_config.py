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
"""Every config that ships trains for two iterations, and is what MONAI, the model zoo and MONAI Label look for."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from bundle_runs import CONFIGS, TINY, tiny, workflow
from monai.bundle import ConfigParser

OF_REGISTER = {"run/no_model.yaml"}  # goes after register.yaml, and is tested there
OVERLAYS = sorted({path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*.yaml")} - OF_REGISTER)
RECIPES = [name for name in OVERLAYS if name.startswith("recipes/")]
WEIGHTS = {
    "segmentation": "model.pt",
    "registration": "model_registration.pt",
    "discriminator": "model_discriminator.pt",
}
#: networks that follow another one, and are no update of their own
AVERAGED = {"teacher"}


def with_base(overlay: str) -> list[str]:
    """The configs of a run with this overlay: an ablation ``<recipe>_<row>`` goes after the recipe it is of."""
    base = Path("recipes") / f"{Path(overlay).name.split('_')[0]}.yaml"
    bases = [base.as_posix()] if overlay.startswith("ablations/") and (CONFIGS / base).is_file() else []
    return ["train.yaml", *bases, overlay]


def parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


def last_values(path: Path) -> dict[str, float]:
    with open(path, newline="") as file:
        return {row["name"]: float(row["value"]) for row in csv.DictReader(file)}


def test_there_are_overlays_to_test():
    assert {"recipes/deeprs_paper.yaml", "run/bf16.yaml", "data/hippocampus.yaml"} <= set(OVERLAYS)


@pytest.mark.parametrize("overlay", ["train.yaml", *OVERLAYS])
def test_two_iterations_teach_the_scheduled_networks_and_no_other(overlay, phantoms, tmp_path, request):
    configs = with_base(overlay)
    entries = tiny(configs) | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path)}
    if "pretrained" in ConfigParser.load_config_files([str(CONFIGS / config) for config in configs]):
        entries["pretrained"] = str(request.getfixturevalue("pc_reg"))  # the stage before this one
    with workflow(configs, **entries) as training:
        content = training.parser.get_parsed_content
        networks, updates = content("networks"), content("updates")
        scheduled = {name for group in content("schedule") for name in group}
        before = {name: parameters(network) for name, network in networks.items()}
        training.run()
        assert content("train::trainer").state.iteration == 2
        assert training.check_properties() == []  # those MONAI asks for; here, because building all anew takes longest

    moved = {name for name, network in networks.items() if not torch.equal(before[name], parameters(network))}
    taught = {name for name, network in networks.items() if any(updates[u].network is network for u in scheduled)}
    assert moved == taught | AVERAGED & networks.keys()
    exported = {name for name, file in WEIGHTS.items() if (tmp_path / file).is_file()}
    assert exported == scheduled & WEIGHTS.keys()
    for name in exported:
        saved = torch.load(tmp_path / WEIGHTS[name], weights_only=True)
        assert all(torch.equal(saved[key], value) for key, value in networks[name].state_dict().items())

    values = last_values(tmp_path / "history.csv")
    terms = {f"{name}/{term}" for name in scheduled for term in updates[name].terms}
    assert terms <= values.keys()
    assert all(math.isfinite(value) for value in values.values())
    tasks = content("tasks")
    curves = {f"{task}_dice" for task in tasks}
    if "registration" in tasks:
        curves |= {"field_length_voxels", "folding_percent"}
    assert {f"validation/{name}" for name in curves} == {name for name in values if name.startswith("validation/")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_documents_name_the_state_of_every_recipe(recipe):
    merged = ConfigParser.load_config_files([str(CONFIGS / name) for name in ("train.yaml", recipe)])
    assert merged["state"]["_target_"].split(".")[-1] in (CONFIGS.parent / "docs" / "configs.md").read_text()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_networks_of_a_recipe_compute_the_same_in_torchscript(recipe):
    configs = ["train.yaml", recipe]
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in configs])
    parser.update(tiny(configs) | {"num_classes": 3})
    networks = [parser.get_parsed_content(name).eval() for name in ("network_def", "registration_def")]
    images = [torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    both = next(weight for weight in networks[1].parameters() if weight.ndim == 5).shape[1]  # R stacks them
    wide = [image.expand(-1, both // 2, -1, -1, -1) for image in images]
    torch.nn.init.normal_(networks[1].flow.weight)  # which starts at almost nothing
    with torch.no_grad():
        for network, inputs in zip(networks, (images[:1], wide), strict=True):
            # a fused kernel sums in another order: the last digits differ from machine to machine
            torch.testing.assert_close(torch.jit.script(network)(*inputs), network(*inputs), rtol=1e-4, atol=1e-4)


def test_the_light_augmentation_is_one_wherever_it_stands():
    names = ("data/hippocampus.yaml", "data/mouse_brain.yaml", "data/brain_mr.yaml", "run/light_augmentation.yaml")
    first, *others = (ConfigParser.load_config_file(CONFIGS / name)["augmentation"] for name in names)
    assert all(other == first for other in others)


@pytest.mark.parametrize("data", [name for name in OVERLAYS if name.startswith("data/")])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_networks_of_a_recipe_take_the_volumes_of_each_data_set(recipe, data):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("train.yaml", data, recipe)])
    parser["num_classes"] = 3
    multiple, size = parser.get_parsed_content("multiple"), parser.get_parsed_content("spatial_size")
    assert all(side % multiple == 0 for side in size)


@pytest.mark.parametrize("data", [[], *([name] for name in OVERLAYS if name.startswith("data/"))])
@pytest.mark.parametrize(
    "recipe", [[], ["recipes/best.yaml"], ["recipes/voxelmorph.yaml"], ["recipes/cyclemorph.yaml"]]
)
def test_low_memory_leaves_r_its_levels_at_half_resolution_after_any_data_and_recipe(recipe, data):
    networks = []
    for run in ([], ["run/low_memory.yaml"]):
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / name) for name in ("train.yaml", *data, *recipe, *run)])
        parser["num_classes"] = 3
        networks.append(parser.get_parsed_content("registration_def"))
    usual, low = networks
    assert low.half_resolution and low.multiple == usual.multiple and len(low.at_full) == 0
    if usual.half_resolution:  # narrow already: what there was stays
        shapes = ({key: value.shape for key, value in network.state_dict().items()} for network in networks)
        assert next(shapes) == next(shapes)


def test_inference_has_every_property_that_monai_asks_for(phantoms, tmp_path):
    with workflow(["inference.yaml"], "infer", dataset_dir=str(phantoms), output_dir=str(tmp_path)) as inference:
        assert inference.check_properties() == []


@pytest.mark.parametrize("run_id", ["run", "training", ""])
def test_each_way_to_name_the_run_trains_once(run_id, phantoms, tmp_path):
    with workflow(
        ["train.yaml"], dataset_dir=str(phantoms), output_dir=str(tmp_path), run_id=run_id, **TINY
    ) as training:
        training.run()  # a second training into the same folder would be refused
        assert training.parser.get_parsed_content("train::trainer").state.iteration == 2
