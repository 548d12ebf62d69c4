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
"""What a run writes about itself, as a bundle builds the handler and a training begins."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigParser

from scripts.training.record import RecordConfig


def record(folder, **entries):
    """Build the handler as a bundle does, and let a training begin."""
    config = {
        "spatial_size": [16, 16, 16],
        "doubled": "$2 * @spatial_size[0]",
        "network_def": {"_target_": "UNet", "out_channels": "@num_classes", "strides": [2]},
        "num_classes": "$1 + 2",
        "copied_text": "%spatial_size",
        "handlers": [
            {
                "_target_": "scripts.training.RecordConfig",
                "folder": str(folder),
                "model": {"num_classes": "@num_classes", "labels": {"1": "a"}},
                "copied": ["spatial_size", "network_def", "doubled", "pixdim"],
            }
        ],
        **entries,
    }
    parser = ConfigParser({**config, "pixdim": None})
    (handler,) = parser.get_parsed_content("handlers")
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    assert not folder.exists()  # a training that is refused before it starts leaves what is there
    engine.run([0])
    return config, *(yaml.safe_load((folder / name).read_text()) for name in ("config.yaml", "model.yaml"))


def test_the_merged_config_is_written_as_text_beside_the_weights(tmp_path):
    config, merged, _ = record(tmp_path / "out")
    assert merged == {**config, "copied_text": [16, 16, 16], "pixdim": None}  # macros are text, and are filled in
    assert list(merged)[:3] == ["spatial_size", "doubled", "network_def"]
    again = ConfigParser(merged)
    assert again.get_parsed_content("doubled") == 32
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.yaml", "model.yaml"]


def test_model_yaml_has_values_as_found_and_entries_as_they_stand(tmp_path):
    folder = tmp_path / "out"
    config, _, model = record(folder)
    assert model == {
        "num_classes": 3,
        "labels": {"1": "a"},
        "spatial_size": [16, 16, 16],
        "network_def": config["network_def"],
        "doubled": "$2 * @spatial_size[0]",
        "pixdim": None,
        "voxel_size": None,  # no data check has looked
        "ckpt_dir": str(folder.resolve()),
    }


def test_objects_that_a_program_put_into_the_config_are_written_as_their_text(tmp_path):
    _, merged, _ = record(tmp_path / "out", dataset_dir=Path("/data/hearts"), device=torch.device("cpu"))
    assert (merged["dataset_dir"], merged["device"]) == ("/data/hearts", "cpu")


def test_outside_a_config_there_is_a_model_yaml_alone(tmp_path):
    handler = RecordConfig(str(tmp_path), {"num_classes": 3}, copied=["spatial_size"])
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.run([0])
    assert [path.name for path in tmp_path.iterdir()] == ["model.yaml"]
    assert yaml.safe_load((tmp_path / "model.yaml").read_text()) == {
        "num_classes": 3,
        "voxel_size": None,
        "ckpt_dir": str(tmp_path),
    }


def test_what_a_copied_entry_refers_to_is_copied_too_unless_its_value_is_known():
    config = {
        "num_classes": "$1 + 2",
        "state": {"num_classes": "@num_classes", "sampling": "@sampling", "masks": "hard"},
        "sampling": {"a": "$@shape::beta / 2", "again": "@state"},
        "shape": {"beta": 0.6},
        "spatial_size": [16, 16, 16],
    }
    handler = ConfigParser(
        {
            **config,
            "handler": {
                "_target_": "scripts.training.RecordConfig",
                "folder": "out",
                "model": {"num_classes": 3},
                "copied": ["state"],
            },
        }
    ).get_parsed_content("handler")
    assert handler.model == {"num_classes": 3, **{key: config[key] for key in ("state", "sampling", "shape")}}
