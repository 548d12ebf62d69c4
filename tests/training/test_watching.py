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

from __future__ import annotations

from functools import partial

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_joint import NUM_CLASSES, make_networks
from tiny_training import InMemory, labelled, load, make_training, same

from scripts.data.pairs import PairDataset
from scripts.data.samplers import RingSampler
from scripts.joint.state import PairState
from scripts.training.field_curves import FieldCurves
from scripts.training.pair_handler import PairPicture
from scripts.training.validation import JointEvaluator


def shifted(length, batch_size=1):
    return torch.full((batch_size, 3, 5, 5, 5), length / 3**0.5)


def mirrored():
    ddf = torch.zeros(1, 3, 5, 5, 5)
    ddf[:, 0] = -2 * torch.arange(5.0).view(5, 1, 1)  # p -> -p: |J| = -1, and 0, 2, 4, 6, 8 voxels long
    return ddf


def follow(epochs, **options):
    """An engine that meets the given fields, an epoch for each list, and its metrics after each epoch."""
    engine, seen = Engine(lambda engine, index: None), []

    @engine.on(Events.ITERATION_STARTED)
    def show(engine):
        engine.state.ddf = epochs[engine.state.epoch - 1][engine.state.batch]

    FieldCurves(**options).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    engine.run(range(len(epochs[0])), max_epochs=len(epochs))
    return seen


def test_length_and_folding_are_means_over_the_pairs_of_an_epoch():
    first, second = follow([[shifted(2.0, batch_size=2), mirrored()], [shifted(0.0), shifted(1.0)]])
    assert first == pytest.approx({"field_length_voxels": (2 + 2 + 4) / 3, "folding_percent": 100 / 3})
    assert second == pytest.approx({"field_length_voxels": 0.5, "folding_percent": 0.0})


def test_the_first_pair_of_each_epoch_and_every_intervalth_after_it_are_looked_at():
    lengths = [[1.0, 50.0, 2.0], [3.0, 50.0, 4.0]]
    epochs = [[shifted(length) for length in epoch] for epoch in lengths]
    found = [metrics["training/field_length_voxels"] for metrics in follow(epochs, prefix="training/", interval=2)]
    assert found == pytest.approx([1.5, 3.5])


def test_pairs_without_a_field_do_not_count_and_an_epoch_of_them_has_no_value():
    first, second = follow([[None, shifted(3.0)], [None, None]])
    assert first == pytest.approx({"field_length_voxels": 3.0, "folding_percent": 0.0}) and second == {}


@pytest.mark.parametrize("complete", [True, False])
def test_a_validation_leaves_a_picture_of_its_last_pair_and_measures_the_fields_of_all(tmp_path, complete):
    networks = make_networks()
    if not complete:
        networks = {"registration": networks["registration"]}
    dataset, lengths = PairDataset(labelled("vw"), InMemory()), []
    evaluator = JointEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_sampler=RingSampler(dataset)),
        networks,
        partial(PairState, num_classes=NUM_CLASSES),
        tasks=["segmentation", "registration"] if complete else ["registration"],
        val_handlers=[
            FieldCurves(),
            PairPicture(str(tmp_path), str(tmp_path / "pictures"), with_segmentation=complete),
        ],
    )
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: lengths.append(engine.state.pair.ddf.norm(dim=1).mean().item())
    )
    evaluator.run(global_epoch=3)
    events = EventAccumulator(str(tmp_path)).Reload()
    (picture,) = events.Images("validation/pair")
    assert picture.step == 3 and picture.width > 300 and picture.height > 300
    with Image.open(tmp_path / "pictures" / "epoch_0003.png") as file:
        assert file.size == (picture.width, picture.height)
    assert len(lengths) == 2 and lengths[0] != lengths[1]
    assert evaluator.state.metrics["field_length_voxels"] == pytest.approx(sum(lengths) / 2)
    assert 0 <= evaluator.state.metrics["folding_percent"] <= 100


def test_watching_a_training_leaves_pictures_and_changes_no_bit_of_it(tmp_path):
    watching = [FieldCurves("training/"), PairPicture(str(tmp_path), str(tmp_path / "pictures"), tag="training/pair")]
    for name, handlers in {"watched": watching, "alone": []}.items():
        torch.manual_seed(1)
        trainer = make_training(tmp_path / name, max_epochs=2, watching=handlers)
        torch.manual_seed(5)
        trainer.run()
    watched, alone = (load(tmp_path / name / "train_state.pt") for name in ("watched", "alone"))
    assert same(watched, alone)
    pictures = EventAccumulator(str(tmp_path)).Reload().Images("training/pair")
    assert [picture.step for picture in pictures] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["epoch_0001.png", "epoch_0002.png"]
