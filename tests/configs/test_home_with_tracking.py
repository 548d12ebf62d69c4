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
"""MONAI makes a folder of `output_dir` before anything of a config is read; with `~` in it that is not the home."""

from __future__ import annotations

import pytest
from bundle_runs import CONFIGS
from monai.bundle import ConfigWorkflow


@pytest.mark.parametrize("name", ["train", "inference", "register", "apply", "prepare", "report"])
def test_tracking_makes_no_folder_of_a_tilde(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ConfigWorkflow(
        str(CONFIGS / f"{name}.yaml"), logging_file=False, workflow_type="train", tracking="mlflow", output_dir="~/x"
    )
    assert list(tmp_path.iterdir()) == []
