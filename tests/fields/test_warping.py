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
"""What must hold for warps and for the algebra of fields."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.blocks import DVF2DDF

from scripts.fields.warping import compose, integrate, invert, sample_voxels, warp, warp_label, warp_together

GRID = (9, 12, 10)


def random_image(*shape: int, seed: int = 0, **options) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), **options)


def constant_field(shift: tuple[float, float, float], grid: tuple[int, ...] = GRID, **options) -> torch.Tensor:
    return torch.tensor(shift, **options).view(1, 3, 1, 1, 1).expand(1, 3, *grid).clone()


def smooth_field(amplitude: float = 0.8, grid: tuple[int, ...] = GRID, **options) -> torch.Tensor:
    """Each component a slow wave along another axis, not zero at the border."""
    d, h, w = torch.meshgrid(*(torch.linspace(0, 1, size, **options) for size in grid), indexing="ij")
    waves = torch.stack([torch.sin(3 * h + 1), torch.cos(4 * w + d), torch.sin(3 * d + 2 * w)])
    return amplitude * waves[None]


def one_hot(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    return (label == torch.arange(num_classes).view(1, -1, 1, 1, 1)).float()


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("grid", [(9, 12, 10), (48, 33, 7), (1, 5, 96)])
def test_identity_field_returns_the_image_to_the_bit(grid, padding_mode, mode):
    image = random_image(2, 3, *grid) * 10.0 ** torch.arange(-6, 3, 3).view(1, 3, 1, 1, 1)
    assert torch.equal(warp(image, torch.zeros(2, 3, *grid), mode, padding_mode), image)


def test_each_sample_is_warped_by_its_own_field():
    image = random_image(2, 1, *GRID)
    warped = warp(image, torch.cat([torch.zeros(1, 3, *GRID), constant_field((1.0, 0.0, 0.0))]))
    assert torch.equal(warped[0], image[0])
    torch.testing.assert_close(warped[1, :, :-1], image[1, :, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("shift", [(2, 0, 0), (0, -3, 0), (0, 0, 1), (1, -2, 3)])
def test_constant_shift_is_a_roll_inside(shift, mode):
    image = random_image(1, 2, *GRID)
    warped = warp(image, constant_field(tuple(map(float, shift))), mode)
    rolled = image.roll([-step for step in shift], dims=(2, 3, 4))
    inside = (..., *(slice(max(0, -step), size - max(0, step)) for step, size in zip(shift, GRID, strict=True)))
    torch.testing.assert_close(warped[inside], rolled[inside], atol=2e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channel_k_of_the_field_moves_along_array_axis_k(axis):
    ramp = torch.arange(GRID[axis], dtype=torch.float32).view(*(-1 if k == axis else 1 for k in range(3)))
    image = ramp.expand(1, 1, *GRID)
    field = torch.zeros(1, 3, *GRID)
    field[:, axis] = 0.25
    inside = warp(image, field).narrow(axis + 2, 0, GRID[axis] - 1)
    torch.testing.assert_close(inside, (image + 0.25).narrow(axis + 2, 0, GRID[axis] - 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("padding_mode", "outside"), [("zeros", 0.0), ("border", 1.0)])
def test_padding_decides_what_lies_outside(padding_mode, outside):
    warped = warp(torch.ones(1, 1, *GRID), constant_field((20.0, 0.0, 0.0)), padding_mode=padding_mode)
    torch.testing.assert_close(warped, torch.full_like(warped, outside))


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_gradients_to_image_and_field_are_those_of_the_warp(padding_mode):
    grid = (4, 3, 5)
    image = random_image(1, 2, *grid, dtype=torch.float64).requires_grad_()
    field = (0.3 + 0.2 * random_image(1, 3, *grid, seed=1, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, u: warp(x, u, padding_mode=padding_mode), (image, field))


def test_a_field_of_zeros_still_learns():
    field = torch.zeros(1, 3, *GRID, requires_grad=True)
    ramp = torch.arange(GRID[1], dtype=torch.float32).view(1, 1, 1, -1, 1).expand(1, 1, *GRID)
    warp(ramp, field)[:, :, :, 1:-1].sum().backward()
    torch.testing.assert_close(field.grad[:, 1, :, 1:-1], torch.ones(1, *GRID)[:, :, 1:-1], atol=1e-4, rtol=0)


def test_autocast_changes_nothing():
    image, field = random_image(1, 2, *GRID), smooth_field()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = warp(image, field)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, warp(image, field))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16])
def test_lesser_types_are_warped_in_float32(dtype):
    image, field = (100 * random_image(1, 1, *GRID)).to(dtype), smooth_field()
    warped = warp(image, field)
    assert warped.dtype == torch.float32
    assert torch.equal(warped, warp(image.float(), field))


def test_float64_stays_float64():
    image, field = random_image(1, 1, *GRID, dtype=torch.float64), smooth_field(dtype=torch.float64)
    assert warp(image, field).dtype == torch.float64
    torch.testing.assert_close(warp(image.float(), field.float()).double(), warp(image, field), atol=1e-5, rtol=0)


def test_a_first_warp_in_inference_mode_does_not_spoil_training():
    grid = (3, 17, 5)  # used by no other test: its coordinates are computed here and kept
    with torch.inference_mode():
        warp(torch.rand(1, 1, *grid), torch.zeros(1, 3, *grid))
    field = torch.zeros(1, 3, *grid, requires_grad=True)
    warp(random_image(1, 1, *grid), field).sum().backward()
    assert field.grad.abs().sum() > 0


def test_the_affine_of_the_moving_image_is_not_passed_on():
    warped = warp(MetaTensor(random_image(1, 1, *GRID), affine=2 * torch.eye(4)), smooth_field())
    assert type(warped) is torch.Tensor


@pytest.mark.parametrize(
    ("image_shape", "field_shape"),
    [
        ((1, 1, 4, 4, 4), (1, 3, 4, 4, 5)),
        ((2, 1, 4, 4, 4), (1, 3, 4, 4, 4)),
        ((1, 1, 4, 4, 4), (1, 2, 4, 4, 4)),
        ((1, 4, 4, 4), (1, 3, 4, 4, 4)),
    ],
)
def test_shapes_that_do_not_agree_are_named(image_shape, field_shape):
    with pytest.raises(ValueError, match="do not agree") as error:
        warp(torch.zeros(image_shape), torch.zeros(field_shape))
    assert str(image_shape) in str(error.value) and str(field_shape) in str(error.value)


def test_nearest_refuses_a_field_that_is_to_learn_and_takes_any_other():
    image, field = random_image(1, 1, *GRID).requires_grad_(), smooth_field().requires_grad_()
    with pytest.raises(ValueError, match="'nearest' has a gradient of zero for the field"):
        warp(image, field, mode="nearest")
    with torch.no_grad():
        expected = warp(image, field, mode="nearest")
    warped = warp(image, field.detach(), mode="nearest")
    warped.sum().backward()  # the image can still learn: each voxel counts as often as it is read
    assert torch.equal(warped, expected) and image.grad.sum() == (warped != 0).sum()


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_warped_together_equals_warped_one_by_one(padding_mode):
    images = [random_image(2, channels, *GRID, seed=channels) for channels in (1, 4, 2)]
    field = smooth_field().repeat(2, 1, 1, 1, 1) * torch.tensor([1.0, -2.0]).view(2, 1, 1, 1, 1)
    for together, image in zip(warp_together(images, field, padding_mode), images, strict=True):
        torch.testing.assert_close(together, warp(image, field, padding_mode=padding_mode))


def test_an_image_that_does_not_fit_is_not_warped_together():
    with pytest.raises(ValueError, match="do not agree"):
        warp_together([torch.zeros(1, 1, *GRID), torch.zeros(1, 1, 4, 4, 4)], torch.zeros(1, 3, *GRID))


@pytest.mark.parametrize("num_classes", [2, 4, 10])
def test_warped_label_is_the_strongest_class_of_the_warped_one_hot(num_classes):
    label = (random_image(1, 1, *GRID) * num_classes).to(torch.uint8)
    field = 3 * smooth_field()
    share = warp(one_hot(label, num_classes), field)
    share[:, :1] += 1 - share.sum(dim=1, keepdim=True)  # the outside is background
    first, second = share.topk(2, dim=1).values.unbind(dim=1)
    decided = (first - second > 1e-4)[:, None]
    warped = warp_label(label, field, num_classes)
    assert warped.dtype == torch.uint8
    assert decided.float().mean() > 0.95
    assert torch.equal(warped[decided], share.argmax(dim=1, keepdim=True)[decided].to(torch.uint8))


def test_identity_field_returns_the_label():
    label = (random_image(1, 1, *GRID) * 7).to(torch.int16)
    assert torch.equal(warp_label(label, torch.zeros(1, 3, *GRID), num_classes=7), label)


def test_a_label_moved_beyond_the_border_leaves_background():
    label = torch.full((1, 1, *GRID), 3)
    warped = warp_label(label, constant_field((0.0, 0.0, 4.75)), num_classes=4)
    assert (warped[..., :5] == 3).all() and (warped[..., 5:] == 0).all()


def test_between_two_structures_no_third_one_appears():
    label = torch.ones(1, 1, *GRID, dtype=torch.uint8)
    label[:, :, 4:] = 3
    assert set(warp_label(label, constant_field((0.4, 0.0, 0.0)), 4).unique().tolist()) == {1, 3}


@pytest.mark.parametrize(
    ("channels", "num_classes", "message"), [(2, 4, "one channel of classes"), (1, 1, "counts the background")]
)
def test_labels_that_cannot_be_warped_are_refused(channels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        warp_label(torch.zeros(1, channels, *GRID), torch.zeros(1, 3, *GRID), num_classes)


def test_composed_field_equals_two_warps():
    ramps = torch.stack(torch.meshgrid(*(torch.arange(20.0) for _ in range(3)), indexing="ij"))[
        None
    ]  # linear, so exact
    inner, outer = smooth_field(1.5, (20,) * 3), smooth_field(-0.9, (20,) * 3).flip(1)
    once = warp(ramps, compose(outer, inner))
    twice = warp(warp(ramps, inner), outer)
    inside = (..., *(slice(4, -4),) * 3)
    torch.testing.assert_close(once[inside], twice[inside], atol=1e-4, rtol=0)
    assert (once - warp(ramps, compose(inner, outer)))[inside].abs().max() > 0.1  # the order matters


def test_composing_with_the_identity_changes_nothing():
    field, zero = smooth_field(), torch.zeros(1, 3, *GRID)
    assert torch.equal(compose(field, zero), field)
    assert torch.equal(compose(zero, field), field)


def test_constant_fields_add_up_to_the_border():
    joined = compose(constant_field((1.5, 0.0, -2.0)), constant_field((0.25, 3.0, 1.0)))
    torch.testing.assert_close(joined, constant_field((1.75, 3.0, -1.0)))


def test_a_field_and_its_inverse_cancel():
    field = smooth_field(0.6, (24, 20, 22), dtype=torch.float64)
    inverse, residual = invert(field)
    inside = (..., *(slice(2, -2),) * 3)
    assert residual.shape == (1,)
    assert residual.item() < 1e-6
    assert compose(inverse, field)[inside].abs().max() < 1e-6
    assert compose(field, inverse)[inside].abs().max() < 0.02  # differs by interpolation only


def test_the_inverse_of_a_constant_is_its_opposite():
    inverse, residual = invert(constant_field((1.0, -2.5, 0.5)))
    torch.testing.assert_close(inverse, constant_field((-1.0, 2.5, -0.5)))
    assert residual.item() < 1e-5


def test_the_residual_tells_of_a_fold():
    field = torch.zeros(1, 3, *GRID)
    field[:, 1, :, ::2] = 4.0  # neighbouring planes cross each other
    folded, gentle = invert(torch.cat([field, 0.1 * field]))[1].tolist()
    assert folded > 0.1
    assert gentle < 1e-5


@pytest.mark.parametrize("steps", [1, 7])
def test_integration_equals_monai_with_border_padding(steps):
    velocity = smooth_field(2.0)
    expected = DVF2DDF(num_steps=steps, padding_mode="border")(velocity)
    torch.testing.assert_close(integrate(velocity, steps), expected, atol=1e-5, rtol=0)


def test_a_constant_velocity_is_its_own_displacement():
    velocity = constant_field((4.0, -3.0, 1.0))
    torch.testing.assert_close(integrate(velocity), velocity)


def test_a_linear_velocity_integrates_to_the_exponential():
    position = torch.arange(-10.0, 11.0, dtype=torch.float64)
    velocity = torch.zeros(1, 3, 21, 21, 21, dtype=torch.float64)
    velocity[:, 2] = -0.5 * position  # x' = -x / 2 goes to x exp(-1/2)
    expected = (torch.exp(torch.tensor(-0.5, dtype=torch.float64)) - 1) * position
    moved = integrate(velocity, steps=12)[0, 2]
    torch.testing.assert_close(moved, expected.expand_as(moved), atol=1e-3, rtol=0)


def test_integration_without_a_step_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        integrate(torch.zeros(1, 3, *GRID), steps=0)


def test_sampling_at_voxel_indices_reads_them():
    image = random_image(1, 2, *GRID)
    corners = torch.tensor([[0, 0, 0], [8, 0, 9], [3, 11, 4], [2, 5, 1]])
    read = sample_voxels(image, corners.double().view(1, 1, 1, -1, 3))
    expected = image[0][:, corners[:, 0], corners[:, 1], corners[:, 2]]
    torch.testing.assert_close(read[0, :, 0, 0], expected, atol=1e-5, rtol=0)
