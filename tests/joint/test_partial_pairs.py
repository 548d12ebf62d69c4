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
"""A pair whose label does not say everything, in the engine and in validation."""

from __future__ import annotations

from functools import partial

import torch
from tiny_joint import NUM_CLASSES, SIDE, STILL, FixedScale, gradients, make_networks, make_pair, make_updates, train

from scripts.joint.state import PairState
from scripts.training import JointEvaluator


def partial_pair(labels=("moving",), missing=2):
    """A pair whose labels leave one structure out, with planes to be ignored."""
    batch = make_pair(labels)
    for role in labels:
        label = batch[f"{role}_label"]
        label[label == missing] = 0
        label[:, :, 3:5] = NUM_CLASSES
        batch[f"{role}_missing"] = torch.zeros(1, 256, dtype=torch.bool)
        batch[f"{role}_missing"][:, missing] = True
    return batch


def test_the_engine_teaches_what_the_label_says_and_nothing_else():
    networks, batch = make_networks(), partial_pair()
    updates = make_updates(networks, ["segmentation"], optimizer=STILL, weak={"start": 9})
    trainer = train(
        networks,
        updates,
        [batch],
        state={"sampling": FixedScale(0.0)},
        output={"label": "sampled_label", "pred": "sampled_pred"},
    )
    found = gradients(networks["segmentation"])
    networks["segmentation"].zero_grad()
    prob, label = networks["segmentation"](batch["moving_image"]).softmax(dim=1), batch["moving_label"].long()
    right = torch.where(label == 0, prob[:, :1] + prob[:, 2:], prob.gather(1, label.clamp(max=NUM_CLASSES - 1)))
    (-right.log() * (label != NUM_CLASSES)).mean().backward()
    for name, expected in gradients(networks["segmentation"]).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-7)
    (output,) = trainer.state.output
    assert output["label"].shape == output["pred"].shape == (NUM_CLASSES, SIDE, SIDE, SIDE)


def test_validation_leaves_out_what_a_label_does_not_say():
    batch = partial_pair(("moving", "fixed"))
    evaluator = JointEvaluator("cpu", [batch], make_networks(), partial(PairState, num_classes=NUM_CLASSES))
    evaluator.run()
    (output,) = evaluator.state.output
    pred, label = output["pred"].argmax(dim=0), output["label"][0]
    assert set(label.unique().tolist()) == {0, 1} and 2 not in pred
    assert (pred[3:5] == 0).all() and (label[3:5] == 0).all()
    assert output["warped_label"].shape == (NUM_CLASSES, SIDE, SIDE, SIDE)
    assert (output["warped_label"][2] == 0).all() and 2 not in output["registered_label"]
