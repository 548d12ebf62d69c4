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
"""The record of a model, as training writes it, small and whole."""

from __future__ import annotations

from typing import Any

UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
}
MODEL: dict[str, Any] = {
    "labels": {"1": "head", "2": "tail"},
    "num_classes": 3,
    "num_labeled": 4,
    "num_unlabeled": None,
    "fold": 0,
    "seed": 0,
    "tasks": ["segmentation", "registration"],
    "orientation": "RAS",
    "pixdim": None,
    "voxel_size": [1.0, 1.0, 2.0],
    "crop": "center",
    "spatial_size": [16, 16, 16],
    "intensity": "percentiles",
    "intensity_range": [1, 99],
    "network_def": UNET,
    "registration_def": {"_target_": "scripts.networks.VoxelMorph2", "encoder_channels": [4, 4]},
    "discriminator_def": None,
    "inferer": {"_target_": "SimpleInferer"},
    "state": {"_target_": "scripts.joint.PairState", "_mode_": "callable", "num_classes": 3, "reference_blend": 0.2},
    "refinement_terms": {
        "similarity": {
            "_target_": "scripts.joint.Term",
            "loss": {"_target_": "scripts.losses.LocalNCC", "window": 9},
            "quantities": ["warped_image", "fixed_image"],
            "weight": 1.0,
        }
    },
}
