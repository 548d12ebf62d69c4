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
"""A label that does not say everything teaches what it says: values by hand, and no gradient from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import yaml
from bundle_runs import CONFIGS
from monai.bundle import ConfigParser
from monai.losses import DiceLoss
from monai.networks.utils import one_hot
from torch.nn import functional as F

from scripts.fields.warping import warp
from scripts.losses import WarpedCrossEntropy
from scripts.losses.partial_labels import SHARES, merge_unknown, partial_one_hot

C, SIDE = 4, 6
LABELS = ("_label", "_anatomy", "source_regions", "target_regions")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def a_label(ignored: slice = slice(0, 0), seed: int = 0) -> torch.Tensor:
    """Random classes (1, 1, SIDE, SIDE, SIDE); those of the planes ``ignored`` are to be ignored."""
    classes = torch.randint(C, (1, 1, SIDE, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    classes[:, :, ignored] = C
    return classes.to(torch.uint8)


def flags(*missing: int) -> torch.Tensor:
    return torch.zeros(1, 256, dtype=torch.bool).index_fill_(1, torch.tensor(missing, dtype=torch.long), True)


def merged(pred: torch.Tensor, label: torch.Tensor) -> list[torch.Tensor]:
    return merge_unknown([pred, label], ["fixed_pred", "warped_label"], C)


def test_without_partial_labels_arguments_are_the_same_tensors():
    values = [random(1, C, SIDE, SIDE, SIDE), one_hot(a_label(), C), random(1, 1, SIDE, SIDE, SIDE)]
    found = merge_unknown(values, ["fixed_pred", "warped_label", "confidence"], C)
    assert all(new is old for new, old in zip(found, values, strict=True))


def test_a_label_that_says_everything_is_compared_as_any_other():
    pred, classes = random(1, C, SIDE, SIDE, SIDE), a_label()
    found = merged(pred, partial_one_hot(classes, C, flags()))
    assert torch.equal(found[0], pred) and torch.equal(found[1], one_hot(classes.float(), C))


def test_a_voxel_without_a_structure_may_show_a_missing_one():
    classes = a_label()
    classes[classes == 2] = 0  # nobody drew it
    pred = random(1, C, SIDE, SIDE, SIDE)
    entropy = WarpedCrossEntropy()(*merged(pred, partial_one_hot(classes, C, flags(2))))
    prob = pred.softmax(1)
    right = torch.where(classes == 0, prob[:, :1] + prob[:, 2:3], prob.gather(1, classes.long()))
    torch.testing.assert_close(entropy, -right.log().mean())


@pytest.mark.parametrize("loss", [WarpedCrossEntropy(), DiceLoss(softmax=True), DiceLoss(softmax=True, batch=True)])
def test_the_true_segmentation_is_perfect_and_a_missed_structure_is_not(loss):
    truth = a_label()
    drawn = truth.clone()
    drawn[truth == 2] = 0
    drawn[:, :, 4:] = C
    label = partial_one_hot(drawn, C, flags(2))
    perfect = 100 * one_hot(truth.float(), C)
    assert loss(*merged(perfect, label)) < 1e-6
    missed = 100 * one_hot((truth * (truth != 1)).float(), C)
    assert loss(*merged(missed, label)) > 0.05


def test_what_a_warp_made_of_ignored_voxels_or_brought_from_outside_is_ignored():
    label = partial_one_hot(torch.zeros(1, 1, SIDE, SIDE, SIDE).index_fill_(2, torch.tensor(2), C), C, flags())
    ddf = torch.zeros(1, 3, SIDE, SIDE, SIDE)
    ddf[:, 0] = 0.5  # each voxel is half of itself and half of the next
    pred = random(1, C, SIDE, SIDE, SIDE).requires_grad_()
    F.cross_entropy(*merged(pred, warp(label, ddf))).backward()
    has_gradient = pred.grad.abs().amax(dim=(0, 1, 3, 4)) > 0
    assert has_gradient.tolist() == [True, False, False, True, True, False]


def test_two_labels_are_compared_by_what_both_say():
    first, second = (partial_one_hot(a_label(seed=seed), C, flags(number)) for seed, number in ((0, 1), (1, 3)))
    found = merge_unknown([first, second], ["warped_label", "fixed_label"], C)
    for label, seed in zip(found, (0, 1), strict=True):
        classes = a_label(seed=seed)
        classes[(classes == 1) | (classes == 3)] = 0
        assert torch.equal(label, one_hot(classes.float(), C))


# ---- every term of every config that reads a label


def label_terms() -> dict[str, tuple[dict, tuple[str, ...]]]:
    """Loss and quantities of each term that reads a label, once, by the first config that writes them."""
    found = {}
    for path in [CONFIGS / "train.yaml", *sorted((CONFIGS / "recipes").glob("*.yaml"))]:
        for name, term in terms_of(yaml.load(path.read_text(), yaml.CSafeLoader)):
            compares = sum(map(shown, term["quantities"])) > 1  # the smoothness of an appearance only looks for edges
            if compares and any(quantity.endswith(LABELS) for quantity in term["quantities"]):
                key = str((term["loss"], term["quantities"]))
                found.setdefault(key, (f"{path.stem} {name}", term["loss"], tuple(term["quantities"])))
    return {name: (loss, quantities) for name, loss, quantities in found.values()}


def shown(quantity: str) -> bool:
    """Whether a quantity has a value for each class."""
    return quantity.endswith(("_pred", *SHARES))


def terms_of(content: object, name: str = "") -> Iterator[tuple[str, dict]]:
    if isinstance(content, dict) and {"loss", "quantities"} <= content.keys():
        yield name, content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from terms_of(value, key.split("::")[-1])


TERMS = label_terms()


@pytest.mark.parametrize("name", TERMS)
def test_no_term_of_any_config_learns_from_an_ignored_voxel_or_which_background_a_missing_structure_is(name):
    config, quantities = TERMS[name]
    loss = ConfigParser({"loss": config}).get_parsed_content("loss")
    ignored = slice(0, 2)
    values = []
    for number, quantity in enumerate(quantities):
        value = random(1, C, SIDE, SIDE, SIDE, seed=number)
        if quantity.endswith(LABELS):
            classes = a_label(ignored, seed=number)  # labels that are the same on both sides would have no gradient
            value = partial_one_hot(classes.masked_fill(classes == 2, 0), C, flags(2))
        elif quantity.endswith("_prob"):
            value = value.softmax(dim=1)
        elif not quantity.endswith("_pred"):
            value = value[:, :1].sigmoid()
        values.append(value.requires_grad_())
    loss(*merge_unknown(values, quantities, C)).backward()
    taught = {q: v.grad[:, :C] for v, q in zip(values, quantities, strict=True) if v.grad is not None and shown(q)}
    assert taught and any(gradient[:, :, 2:].abs().max() > 0 for gradient in taught.values())
    assert all(gradient[:, :, ignored].abs().max() == 0 for gradient in taught.values())
    for quantity, gradient in taught.items():
        if quantity.endswith("_prob"):  # of the merged class, it does not matter where its probability is
            torch.testing.assert_close(gradient[:, 0], gradient[:, 2])


def test_all_kinds_of_losses_that_read_labels_are_among_them():
    names = {config["_target_"].split(".")[-1] for config, _ in TERMS.values()}
    assert names >= {"WarpedCrossEntropy", "AlignmentConfidenceLoss", "DiceLoss", "SemanticConsistency"}
