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
"""A whole training of DeepRS in memory, with validation and handlers: of seconds, and with all that is random."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, MetaTensor
from monai.handlers import MeanDice, ValidationHandler, from_engine
from monai.transforms import AsDiscreted, Compose, RandAffined, Transform
from tiny_joint import NUM_CLASSES, make_networks, make_trainer, make_updates

from scripts.data.cases import Cases
from scripts.data.pairs import PairDataset
from scripts.data.samplers import PairSampler, RingSampler
from scripts.joint.sampling import UniformScale
from scripts.joint.state import PairState
from scripts.training.field_curves import FieldCurves
from scripts.training.history import History
from scripts.training.save_weights import SaveWeights
from scripts.training.train_state import TrainState
from scripts.training.validation import JointEvaluator


def rows(path):
    with open(path, newline="") as file:
        return [(int(row["epoch"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def load(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    """Whether two nested states are equal to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second


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
