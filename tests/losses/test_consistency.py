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

import numpy as np
import pytest
import torch

from scripts.losses.consistency import BidirectionalConsistency, MixMisalignment, SemanticConsistency

HALF = 8  # the axis of the fields below runs from -8 to 8


def field_along_first_axis(displacement, other=4):
    """A field that displaces along the first axis alone, by these voxels: (1, 3, len, other, other)."""
    field = torch.zeros(1, 3, len(displacement), other, other)
    field[:, 0] = torch.as_tensor(displacement, dtype=torch.float32).view(-1, 1, 1)
    return field


def scaling(slope, reach):
    """u(p) = slope p up to ``reach`` voxels from the centre, and on from there as it is."""
    return field_along_first_axis(slope * np.clip(np.arange(-HALF, HALF + 1), -reach, reach))


def random_fields(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [size * torch.randn(2, 3, 6, 5, 4, generator=generator) for size in sizes]


def one_hot(seed, shape=(2, 4, 4, 4), classes=3):
    classes_of = torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(classes_of, classes).movedim(-1, 1).float()


# ---- semantic consistency


def test_regions_that_coincide_cost_nothing_whether_hard_or_soft():
    hard, soft = one_hot(0), torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)).softmax(1)
    assert SemanticConsistency()(hard, hard, soft, soft).item() == pytest.approx(0, abs=1e-6)


def test_it_is_the_dice_loss_of_squares_in_both_directions():
    a, b, c, d = (torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4))

    def dice(x, y):
        sums = [(x * y).sum((2, 3, 4)), (x * x).sum((2, 3, 4)), (y * y).sum((2, 3, 4))]
        return 1 - ((2 * sums[0] + 1) / (sums[1] + sums[2] + 1)).mean()

    torch.testing.assert_close(SemanticConsistency()(a, b, c, d), dice(a, b) + dice(c, d))


def test_regions_without_overlap_cost_nearly_one_a_direction():
    there = torch.zeros(1, 2, 8, 8, 8)
    there[:, 0] = 1
    back = there.flip(1)
    assert SemanticConsistency()(there, back, back, there).item() == pytest.approx(2 * (1 - 1 / 513), rel=1e-6)


def test_only_what_is_warped_receives_a_gradient():
    tensors = [torch.rand(1, 2, 4, 4, 4).requires_grad_() for _ in range(4)]
    SemanticConsistency()(*tensors).backward()
    assert [tensor.grad is not None for tensor in tensors] == [True, False, True, False]


# ---- bidirectional consistency


def test_no_displacement_is_consistent_in_both_forms():
    zero = torch.zeros(1, 3, 4, 4, 4)
    assert BidirectionalConsistency("residual")(zero, zero) == BidirectionalConsistency("reference")(zero, zero) == 0


def test_a_shift_and_the_shift_back_leave_no_residual():
    shift = torch.tensor([1.5, -0.5, 2.0]).view(1, 3, 1, 1, 1).expand(-1, -1, 6, 6, 6)
    assert BidirectionalConsistency("residual")(shift, -shift).item() == pytest.approx(0, abs=1e-12)
    # forgotten on one side, it is left in both directions
    expected = 2 * shift[0, :, 0, 0, 0].square().mean().item()
    assert BidirectionalConsistency("residual")(shift, torch.zeros_like(shift)).item() == pytest.approx(expected)


def test_a_scaling_and_its_inverse_leave_no_residual_and_no_other_slope_does():
    forward, inverse = scaling(0.2, reach=5), scaling(-0.2 / 1.2, reach=6)
    assert BidirectionalConsistency("residual")(forward, inverse).item() == pytest.approx(0, abs=1e-10)
    for slope in (-0.24, -0.16):  # what the reference form, and the first-order inverse, would have it
        assert BidirectionalConsistency("residual")(forward, scaling(slope, reach=6)).item() > 1e-4


def test_the_reference_form_asks_a_scaling_by_1_2_for_a_slope_of_minus_0_24():
    coordinates = np.arange(-HALF, HALF + 1)
    # falls back to zero at the ends, so that nothing is read from outside
    displacement = np.interp(coordinates, [-HALF, -5, 5, HALF], [0, -1, 1, 0])
    asked = -np.interp(coordinates + displacement, coordinates, displacement)
    near = np.abs(coordinates) <= 4
    np.testing.assert_allclose(asked[near], -0.24 * coordinates[near], atol=1e-12)
    forward = field_along_first_axis(displacement)
    loss = BidirectionalConsistency("reference")
    assert loss(forward, field_along_first_axis(asked)).item() == pytest.approx(0, abs=1e-10)
    assert loss(forward, scaling(-0.2 / 1.2, reach=6)).item() > 1e-4


def test_the_forms_differ_and_only_the_residual_is_the_same_in_both_directions():
    forward, backward = random_fields(1.0, 0.5)
    residual, reference = BidirectionalConsistency("residual"), BidirectionalConsistency("reference")
    assert not torch.isclose(residual(forward, backward), reference(forward, backward))
    assert not torch.isclose(reference(backward, forward), reference(forward, backward))
    torch.testing.assert_close(residual(backward, forward), residual(forward, backward))


@pytest.mark.parametrize("form", ["reference", "residual"])
def test_both_fields_receive_a_gradient(form):
    fields = [field.requires_grad_() for field in random_fields(1.0, 0.5)]
    BidirectionalConsistency(form)(*fields).backward()
    assert all(field.grad.abs().max() > 0 for field in fields)


# ---- mix misalignment regularisation


def mixture(share=0.3):
    first, second = torch.rand(2, 2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    shares = torch.tensor([share, 1 - share]).view(2, 1, 1, 1, 1)
    return first, second, shares, shares * first + (1 - shares) * second


def test_a_network_that_is_linear_in_the_image_costs_nothing():
    first, second, share, mixed = mixture()
    network = torch.nn.Conv3d(1, 3, kernel_size=3, padding=1)
    predictions = (network(image) for image in (mixed, first, second))
    assert MixMisalignment()(*predictions, share).item() == pytest.approx(0, abs=1e-12)


def test_a_square_costs_what_it_is_off_by():
    first, second, share, mixed = mixture()
    expected = (share * (1 - share) * (first - second).square()).square().mean()  # the variance of the mixture
    torch.testing.assert_close(MixMisalignment()(mixed**2, first**2, second**2, share), expected)


def test_probabilities_of_equal_logits_plus_a_constant_are_equal_and_logits_are_not():
    first, second, share, _ = mixture()
    first, second = (torch.cat([image, -image], dim=1) for image in (first, second))
    shifted = torch.lerp(second, first, share) + 1
    assert MixMisalignment("logits")(shifted, first, second, share).item() == pytest.approx(1, rel=1e-5)
    same = torch.zeros_like(first)
    assert MixMisalignment("probs")(same + 1, same, same - 2, share).item() == pytest.approx(0, abs=1e-12)
    assert MixMisalignment("probs")(shifted, first, second, share).item() <= 1


def test_each_prediction_receives_a_gradient():
    predictions = [torch.rand(1, 2, 4, 4, 4).requires_grad_() for _ in range(3)]
    MixMisalignment()(*predictions, torch.full((1, 1, 1, 1, 1), 0.4)).backward()
    assert all(prediction.grad.abs().max() > 0 for prediction in predictions)


# ---- what is refused


def test_unknown_forms_are_refused():
    with pytest.raises(ValueError, match="'reference' or 'residual'|'residual' or 'reference', found 'exact'"):
        BidirectionalConsistency("exact")
    with pytest.raises(ValueError, match="'logits' or 'probs', found 'prob'"):
        MixMisalignment("prob")


def test_shapes_that_would_broadcast_are_refused():
    whole, part = torch.rand(1, 3, 4, 4, 4), torch.rand(1, 3, 4, 4, 1)
    share = torch.ones(1, 1, 1, 1, 1)
    for loss, tensors in (
        (SemanticConsistency(), (whole, whole, part, whole)),
        (BidirectionalConsistency(), (whole, part)),
        (MixMisalignment(), (whole, part, whole, share)),
    ):
        with pytest.raises(ValueError, match=r"found \[\(1, 3, 4, 4, 1\), \(1, 3, 4, 4, 4\)\]"):
            loss(*tensors)
