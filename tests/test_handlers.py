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

import csv
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, MetaTensor
from monai.handlers import MeanDice, ValidationHandler, from_engine
from monai.transforms import AsDiscreted, Compose, RandAffined, Transform
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_joint import NUM_CLASSES, make_networks, make_pair, make_trainer, make_updates

from scripts.cases import Cases
from scripts.handlers import FieldCurves, History, PairPicture, SaveWeights, TrainState
from scripts.pairs import PairDataset, PairSampler, RingSampler
from scripts.sampling import UniformScale
from scripts.state import PairState
from scripts.validation import JointEvaluator
from scripts.weights import FILES


def rows(path):
    with open(path, newline="") as file:
        return [(int(row["epoch"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def same(first, second):
    """Whether two nested states are equal to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second


# ---- a whole training, for resuming it


class InMemory(Transform):
    """Gives each path a volume of its own: two boxes whose places follow from the name."""

    def __call__(self, case):
        rng = np.random.default_rng(list(Path(case["image"]).name.encode()))
        x, y, z = rng.integers(3, 7, 3)
        label = torch.zeros(1, 16, 16, 16)
        label[:, x : x + 6, y : y + 4, z : z + 4], label[:, x : x + 6, y : y + 4, z + 4 : z + 7] = 1, 2
        image = 0.3 * label + 0.1 * torch.from_numpy(rng.random((1, 16, 16, 16), dtype=np.float32))
        affine = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0]))
        volumes = {"image": MetaTensor(image, affine=affine), "label": MetaTensor(label.to(torch.uint8), affine=affine)}
        return {"case": case["case"], **{key: volumes[key] for key in volumes if key in case}}


def labelled(names):
    return [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]


def augmentation():
    keys = ["moving_image", "fixed_image", "moving_label"]
    mode = ["bilinear", "bilinear", "nearest"]
    return Compose(
        [
            RandAffined(
                keys, prob=1.0, rotate_range=[0.2] * 3, translate_range=[2] * 3, mode=mode, allow_missing_keys=True
            )
        ]
    )


def make_validation(networks):
    dataset = PairDataset(labelled("vw"), InMemory())
    one_hot = Compose(
        [
            AsDiscreted(["pred", "warped_label"], argmax=True, to_onehot=NUM_CLASSES),
            AsDiscreted(["label"], to_onehot=NUM_CLASSES),
        ]
    )
    dice = partial(MeanDice, include_background=False)
    return JointEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_sampler=RingSampler(dataset)),
        networks,
        partial(PairState, num_classes=NUM_CLASSES),
        postprocessing=one_hot,
        key_val_metric={
            "segmentation_dice": dice(output_transform=from_engine(["pred", "label"])),
            "registration_dice": dice(output_transform=from_engine(["warped_label", "label"])),
        },
    )


CASES = Cases(
    {1: "front", 2: "back"}, *(tuple({"case": name} for name in names) for names in ("mn", "abc", "vw", "xyz"))
)


def make_training(folder, max_epochs, resume=False, seed=0, watching=None, cases=CASES):
    """DeepRS with all that is random: pairs, augmentation, dropout, the noise of D, and the sampling factor."""
    watching = [FieldCurves("training/", interval=2)] if watching is None else watching
    networks = make_networks(seed, dropout=0.2, noise_std=0.1)
    updates = make_updates(networks, optimizer=partial(torch.optim.Adam, lr=0.01), region={"start": 2, "ramp": 5})
    for update in updates.values():
        update.scheduler = torch.optim.lr_scheduler.StepLR(update.optimizer, step_size=4, gamma=0.7)
    unlabeled = [{"image": f"images/{name}.nii.gz"} for name in "abc"]
    dataset = PairDataset(labelled("mn"), InMemory(), unlabeled)
    sampler = PairSampler(dataset, {"labeled_unlabeled": 2.0, "unlabeled_unlabeled": 1.0}, length=3, batch_size=2)
    evaluator = make_validation(networks)
    best = {"model.pt": ("segmentation", "segmentation_dice"), "model_registration.pt": ("registration", None)}
    handlers = [
        ValidationHandler(interval=1, validator=evaluator),
        *watching,
        History(str(folder / "history.csv"), interval=2, evaluator=evaluator),
        *(SaveWeights(str(folder), {file: networks[name]}, evaluator, key) for file, (name, key) in best.items()),
        TrainState(str(folder / "train_state.pt"), networks, updates, resume, cases),
    ]
    loader = DataLoader(dataset, batch_sampler=sampler)
    options = {"max_epochs": max_epochs, "augmentation": augmentation(), "train_handlers": handlers}
    return make_trainer(networks, updates, loader, state={"sampling": UniformScale()}, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    torch.manual_seed(1)
    trainer = make_training(folder, max_epochs=4)
    torch.manual_seed(5)
    trainer.run()
    return folder


def cut_the_power(engine):
    if engine.state.iteration == 8:  # in the third epoch, of three iterations
        raise RuntimeError("power cut")


@pytest.mark.parametrize("where", ["between two epochs", "within an epoch"])
def test_a_training_that_is_resumed_equals_one_that_was_not_interrupted_to_the_bit(uninterrupted, tmp_path, where):
    within = where == "within an epoch"
    first = make_training(tmp_path, max_epochs=4 if within else 2)
    torch.manual_seed(5)
    if within:
        first.add_event_handler(Events.ITERATION_COMPLETED, cut_the_power)
        with pytest.raises(RuntimeError, match="power cut"):
            first.run()
    else:
        first.run()
    assert not same(load(tmp_path / "train_state.pt"), load(uninterrupted / "train_state.pt"))

    # another process: other weights, and random numbers that have gone elsewhere
    second = make_training(tmp_path, max_epochs=4, resume=True, seed=99)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    second.run()
    found, expected = load(tmp_path / "train_state.pt"), load(uninterrupted / "train_state.pt")
    assert (found["epoch"], found["iteration"]) == (4, 12)
    for part in ("networks", "updates", "best", "random"):
        assert same(found[part], expected[part]), part
    assert (tmp_path / "history.csv").read_text() == (uninterrupted / "history.csv").read_text()
    for name in ("model.pt", "model_registration.pt"):
        assert same(load(tmp_path / name), load(uninterrupted / name)), name


def load(path):
    return torch.load(path, weights_only=True)


def test_the_history_of_a_training_has_every_term_and_every_metric(uninterrupted):
    names = {name for _, name, _ in rows(uninterrupted / "history.csv")}
    assert {"registration/region", "registration/region weighted", "segmentation/weak"} <= names
    assert {"validation/segmentation_dice", "validation/registration_dice"} <= names
    assert {"training/field_length_voxels", "training/folding_percent"} <= names
    assert {epoch for epoch, *_ in rows(uninterrupted / "history.csv")} == {1, 2, 3, 4}


def test_an_existing_training_is_refused_without_resume_and_left_as_it_is(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    trainer = make_training(uninterrupted, max_epochs=4)
    with pytest.raises(FileExistsError, match=r"train_state\.pt' is there.*--resume true.*--output_dir"):
        trainer.run()
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before
    assert trainer.state.iteration == 0


def test_resuming_where_there_is_nothing_starts_from_the_beginning(tmp_path):
    trainer = make_training(tmp_path, max_epochs=1, resume=True)
    trainer.run()
    assert trainer.state.epoch == 1 and load(tmp_path / "train_state.pt")["epoch"] == 1


def test_a_finished_training_resumed_does_nothing(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    trainer = make_training(uninterrupted, max_epochs=4, resume=True)
    trainer.run()
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before
    assert trainer.state.epoch == 4


def test_a_training_is_resumed_with_its_own_cases_only(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.iterdir()}
    other = replace(CASES, labeled=({"case": "n"}, {"case": "x"}), test=tuple({"case": name} for name in "myz"))
    trainer = make_training(uninterrupted, max_epochs=5, resume=True, cases=other)
    with pytest.raises(ValueError, match="of a training with other cases") as refused:
        trainer.run()
    message = str(refused.value)
    assert "\n  labeled: no longer m; new x\n  test: no longer x; new m\n" in message
    assert "unlabeled:" not in message and "`config.yaml` beside it" in message and "another `--output_dir`" in message
    assert {path: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_a_training_of_an_older_version_which_named_no_cases_is_resumed_with_a_warning(tmp_path, caplog):
    make_training(tmp_path, max_epochs=1, cases=None).run()
    assert "cases" not in load(tmp_path / "train_state.pt")
    trainer = make_training(tmp_path, max_epochs=2, resume=True)
    trainer.run()
    assert trainer.state.epoch == 2 and "does not name its cases" in caplog.text
    assert load(tmp_path / "train_state.pt")["cases"] == {
        "labeled": ["m", "n"],
        "unlabeled": ["a", "b", "c"],
        "validation": ["v", "w"],
        "test": ["x", "y", "z"],
    }


# ---- history


class Losses:
    """An engine that puts out given values of terms, an epoch for each list."""

    def __init__(self, epochs, weight=2.0):
        self.epochs, self.weight = epochs, weight
        self.engine = Engine(self.iterate)

    def iterate(self, engine, index):
        terms = self.epochs[engine.state.epoch - 1][index]
        engine.state.losses = {name: (torch.tensor(value), self.weight) for name, value in terms.items()}

    def run(self, *handlers):
        for handler in handlers:
            handler.attach(self.engine)
        self.engine.run(range(len(self.epochs[0])), max_epochs=len(self.epochs))
        return self.engine


def test_history_is_the_mean_of_each_term_over_the_epoch_raw_and_weighted(tmp_path):
    path = tmp_path / "folder" / "history.csv"
    losses = Losses([[{"R/ncc": 1.0}, {"R/ncc": 3.0}], [{"R/ncc": 5.0}, {"R/ncc": 6.0}]])
    engine = losses.run(History(str(path)))
    expected = [(1, "R/ncc", 2.0), (1, "R/ncc weighted", 4.0), (2, "R/ncc", 5.5), (2, "R/ncc weighted", 11.0)]
    assert rows(path) == expected
    assert engine.state.metrics == {"R/ncc": 5.5, "R/ncc weighted": 11.0}
    assert [file.name for file in path.parent.iterdir()] == ["history.csv"]


def test_a_term_counts_only_the_pairs_and_the_epochs_in_which_it_was_live(tmp_path):
    path = tmp_path / "history.csv"
    epochs = [[{"R/ncc": 1.0}, {"R/ncc": 1.0, "S/ce": 8.0}], [{"R/ncc": 2.0}, {"R/ncc": 2.0}]]
    Losses(epochs, weight=1.0).run(History(str(path)))
    assert [row for row in rows(path) if "weighted" not in row[1]] == [(1, "R/ncc", 1), (1, "S/ce", 8), (2, "R/ncc", 2)]


def test_rows_of_an_epoch_that_is_run_again_are_replaced(tmp_path):
    path = tmp_path / "history.csv"
    Losses([[{"R/ncc": 1.0}], [{"R/ncc": 2.0}], [{"R/ncc": 3.0}]]).run(History(str(path)))
    again = Losses([[{"R/ncc": 0.0}], [{"R/ncc": 7.0}]])
    again.engine.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", 1))
    again.run(History(str(path)))
    assert [row for row in rows(path) if "weighted" not in row[1]] == [(1, "R/ncc", 1), (2, "R/ncc", 7)]


def test_metrics_of_a_validation_are_written_for_the_epoch_of_that_validation_alone(tmp_path):
    evaluator = Engine(lambda engine, _: None)
    evaluator.state.metrics, evaluator.state.epoch = {"dice": torch.tensor(0.75)}, 2
    path = tmp_path / "history.csv"
    Losses([[{}], [{}], [{}]]).run(History(str(path), evaluator=evaluator))
    assert rows(path) == [(2, "validation/dice", 0.75)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("interval", "iteration"), [(1, 5), (2, 6), (100, 8)])
def test_a_loss_that_is_not_finite_stops_training_at_the_next_reading_by_the_name_of_its_term(
    tmp_path, value, interval, iteration
):
    sound = [{"R/ncc": 1.0, "R/smooth": 1.0}] * 4
    losses = Losses([sound, [{"R/ncc": 1.0, "R/smooth": value}, *sound[1:]]])
    with pytest.raises(ValueError, match=f"R/smooth became {value} in epoch 2, by iteration {iteration}.*clip_norm"):
        losses.run(History(str(tmp_path / "history.csv"), interval=interval))
    assert {epoch for epoch, *_ in rows(tmp_path / "history.csv")} == {1}


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (Events.EPOCH_STARTED, "registration/smoothness became nan in epoch 3"),
        (Events.ITERATION_COMPLETED, "weights of 'registration' are no longer finite after epoch 3"),
    ],
    ids=["seen in a loss", "by the last step of an epoch, unseen"],
)
@pytest.mark.parametrize("saver", ["weights", "train_state"])
def test_a_training_that_diverges_stops_with_its_last_checkpoint_intact(tmp_path, when, message, saver):
    networks = make_networks()
    updates = make_updates(networks, ["registration"])
    registration = {"registration": networks["registration"]}
    savers = {
        "weights": SaveWeights(str(tmp_path), registration),
        "train_state": TrainState(str(tmp_path / "train_state.pt"), registration, updates),
    }
    handlers = [History(str(tmp_path / "history.csv"), interval=100), savers[saver]]
    trainer = make_trainer(networks, updates, [make_pair()], max_epochs=5, train_handlers=handlers)

    def diverge(engine):
        if engine.state.epoch == 3:
            with torch.no_grad():
                networks["registration"].flow.weight.fill_(math.nan)

    trainer.add_event_handler(when, diverge)
    with pytest.raises(ValueError, match=message):
        trainer.run()
    if saver == "weights":
        kept = load(tmp_path / "registration")
    else:
        kept = load(tmp_path / "train_state.pt")["networks"]["registration"]
    assert all(value.isfinite().all() for value in kept.values())


# ---- weights


def test_the_best_weights_by_the_metric_are_kept_as_a_bare_state_dict(tmp_path):
    values = {1: 0.5, 2: 0.7, 3: 0.6, 4: 0.7, 5: math.nan}  # an equal value is no better
    network = torch.nn.Linear(1, 1)
    evaluator, trainer = Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": values[engine.state.epoch]}
        torch.nn.init.constant_(network.weight, engine.state.epoch)

    SaveWeights(str(tmp_path / "new"), {"model.pt": network}, evaluator, "dice").attach(trainer)
    trainer.run([0], max_epochs=5)
    saved = load(tmp_path / "new" / "model.pt")
    assert saved.keys() == {"weight", "bias"} and saved["weight"].item() == 2
    assert trainer.state.best == {"dice": 0.7}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


def test_an_epoch_without_validation_saves_nothing_and_without_a_metric_each_one_does(tmp_path):
    network, evaluator, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}
    evaluator.state.epoch, evaluator.state.metrics = 1, {"dice": 0.5}
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: torch.nn.init.constant_(network.weight, engine.state.epoch)
    )
    SaveWeights(str(tmp_path), {"best.pt": network}, evaluator, "dice").attach(trainer)
    SaveWeights(str(tmp_path), {"latest.pt": network}).attach(trainer)
    trainer.run([0], max_epochs=3)
    assert load(tmp_path / "best.pt")["weight"].item() == 1
    assert load(tmp_path / "latest.pt")["weight"].item() == 3


def test_after_resuming_the_best_weights_are_still_those_of_before(tmp_path):
    values = {1: 0.9, 2: 0.5, 3: 0.7}
    for last, resume in ((1, False), (3, True)):
        network = torch.nn.Linear(1, 1)
        evaluator, trainer = Engine(lambda engine, _: None), Engine(lambda engine, _: None)
        trainer.state.best = {}

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine, network=network, evaluator=evaluator):
            torch.nn.init.constant_(network.weight, engine.state.epoch)
            evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {"dice": values[engine.state.epoch]}

        SaveWeights(str(tmp_path), {"model.pt": network}, evaluator, "dice").attach(trainer)
        TrainState(str(tmp_path / "train_state.pt"), {"segmentation": network}, {}, resume).attach(trainer)
        trainer.run([0], max_epochs=last)
    assert load(tmp_path / "model.pt")["weight"].item() == 1
    assert load(tmp_path / "train_state.pt")["networks"]["segmentation"]["weight"].item() == 3


def test_a_training_that_ends_before_its_first_validation_keeps_the_latest_weights(tmp_path):
    network, evaluator, trainer = torch.nn.Linear(1, 1), Engine(lambda engine, _: None), Engine(lambda engine, _: None)
    trainer.state.best = {}
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: torch.nn.init.constant_(network.weight, engine.state.epoch)
    )
    SaveWeights(str(tmp_path), {"model.pt": network}, evaluator, "dice").attach(trainer)
    trainer.run([0], max_epochs=2)
    assert load(tmp_path / "model.pt")["weight"].item() == 2
    assert trainer.state.best == {}


@pytest.mark.parametrize("name", FILES.values())
def test_weights_without_a_train_state_are_replaced_only_by_a_training_that_may(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"weights that came from elsewhere")
    network = torch.nn.Linear(1, 1)
    for resume in (False, True):
        trainer = Engine(lambda engine, _: None)
        trainer.state.best = {}
        SaveWeights(str(tmp_path), {name: network}).attach(trainer)
        TrainState(str(tmp_path / "train_state.pt"), {"segmentation": network}, {}, resume).attach(trainer)
        if resume:
            trainer.run([0])
        else:
            with pytest.raises(FileExistsError, match=rf"holds weights \({name}\).*--output_dir.*--resume true"):
                trainer.run([0])
            assert path.read_bytes() == b"weights that came from elsewhere"
            assert [file.name for file in tmp_path.iterdir()] == [name]
    assert load(path)["weight"] == network.weight
    assert load(tmp_path / "train_state.pt")["epoch"] == 1


# ---- what the field is like, and pictures


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
