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

"""The bundle for MONAI Label: its files agree with each other, and it trains as MONAI Label has it train."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bundle_runs import BUNDLE, TINY, workflow
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism
from monai_label import LABELS, NAME, Phantoms, write_bundle

from scripts.files.errors import root_cause
from scripts.networks.weights import FILES

SIZE = 16
CONFIGS_OF_A_BUNDLE = ("train.yaml", "label.yaml")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Five images in a datastore, none of them labelled yet."""
    return Phantoms(tmp_path_factory.mktemp("datastore"), 5, SIZE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    return write_bundle(folder / "app", folder / "mydata.yaml", SIZE, learning_rate=0.0)


@pytest.fixture
def bundle(written, tmp_path):
    """A copy to train in. Its learning rate is 0, so that a round leaves the weights that it began with."""
    return Path(shutil.copytree(written, tmp_path / NAME))


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))}


def assert_equal(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


@contextmanager
def opened(bundle: Path, kind: str, **entries) -> Iterator[ConfigWorkflow]:
    """The workflow of a written bundle, initialised."""
    config, meta = (str(bundle / "configs" / name) for name in (f"{kind}.yaml", "metadata.json"))
    options = {"meta_file": meta, "logging_file": False, "workflow_type": {"inference": "infer"}.get(kind, kind)}
    made = ConfigWorkflow(config, **options, bundle_root=str(bundle), **entries)
    try:
        made.initialize()
        yield made
    finally:
        set_determinism(seed=None)


def of_monai_label(labeled: list[dict], validation: list[dict] | None) -> dict[str, Any]:
    """The entries that MONAI Label's training task replaces; a ``val_split`` of -1 leaves validation to the bundle."""
    entries = {"device": "cpu", "train#trainer#max_epochs": 1, "train#dataset#data": labeled}
    return entries if validation is None else entries | {"validate#dataset#data": validation}


def train(bundle: Path, labeled: list[dict], validation: list[dict] | None) -> None:
    """What MONAI Label's training task does with a bundle: those entries, and `run`."""
    with opened(bundle, "train", **of_monai_label(labeled, validation)) as training:
        training.run()


def labeled(phantoms: Phantoms, *names: str) -> list[dict]:
    return [{"image": str(phantoms.image(name)), "label": str(phantoms.truth(name))} for name in names]


def shifted(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Move all weights in a folder, so that they are not those that a network gets by the seed."""
    moved = {name: {key: value + 0.01 for key, value in state.items()} for name, state in weights(folder).items()}
    for name, state in moved.items():
        torch.save(state, folder / name)
    return moved


def test_the_configs_have_what_monai_asks_of_a_bundle(bundle, phantoms):
    entries = of_monai_label(labeled(phantoms, phantoms.names[0]), [])
    with opened(bundle, "train", **entries) as training:
        assert training.check_properties() == []
    with opened(bundle, "inference", dataset_dir=str(phantoms.studies)) as inference:
        assert inference.check_properties() == []


def test_training_inference_and_metadata_are_of_the_same_network_and_structures(written):
    trained, used = (
        yaml.safe_load((written / "configs" / f"{kind}.yaml").read_text()) for kind in ("train", "inference")
    )
    for key in ("network_def", "spatial_size", "pixdim", "orientation", "intensity", "intensity_range", "crop"):
        assert trained[key] == used[key], key
    assert trained["labels"] == used["labels"] == LABELS and used["num_classes"] == 3
    described = json.loads((written / "configs" / "metadata.json").read_text())
    pred = described["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "background"} | LABELS and pred["num_channels"] == 3
    assert described["network_data_format"]["inputs"]["image"]["spatial_shape"] == [SIZE] * 3
    assert "hippocamp" not in json.dumps(described).lower() and "weights" not in described


def test_monai_label_offers_the_segmentation_network_first(written):
    assert min((path.name for path in (written / "models").glob("*.pt")), key=len) == "model.pt"


def test_a_round_goes_on_with_all_three_networks_and_saves_them(bundle, phantoms):
    begun = shifted(bundle / "models")
    train(bundle, labeled(phantoms, *phantoms.names[:2]), [])
    assert begun.keys() == set(FILES.values())
    assert_equal(weights(bundle / "models"), begun)
    assert_equal(weights(bundle / "rounds" / "001"), begun)
    assert not (bundle / "rounds" / "001" / "train_state.pt").exists()
    assert (bundle / "rounds" / "001" / "history.csv").is_file()


def test_a_round_of_other_networks_begins_anew_and_says_so(bundle, phantoms, caplog):
    file = bundle / "models" / FILES["segmentation"]
    torch.save({key: value[:1] for key, value in torch.load(file, weights_only=True).items()}, file)
    begun = shifted(bundle / "models")
    train(bundle, labeled(phantoms, *phantoms.names[:2]), [])
    after = weights(bundle / "models")
    assert_equal(after[FILES["registration"]], begun[FILES["registration"]])
    state = begun[file.name]
    assert any(after[file.name][key].shape != value.shape for key, value in state.items())
    assert any(line.startswith("segmentation begins untrained") for line in caplog.messages)


@pytest.mark.parametrize(
    ("num_labeled", "num_validation", "kinds"),
    [
        pytest.param(1, 0, "1 labelled, 4 unlabelled, 0 for validation", id="one labelled image"),
        pytest.param(2, 1, "2 labelled, 2 unlabelled, 1 for validation", id="one image for validation"),
        pytest.param(5, None, "5 labelled, 0 unlabelled, 0 for validation", id="none unlabelled"),
    ],
)
def test_a_round_takes_what_images_there_are(bundle, phantoms, caplog, num_labeled, num_validation, kinds):
    caplog.set_level("INFO")
    names = phantoms.names
    validation = (
        None if num_validation is None else labeled(phantoms, *names[num_labeled : num_labeled + num_validation])
    )
    train(bundle, labeled(phantoms, *names[:num_labeled]), validation)
    assert f"datastore: {kinds}" in caplog.messages
    history = (bundle / "rounds" / "001" / "history.csv").read_text()
    assert "segmentation/augmented" in history and "registration/similarity" in history
    assert ("validation/segmentation_dice" in history) == bool(num_validation)


def test_a_round_that_fails_leaves_the_weights_in_use_alone(bundle, phantoms, tmp_path):
    begun = shifted(bundle / "models")
    empty = tmp_path / "alone" / "phantom_000.nii.gz"
    empty.parent.mkdir()
    os.link(phantoms.image("phantom_000"), empty)
    case = {"image": str(empty), "label": str(phantoms.truth("phantom_000"))}
    with pytest.raises(RuntimeError) as failed:
        train(bundle, [case], [])
    assert "holds one image" in str(root_cause(failed.value))
    assert_equal(weights(bundle / "models"), begun)


def label(app: Path, *configs: str, **entries) -> Path:
    app.mkdir(exist_ok=True)
    (app / "main.py").touch()
    with workflow(["train.yaml", *configs, "label.yaml"], app_dir=str(app), run_id="labeling", **entries) as labeling:
        labeling.run()
    return app / "model" / entries.get("name", "deeprs")


def test_the_weights_of_deeprs_are_taken_for_the_structures_they_know(tmp_path):
    written = label(tmp_path / "app", "data/hippocampus.yaml", "recipes/best.yaml")
    assert_equal(weights(written / "models"), weights(BUNDLE / "models"))


def test_for_other_structures_a_bundle_begins_untrained_or_from_a_training(tmp_path, caplog):
    recipe, labels = ["data/hippocampus.yaml", "recipes/best.yaml"], {"labels": {"1": "head", "2": "tail"}}
    fresh = label(tmp_path / "app", *recipe, name="fresh", **labels)
    assert any("begins untrained" in line and "Anterior" in line for line in caplog.messages)
    state, shipped = (weights(folder)["model.pt"] for folder in (fresh / "models", BUNDLE / "models"))
    assert not any(torch.equal(state[key], shipped[key]) for key in state if key.endswith("weight"))
    other = label(tmp_path / "app", *recipe, name="other", start_from=str(BUNDLE / "models"), **labels)
    assert_equal(weights(other / "models"), weights(BUNDLE / "models"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"app_dir": "nowhere"}, r"'nowhere' is not the folder of a MONAI Label app. Get it with"),
        ({"name": "liver_detection"}, "without deepedit"),
        ({"name": "../deeprs"}, "name for a folder"),
        ({"name": "taken"}, "is there already"),
        ({"spatial_size": [16, 16, 18]}, "multiple of 4.*\\[16, 16, 20\\]"),
        ({"start_from": "nowhere"}, "no weights"),
    ],
)
def test_a_bundle_that_could_not_work_is_not_written(tmp_path, entries, message):
    (tmp_path / "model" / "taken").mkdir(parents=True)
    (tmp_path / "main.py").touch()
    settings = TINY | {"labels": LABELS, "app_dir": str(tmp_path)} | entries
    with (
        pytest.raises(RuntimeError) as failed,
        workflow(CONFIGS_OF_A_BUNDLE, run_id="labeling", **settings) as labeling,
    ):
        labeling.run()
    assert re.search(message, str(root_cause(failed.value)))
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["taken"]
