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
"""inference.yaml and register.yaml stand alone, so they repeat what the shipped weights were trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"
TRAINED = ["train.yaml", "data/hippocampus.yaml", "recipes/best.yaml"]
SHARED = ["orientation", "pixdim", "crop", "spatial_size", "intensity", "intensity_range", "labels"]
NETWORKS = {
    "inference.yaml": ["network_def", "inferer"],
    "register.yaml": ["network_def", "registration_def", "discriminator_def"],
}
#: what is particular to labels, and what looks at images that nobody has checked and changes nothing
LOOK_ON = ("label_ids", "check", "voxel_size", "warn_of_crop")


def load(*names: str) -> dict:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in names])
    return parser.get()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_model_is_that_of_the_training_config(name):
    trained, used = load(*TRAINED), load(name)
    for key in [*SHARED, *NETWORKS[name]]:
        assert used[key] == trained[key], key
    assert used["num_classes"] == len(trained["labels"]) + 1


def test_registration_sees_and_is_refined_by_what_it_was_trained_with():
    trained, used = load(*TRAINED), load("register.yaml")
    assert used["state"].items() <= trained["state"].items()
    terms = {
        name: term for name, term in trained["updates"]["registration"]["terms"].items() if not term.get("_disabled_")
    }
    assert used["refinement_terms"].keys() == terms.keys()
    for name, term in used["refinement_terms"].items():
        assert term.items() <= terms[name].items(), name


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_preprocessing_is_that_of_training_without_labels(name):
    def of_images(config):
        entries = load(config)["preprocessing"]
        return {key: value for key, value in entries.items() if key not in LOOK_ON}

    assert of_images(name) == of_images("train.yaml")


@pytest.mark.parametrize(
    ("config", "component"),
    [
        ("train.yaml", "train#handlers#6"),
        ("train.yaml", "validate#handlers#3"),
        ("register.yaml", "register"),
        ("report.yaml", "report"),
        ("report.yaml", "pool"),
        ("evaluate.yaml", "evaluation"),
    ],
)
def test_whatever_draws_slices_is_told_the_view(config, component):
    entry = load("train.yaml", config)
    assert entry["view"] == "radiological"
    for key in component.split("#"):
        entry = entry[int(key) if key.isdigit() else key]
    assert entry["view"] == "@view"
