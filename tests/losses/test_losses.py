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
"""Facts about the loss terms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from scripts.losses.adversarial import AdversarialLoss, DiscriminatorLoss
from scripts.losses.confidence import AlignmentConfidenceLoss
from scripts.losses.cross_entropy import WarpedCrossEntropy, soft_cross_entropy
from scripts.losses.region import RegionConstraint
from scripts.losses.smoothness import Smoothness

CLASSES, GRID = 4, (5, 6, 7)


@pytest.fixture
def pred():
    return torch.randn(2, CLASSES, *GRID, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classes():
    return torch.randint(CLASSES, (2, *GRID), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def label(classes):
    return F.one_hot(classes, CLASSES).movedim(-1, 1).float()


def scaling(slope: float) -> torch.Tensor:
    axes = torch.meshgrid(*(slope * torch.arange(n, dtype=torch.float64) for n in (6, 7, 8)), indexing="ij")
    return torch.stack(axes)[None]


def checkerboard() -> torch.Tensor:
    parity = sum(torch.meshgrid(*(torch.arange(n) for n in (6, 7, 8)), indexing="ij")) % 2
    return (2.0 * parity - 1).expand(1, 3, -1, -1, -1)


@pytest.mark.parametrize(
    ("ddf", "expected"),
    [
        pytest.param(torch.zeros(1, 3, 4, 4, 4), 0.0, id="identity"),
        pytest.param(torch.full((2, 3, 4, 5, 6), 2.5), 0.0, id="shift"),
        pytest.param(scaling(0.1), 0.01 / 3, id="linear"),
        pytest.param(scaling(-0.2), 0.04 / 3, id="shrinking"),
        pytest.param(checkerboard(), 4.0, id="checkerboard"),
    ],
)
def test_smoothness_has_the_analytic_value(ddf, expected):
    assert Smoothness()(ddf).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_smoothness_treats_the_axes_alike(axis):
    ramp = scaling(0.1)[:, axis : axis + 1].expand(-1, 3, -1, -1, -1)
    assert Smoothness()(ramp).item() == pytest.approx(0.01 / 3)


@pytest.mark.parametrize("shape", [(3, 4, 4, 4), (1, 3, 4, 1, 4)])
def test_smoothness_refuses_a_field_without_neighbours(shape):
    with pytest.raises(ValueError, match="at least 2 voxels"):
        Smoothness()(torch.zeros(shape))


def test_a_hard_label_gives_the_cross_entropy_of_torch(pred, classes, label):
    expected = F.cross_entropy(pred, classes)
    torch.testing.assert_close(soft_cross_entropy(pred, label), expected)
    torch.testing.assert_close(soft_cross_entropy(pred, label, "mean"), expected / CLASSES)
    torch.testing.assert_close(WarpedCrossEntropy("mean")(pred, label), expected / CLASSES)


def test_a_soft_label_mixes_the_losses_of_its_classes(pred, label):
    other = label.roll(1, dims=1)
    mixed = soft_cross_entropy(pred, 0.25 * label + 0.75 * other)
    parts = 0.25 * soft_cross_entropy(pred, label) + 0.75 * soft_cross_entropy(pred, other)
    torch.testing.assert_close(mixed, parts)


def test_voxels_outside_the_field_of_view_teach_nothing(pred, label):
    label[..., :2] = 0
    pred.requires_grad_()
    loss = soft_cross_entropy(pred, label)
    (gradient,) = torch.autograd.grad(loss, pred)
    assert torch.count_nonzero(gradient[..., :2]) == 0
    inside = F.cross_entropy(pred[..., 2:], label[..., 2:])
    torch.testing.assert_close(loss, inside * (GRID[2] - 2) / GRID[2])


def test_an_unknown_channel_reduction_is_refused(pred, label):
    with pytest.raises(ValueError, match="'sum' or 'mean', found 'none'"):
        WarpedCrossEntropy("none")
    with pytest.raises(ValueError, match="'sum' or 'mean', found 'none'"):
        soft_cross_entropy(pred, label, "none")


def test_full_confidence_is_cross_entropy(pred, classes, label):
    loss = AlignmentConfidenceLoss()(pred, label, torch.ones(2, 1, *GRID))
    torch.testing.assert_close(loss, F.cross_entropy(pred, classes))


def test_confidence_weighs_each_voxel_and_the_mean_runs_over_all(pred, classes, label):
    confidence = torch.rand(2, 1, *GRID, generator=torch.Generator().manual_seed(2))
    expected = (confidence[:, 0] * F.cross_entropy(pred, classes, reduction="none")).mean()
    torch.testing.assert_close(AlignmentConfidenceLoss()(pred, label, confidence), expected)
    assert AlignmentConfidenceLoss()(pred, label, 0 * confidence) == 0


def test_confident_supervision_reaches_the_segmentation_only(pred, label):
    confidence = torch.full((2, 1, *GRID), 0.5)
    for tensor in (pred, label, confidence):
        tensor.requires_grad_()
    AlignmentConfidenceLoss()(pred, label, confidence).backward()
    assert pred.grad.abs().sum() > 0
    assert label.grad is None and confidence.grad is None


def test_a_confidence_that_would_broadcast_is_refused(pred, label):
    with pytest.raises(ValueError, match=r"confidence must be \(2, 1, 5, 6, 7\)"):
        AlignmentConfidenceLoss()(pred, label, torch.ones(2, CLASSES, *GRID))


@pytest.mark.parametrize("term", [WarpedCrossEntropy(), RegionConstraint()])
def test_tensors_that_would_broadcast_are_refused(term, pred):
    with pytest.raises(ValueError, match="must have one shape"):
        term(pred, torch.ones(2, 1, *GRID))


def test_region_constraint_falls_as_the_pair_aligns():
    fixed = torch.zeros(1, 2, 16, 4, 4)
    fixed[:, 1, 6:10] = 1
    fixed[:, 0] = 1 - fixed[:, 1]
    losses = [RegionConstraint()(fixed.roll(shift, dims=2), fixed).item() for shift in (4, 3, 2, 1, 0)]
    assert losses == [0.5, 0.375, 0.25, 0.125, 0.0]


def test_region_constraint_moves_the_warped_image_only(pred):
    warped, fixed = pred.softmax(1).requires_grad_(), pred.flip(2).softmax(1).requires_grad_()
    RegionConstraint()(warped, fixed).backward()
    torch.testing.assert_close(warped.grad, 2 * (warped - fixed).detach() / warped.numel())
    assert fixed.grad is None


def test_adversarial_loss_is_the_cross_entropy_of_being_called_aligned():
    logits = torch.linspace(-8, 8, 50).reshape(1, 1, 2, 5, 5)
    torch.testing.assert_close(AdversarialLoss()(logits), F.binary_cross_entropy_with_logits(logits, logits * 0 + 1))


def test_adversarial_loss_still_pulls_when_the_discriminator_is_sure():
    logits = torch.full((1, 1, 2, 2, 2), -200.0, requires_grad=True)
    AdversarialLoss()(logits).backward()
    torch.testing.assert_close(logits.grad, torch.full_like(logits, -1 / 8))


@pytest.mark.parametrize(
    ("reference", "alignment", "expected"),
    [(0.0, 0.0, 2 * math.log(2)), (200.0, -200.0, 0.0), (-200.0, 200.0, 400.0), (200.0, 0.0, math.log(2))],
)
def test_discriminator_loss_has_the_analytic_value(reference, alignment, expected):
    loss = DiscriminatorLoss()(torch.full((1, 1, 2, 2, 2), reference), torch.full((1, 1, 2, 2, 2), alignment))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("logit", "is_active"), [(-3.0, False), (-0.1, True), (3.0, True)])
def test_the_discriminator_rests_while_it_is_winning(logit, is_active):
    reference = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    alignment = torch.full((1, 1, 2, 2, 2), logit, requires_grad=True)
    loss = DiscriminatorLoss(pause_below=0.3)(reference, alignment)
    loss.backward()
    unpaused = DiscriminatorLoss()(reference, alignment)
    assert loss == (unpaused if is_active else 0)
    assert bool(reference.grad.any()) is is_active and bool(alignment.grad.any()) is is_active


@pytest.mark.parametrize("pause_below", [-0.1, 1.0])
def test_a_pause_outside_the_range_of_probabilities_is_refused(pause_below):
    with pytest.raises(ValueError, match="pause_below"):
        DiscriminatorLoss(pause_below)


@pytest.mark.parametrize(
    ("term", "channels"),
    [
        (Smoothness(), (3,)),
        (WarpedCrossEntropy(), (CLASSES, CLASSES)),
        (AlignmentConfidenceLoss(), (CLASSES, CLASSES, 1)),
        (RegionConstraint(), (CLASSES, CLASSES)),
        (AdversarialLoss(), (1,)),
        (DiscriminatorLoss(pause_below=0.1), (1, 1)),
    ],
    ids=lambda value: type(value).__name__ if callable(value) else "",
)
def test_half_precision_under_autocast_gives_the_float32_value(term, channels):
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.rand(1, count, 16, 16, 16, generator=generator).bfloat16() for count in channels]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = term(*inputs)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, term(*(tensor.float() for tensor in inputs)), rtol=1e-6, atol=0)


def test_the_gradient_of_smoothness_is_that_of_its_differences():
    torch.manual_seed(0)
    field = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Smoothness(), field)
