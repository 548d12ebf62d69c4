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
"""Plans of phantoms: what the user has set stays, files of others do too, and a training keeps to its budget."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bundle_runs import CONFIGS
from door_calls import environment
from monai.bundle import ConfigWorkflow

from scripts.files.errors import root_cause
from scripts.planning import planning
from scripts.planning.budget import GIB, Cost
from scripts.planning.measure import measure, peak_memory
from scripts.training.config_of_run import running

# from a process that is small itself: on Linux a child's ru_maxrss has that of its parent at the start
MEASURED = """
import resource, subprocess, sys
status = subprocess.call([sys.executable, "-m", "deeprs", *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(status)
"""


def plan_of(data: Path, out: Path, **entries) -> dict:
    """The plan that `planning` writes, in this process."""
    files = [str(CONFIGS / name) for name in ("train.yaml", "plan.yaml")]
    entries = {"dataset_dir": str(data), "output_dir": str(out), "num_labeled": 2, "memory": 4, **entries}
    made = ConfigWorkflow(files, logging_file=False, workflow_type="train", run_id="planning", **entries)
    with running(made) as workflow:
        workflow.initialize()
        workflow.run()
    return yaml.safe_load((out / "plan.yaml").read_text())


def refusal(*arguments, **entries) -> str:
    with pytest.raises(RuntimeError) as stopped:  # raised by MONAI
        plan_of(*arguments, **entries)
    return str(root_cause(stopped.value))


@pytest.fixture
def fast(monkeypatch) -> list[dict]:
    """A machine whose cost is known, in the place of a process that measures; the configs that it was shown."""
    seen: list[dict] = []

    def known(config, labels, lists) -> Cost:
        seen.append(config)
        assert set(lists) == {"labeled", "unlabeled", "validation"} and len(labels) == 7
        return Cost(0.001, GIB, GIB / 2)

    monkeypatch.setattr(planning, "measure", known)
    return seen


def test_what_the_user_has_set_is_measured_and_stays(fast, phantoms, tmp_path):
    own = {"intensity_range": [-200, 500], "intensity": "window", "batch_size": 2, "network_def::channels": [4, 8, 16]}
    found = plan_of(phantoms, tmp_path, pixdim=[10.0, 10.0, 10.0], **own, **{"network_def::strides": [2, 2]})
    assert found["pixdim"] == [10.0] * 3 and found["batch_size"] == 2 and found["intensity_range"] == [-200, 500]
    assert "network_def::channels" not in found and fast[0]["network_def"]["channels"] == [4, 8, 16]
    assert fast[0]["discriminator_def"]["network"]["channels"] == found["discriminator_def::network::channels"]
    assert all(side * 10 >= 96 for side in found["spatial_size"])


def test_the_same_facts_give_the_same_plan_and_another_file_of_its_name_stays(fast, phantoms, tmp_path):
    first = plan_of(phantoms, tmp_path)
    assert first["intensity"] == "window" and plan_of(phantoms, tmp_path) == first  # ours is replaced
    (tmp_path / "plan.yaml").write_text("pixdim: [1, 1, 1]\n")
    assert "would be replaced" in refusal(phantoms, tmp_path)
    assert plan_of(phantoms, tmp_path, overwrite=True) == first


def test_no_faulty_case_is_planned_for(fast, phantoms, tmp_path):
    assert "at least 40 labelled cases" in refusal(phantoms, tmp_path, **{"data_check::min_labeled": 40})
    assert not fast and not (tmp_path / "plan.yaml").exists()


def test_a_training_that_cannot_be_measured_says_why():
    with pytest.raises(ValueError, match=r"two iterations could not be measured\.\n  \w+"):
        measure({}, {1: "a"}, {"labeled": [], "unlabeled": []})
    assert peak_memory() > 2**24


def test_a_training_without_a_config_is_planned_and_keeps_to_the_budget(phantoms, tmp_path):
    words = ["train", phantoms, "--num_labeled", 2, "--memory", 2, "--minutes", 0.6]
    command = [sys.executable, "-c", MEASURED, *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    kilobytes, spent = map(float, done.stdout.splitlines()[-1].split())  # the planning's, too
    out = tmp_path / "output" / "train"
    text = (out / "plan.yaml").read_text()
    memory, minutes = map(float, re.search(r"# expected  ([\d.]+) GiB, ([\d.]+) minutes", text).groups())
    assert memory <= 2 and minutes <= 0.6
    assert 1024 * kilobytes <= 2 * GIB
    assert spent <= 60 * 0.6 + 40
    config = yaml.safe_load((out / "config.yaml").read_text())
    for name in ("spatial_size", "pixdim", "intensity_range", "max_epochs", "iterations_per_epoch"):
        assert config[name] == yaml.safe_load(text)[name]
    assert (out / "model.pt").is_file() and "the plan is" in done.stdout + done.stderr
