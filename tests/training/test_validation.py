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
from monai.handlers import MeanDice, from_engine
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose
from tiny_joint import NUM_CLASSES, count_forwards, make_networks, make_pair
from torch import nn

from scripts.fields.warping import warp
from scripts.joint.state import PairState
from scripts.training.validation import JointEvaluator

ONE_HOT = Compose(
    [
        AsDiscreted(["pred", "warped_label"], argmax=True, to_onehot=NUM_CLASSES, allow_missing_keys=True),
        AsDiscreted(["label"], to_onehot=NUM_CLASSES),
    ]
)
BOTH = ("moving", "fixed")


def make_evaluator(networks, batches, **options):
    state = partial(PairState, num_classes=NUM_CLASSES)
    return JointEvaluator(torch.device("cpu"), batches, networks, state, **options)


def test_the_output_holds_what_each_task_says_about_the_fixed_image():
    networks, batch = make_networks(dropout=0.5, noise_std=1.0), make_pair(BOTH, batch_size=2)
    evaluator = make_evaluator(networks, [batch])
    evaluator.run()
    for network in networks.values():
        assert not network.training
    with torch.no_grad():
        pred = networks["segmentation"](batch["fixed_image"])
        ddf = networks["registration"](batch["moving_image"], batch["fixed_image"])
        label = nn.functional.one_hot(batch["moving_label"][:, 0].long(), NUM_CLASSES).movedim(-1, 1).float()
    for i, item in enumerate(evaluator.state.output):
        torch.testing.assert_close(item["pred"], pred[i])
        torch.testing.assert_close(item["warped_label"], warp(label, ddf)[i])
        assert torch.equal(item["label"], batch["fixed_label"][i])
        assert torch.equal(item["registered_label"], batch["fixed_label"][i])
        assert torch.equal(item["image"], batch["fixed_image"][i])


@pytest.mark.parametrize(
    ("tasks", "calls", "keys"),
    [
        (["segmentation"], {"segmentation": 1}, {"image", "label", "pred"}),
        (["registration"], {"registration": 1}, {"image", "label", "registered_label", "warped_label"}),
        (
            "registration",
            {"registration": 1},
            {"image", "label", "registered_label", "warped_label"},
        ),  # as a command line gives it
        (["segmentation", "registration"], {"segmentation": 1, "registration": 1}, None),
    ],
)
def test_a_task_that_is_not_named_is_not_computed(tasks, calls, keys):
    networks = make_networks()
    counted = count_forwards(networks)
    evaluator = make_evaluator(networks, [make_pair(BOTH)], tasks=tasks)
    evaluator.run()
    assert counted == calls
    assert evaluator.state.output[0].keys() == (keys or {"image", "label", "pred", "registered_label", "warped_label"})


class Oracle(nn.Module):
    """Segments an image whose grey values are its classes."""

    def forward(self, image):
        return nn.functional.one_hot(image[:, 0].round().long(), NUM_CLASSES).movedim(-1, 1).float()


class ShiftByOne(nn.Module):
    """Says that the fixed image is the moving one, one voxel further along the first axis."""

    def forward(self, moving, fixed):
        ddf = torch.zeros(len(fixed), 3, *fixed.shape[2:])
        ddf[:, 0] = -1.0
        return ddf


def test_both_dice_are_1_for_networks_that_are_right_and_fall_when_they_are_not():
    label = torch.zeros(1, 1, 16, 16, 16, dtype=torch.uint8)
    label[:, :, 4:8, 4:8, 4:8], label[:, :, 8:12, 4:8, 4:8] = 1, 2
    moved = label.roll(1, dims=2)
    batch = {"moving_image": label.float(), "moving_label": label, "fixed_image": moved.float(), "fixed_label": moved}
    metrics = {
        "segmentation_dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"])),
        "registration_dice": MeanDice(
            include_background=False, output_transform=from_engine(["warped_label", "label"])
        ),
    }
    networks = {"segmentation": Oracle(), "registration": ShiftByOne()}
    evaluator = make_evaluator(networks, [batch], postprocessing=ONE_HOT, key_val_metric=metrics)
    evaluator.run()
    assert evaluator.state.metrics == pytest.approx({"segmentation_dice": 1.0, "registration_dice": 1.0})

    unmoved = make_evaluator(
        networks, [{**batch, "fixed_label": label}], postprocessing=ONE_HOT, key_val_metric=metrics
    )
    unmoved.run()
    assert unmoved.state.metrics == pytest.approx({"segmentation_dice": 0.75, "registration_dice": 0.75})


def test_segmentation_goes_through_the_inferer():
    torch.manual_seed(0)
    networks = {"segmentation": nn.Conv3d(1, NUM_CLASSES, 1)}  # sees one voxel at a time: windows change nothing
    counted, batch = count_forwards(networks), make_pair(BOTH)
    evaluator = make_evaluator(
        networks, [batch], tasks=["segmentation"], inferer=SlidingWindowInferer(8, overlap=0.0, sw_batch_size=1)
    )
    evaluator.run()
    assert counted == {"segmentation": 8}
    torch.testing.assert_close(evaluator.state.output[0]["pred"][None], networks["segmentation"](batch["fixed_image"]))


def test_the_last_pair_stays_readable_and_holds_no_graph():
    networks, batches = make_networks(), [make_pair(BOTH, seed=0), make_pair(BOTH, seed=1)]
    evaluator = make_evaluator(networks, batches)
    evaluator.run()
    pair = evaluator.state.pair
    assert torch.equal(pair.moving_image, batches[1]["moving_image"])
    assert pair.computed("ddf") is not None and not pair.ddf.requires_grad
    assert not evaluator.state.output[0]["pred"].requires_grad


def test_networks_run_in_bfloat16_under_amp_and_what_comes_out_is_float32():
    networks = {"segmentation": nn.Conv3d(1, NUM_CLASSES, 1), "registration": ShiftByOne()}
    seen = []
    networks["segmentation"].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    evaluator = make_evaluator(networks, [make_pair(BOTH)], amp=True)
    evaluator.run()
    assert seen == [torch.bfloat16]
    item = evaluator.state.output[0]
    assert item["pred"].dtype == item["warped_label"].dtype == torch.float32
