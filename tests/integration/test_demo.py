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
"""`make demo`: the whole job on phantoms, in minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from bundle_runs import BUNDLE, ROOT

from scripts.phantom.demo import clear_earlier


def test_a_demo_makes_room_for_itself_and_for_no_one_else(tmp_path):
    of_a_demo, of_a_user = tmp_path / "demo" / "train", tmp_path / "mine" / "train"
    clear_earlier(of_a_demo)
    of_a_user.mkdir(parents=True)
    for folder in (of_a_demo, of_a_user):
        (folder / "model.pt").write_bytes(b"weights")
        clear_earlier(folder)
    assert not (of_a_demo / "model.pt").exists()
    assert [path.name for path in of_a_user.iterdir()] == ["model.pt"]


@pytest.mark.slow
def test_the_demo_beats_doing_nothing_in_both_tasks_and_leaves_a_report(tmp_path):
    command = [sys.executable, "-m", "scripts.phantom.demo", "--output_dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(BUNDLE)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    segmentation, registration, identity = (
        metrics[task]["dice"]["mean"] for task in ("segmentation", "registration", "identity")
    )
    assert segmentation > 0.65 and registration > identity + 0.06
    assert metrics["registration"]["folding_percent"]["mean"] < 2
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 8 and 'src="http' not in page
    assert str(tmp_path / "evaluation" / "report.html") in done.stdout
    assert len(list((tmp_path / "segmentations").glob("*_seg.nii.gz"))) == 26
    assert (tmp_path / "registration" / "warped_label.nii.gz").is_file()
