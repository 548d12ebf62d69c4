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

import math
from functools import partial

import pytest
import torch
from ignite.handlers import EMAHandler
from monai.networks.nets import UNet
from tiny_joint import NUM_CLASSES, SIDE, make_networks, make_pair
from torch import nn

from scripts.joint.trainer import JointTrainer
from scripts.joint.updates import Term, Update
from scripts.losses.cross_entropy import soft_cross_entropy
from scripts.methods.semi_supervised import CertainConsistency, CrossPseudoState, MeanTeacherState


class Says(nn.Module):
    """A segmentation network that gives the same logits to every voxel."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits).view(1, -1, 1, 1, 1))

    def forward(self, image):
        return self.logits.expand(len(image), -1, *image.shape[2:])


class TakesTurns(nn.Module):
    """A teacher that is sure of another class at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        logits = torch.zeros(len(image), NUM_CLASSES, *image.shape[2:])
        logits[:, self.calls % NUM_CLASSES] = 100.0
        return logits


class Keeps(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        return torch.zeros(len(image), NUM_CLASSES, *image.shape[2:])


def taught_by(teacher, **options):
    networks = {"segmentation": make_networks()["segmentation"], "teacher": teacher}
    return MeanTeacherState(make_pair(), networks, num_classes=NUM_CLASSES, learning={"segmentation"}, **options)


# ---- UA-MT


def test_a_teacher_that_is_sure_is_followed_everywhere():
    pair = taught_by(Says(100.0, 0.0, 0.0))
    assert pair.teacher_entropy.shape == (1, 1, SIDE, SIDE, SIDE)
    assert pair.teacher_entropy.max() < 1e-30
    assert torch.equal(pair.teacher_certainty, torch.ones(1, 1, SIDE, SIDE, SIDE))


def test_a_teacher_that_does_not_know_has_the_largest_entropy_and_is_followed_nowhere():
    pair = taught_by(Says(0.0, 0.0, 0.0))
    assert torch.allclose(pair.teacher_entropy, torch.tensor(math.log(NUM_CLASSES)))
    assert not pair.teacher_certainty.any()


def test_a_teacher_that_changes_its_mind_is_as_uncertain_as_one_that_does_not_know():
    pair = taught_by(TakesTurns(), passes=NUM_CLASSES)
    assert torch.allclose(pair.teacher_entropy, torch.tensor(math.log(NUM_CLASSES)))
    assert not pair.teacher_certainty.any()


@pytest.mark.parametrize(("certain_below", "certain"), [(0.62, 0.0), (0.64, 1.0)])
def test_the_threshold_is_a_share_of_the_largest_entropy(certain_below, certain):
    pair = taught_by(Says(100.0, 100.0, 0.0), certain_below=certain_below)  # ln 2 / ln 3 = 0.631
    assert (pair.teacher_certainty == certain).all()


def test_the_teacher_is_asked_as_often_as_stated_each_time_with_other_noise_of_bounded_size():
    teacher = Keeps()
    torch.manual_seed(0)
    pair = taught_by(teacher, passes=4, noise_std=0.2)
    _ = pair.teacher_certainty
    noises = [seen - pair.fixed_image for seen in teacher.seen]
    assert len(noises) == 4
    assert all(not torch.equal(noises[0], other) for other in noises[1:])
    assert max(noise.abs().max().item() for noise in noises) == pytest.approx(0.4, abs=1e-6)
    assert noises[0].std().item() == pytest.approx(0.2 * 0.959, rel=0.03)  # of a normal that is cut at 2


def test_neither_the_teacher_nor_its_certainty_carries_a_gradient():
    pair = taught_by(make_networks()["segmentation"])
    assert not pair.teacher_prob.requires_grad
    assert not pair.teacher_certainty.requires_grad
    assert pair.fixed_prob.requires_grad


def test_the_teacher_follows_as_a_moving_average_and_is_taught_by_no_gradient():
    student = make_networks()["segmentation"]
    average = EMAHandler(student, momentum=0.25)
    first = [p.detach().clone() for p in student.parameters()]
    networks = {"segmentation": student, "teacher": average.ema_model}
    term = Term(CertainConsistency(), ("fixed_prob", "teacher_prob", "teacher_certainty"))
    update = Update(student, torch.optim.SGD(student.parameters(), lr=1.0), {"consistency": term})
    state = partial(MeanTeacherState, num_classes=NUM_CLASSES, certain_below=1.1, noise_std=0.5)
    batches = [make_pair()]
    JointTrainer(
        "cpu", 1, batches, networks, {"segmentation": update}, [["segmentation"]], state, train_handlers=[average]
    ).run()
    moved = list(student.parameters())
    assert any(not torch.equal(now, before) for now, before in zip(moved, first, strict=True))
    for teacher, now, before in zip(average.ema_model.parameters(), moved, first, strict=True):
        torch.testing.assert_close(teacher, 0.75 * before + 0.25 * now.detach())
        assert teacher.grad is None


def test_in_training_the_teacher_draws_its_dropout_anew():
    torch.manual_seed(0)
    teacher = UNet(3, 1, NUM_CLASSES, (4, 8), (2,), norm="INSTANCE", dropout=0.5)
    assert taught_by(teacher.train(), noise_std=0.0, passes=8).teacher_entropy.var() > 0
    pair = taught_by(teacher.eval(), noise_std=0.0, passes=8)
    once = pair.teacher_prob
    torch.testing.assert_close(pair.teacher_entropy, -(once * once.log()).sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


# ---- the consistency


def probabilities(*values):
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, len(values), 2, 2, 2)


def test_consistency_is_the_mean_over_certain_voxels():
    prob, teacher = probabilities(1.0, 0.0), probabilities(0.0, 1.0)
    certainty = torch.zeros(1, 1, 2, 2, 2)
    certainty[..., 0] = 1
    assert CertainConsistency()(prob, teacher, certainty) == 1
    half_right = torch.where(certainty.bool(), prob, teacher)
    assert CertainConsistency()(half_right, prob, certainty) == 0


def test_consistency_is_zero_where_nothing_is_certain():
    prob = probabilities(0.5, 0.5).clone().requires_grad_()
    loss = CertainConsistency()(prob, probabilities(0.0, 1.0), torch.zeros(1, 1, 2, 2, 2))
    loss.backward()
    assert loss == 0
    assert not prob.grad.any()


def test_consistency_teaches_the_student_alone():
    student, teacher = (probabilities(0.6, 0.4).clone().requires_grad_() for _ in range(2))
    certainty = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
    CertainConsistency()(student, teacher * 0.5, certainty).backward()
    assert student.grad.abs().min() > 0
    assert teacher.grad is None
    assert certainty.grad is None


def test_consistency_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"certainty \(B, 1, D, H, W\), found .*and \(1, 2, 2, 2, 2\)\.$"):
        CertainConsistency()(*[probabilities(0.5, 0.5)] * 3)


# ---- CPS


def two_students(first, second):
    networks = {"segmentation": first, "second_segmentation": second}
    return CrossPseudoState(make_pair(), networks, num_classes=NUM_CLASSES, learning=set(networks))


def test_a_pseudo_label_is_the_most_likely_class_and_carries_no_gradient():
    pair = two_students(Says(0.0, 3.0, 1.0), Says(2.0, -1.0, 1.0))
    for label, best in ((pair.fixed_pseudo_label, 1), (pair.second_fixed_pseudo_label, 0)):
        assert label.shape == (1, NUM_CLASSES, SIDE, SIDE, SIDE)
        assert (label.argmax(1) == best).all()
        assert (label.sum(1) == 1).all()
        assert not label.requires_grad


def test_pseudo_labels_follow_the_prediction_voxel_by_voxel():
    first, second = (make_networks(seed)["segmentation"] for seed in (0, 1))
    pair = two_students(first, second)
    assert torch.equal(pair.fixed_pseudo_label.argmax(1), first(pair.fixed_image).argmax(1))
    assert torch.equal(pair.second_fixed_pseudo_label.argmax(1), second(pair.fixed_image).argmax(1))
    assert not torch.equal(pair.fixed_pseudo_label, pair.second_fixed_pseudo_label)


def test_each_student_learns_from_the_other_one_alone():
    first, second = Says(0.0, 3.0, 1.0), Says(2.0, -1.0, 1.0)
    pair = two_students(first, second)
    soft_cross_entropy(pair.fixed_pred, pair.second_fixed_pseudo_label).backward()
    # the gradient of a cross-entropy is the probability minus the target: class 0, which the second one believes in
    expected = first.logits.detach().softmax(1) - torch.tensor([1.0, 0, 0]).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(first.logits.grad, expected)
    assert second.logits.grad is None


def test_the_second_network_sees_both_images():
    first, second = (make_networks(seed)["segmentation"] for seed in (0, 1))
    pair = two_students(first, second)
    torch.testing.assert_close(pair.second_moving_pred, second(pair.moving_image))
    torch.testing.assert_close(pair.second_fixed_pred, second(pair.fixed_image))
