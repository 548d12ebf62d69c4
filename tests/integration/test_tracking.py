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
"""What TensorBoard and MLflow have recorded of a training, read back by their own readers."""

from __future__ import annotations

import csv
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from bundle_runs import succeed, write_overlay
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TERMS = {"discriminator/alignment", "registration/similarity", "registration/smoothness", "segmentation/augmented"}
FIELD = {"field_length_voxels", "folding_percent"}
METRICS = {"segmentation_dice", "registration_dice", *FIELD}


@dataclass
class Run:
    """The folder of a training, and what its own history says: (epoch, name) -> value."""

    folder: Path
    history: dict[tuple[int, str], float]

    def curve(self, name):
        return [value for (_, other), value in sorted(self.history.items()) if other == name]


def train(folder, data, **options):
    overlay = write_overlay(folder / "tiny.yaml", max_epochs=2)
    out = folder / "out"
    succeed("training", ["configs/train.yaml", overlay], dataset_dir=data, output_dir=out, **options)
    with open(out / "history.csv", newline="") as file:
        return Run(out, {(int(row["epoch"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)})


@pytest.fixture(scope="module")
def run(phantoms, tmp_path_factory):
    try:
        import mlflow  # noqa: F401
    except ImportError:
        return train(tmp_path_factory.mktemp("tracking"), phantoms)
    return train(tmp_path_factory.mktemp("tracking"), phantoms, tracking="mlflow")


@pytest.fixture(scope="module")
def events(run):
    return EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()


@pytest.fixture(scope="module")
def tracked(run):
    """The client of MLflow's database and the one run in it."""
    mlflow = pytest.importorskip("mlflow", reason="no mlflow; `make setup` installs what its tracking takes")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlruns.db'}")
    experiment = client.get_experiment_by_name("monai_experiment")
    (only,) = client.search_runs(experiment.experiment_id)
    return client, only


def test_tensorboard_has_every_term_of_every_epoch_and_the_field_of_training(run, events):
    names = {name for _, name in run.history if "/" in name and not name.startswith("validation/")}
    assert TERMS | {f"{term} weighted" for term in TERMS} | {f"training/{name}" for name in FIELD} <= names
    for name in names:
        np.testing.assert_allclose([scalar.value for scalar in events.Scalars(name)], run.curve(name), rtol=1e-4)


def test_tensorboard_has_the_metrics_and_a_picture_of_every_validation(run, events):
    for name in METRICS:
        expected = run.curve(f"validation/{name}")
        assert len(expected) == 2
        np.testing.assert_allclose([scalar.value for scalar in events.Scalars(name)], expected, rtol=1e-4)
    assert [image.step for image in events.Images("validation/pair")] == [1, 2]


def test_tensorboard_has_the_merged_config(run, events):
    (text,) = events.Tensors("config/text_summary")
    shown = textwrap.dedent(text.tensor_proto.string_val[0].decode())
    assert yaml.safe_load(shown) == yaml.safe_load((run.folder / "config.yaml").read_text())
    assert yaml.safe_load(shown)["max_epochs"] == 2


def test_mlflow_has_every_term_and_metric_of_every_epoch(run, tracked):
    client, only = tracked
    assert only.info.status == "FINISHED"
    for name in {name for _, name in run.history}:
        steps = client.get_metric_history(only.info.run_id, name.removeprefix("validation/"))
        values = [each.value for each in sorted(steps, key=lambda each: each.step)]
        np.testing.assert_allclose(values, run.curve(name), rtol=1e-4, err_msg=name)


def test_mlflow_has_the_merged_config_and_the_pictures(run, tracked, tmp_path):
    client, only = tracked
    assert {file.path for file in client.list_artifacts(only.info.run_id)} == {
        "config.yaml",
        "epoch_0001.png",
        "epoch_0002.png",
    }
    fetched = {
        name: Path(client.download_artifacts(only.info.run_id, name, str(tmp_path)))
        for name in ("config.yaml", "epoch_0002.png")
    }
    assert fetched["config.yaml"].read_bytes() == (run.folder / "config.yaml").read_bytes()
    with Image.open(fetched["epoch_0002.png"]) as picture:
        assert min(picture.size) > 300 and np.ptp(np.asarray(picture)) == 255
