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
"""Facts about the local normalised cross-correlation."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from scripts.losses.local_ncc import LocalNCC


def by_definition(warped: Tensor, fixed: Tensor, window: int = 9, eps: float = 1e-5) -> Tensor:
    """The formula itself, with a convolution by ones, differentiated by autograd."""
    count = window**3
    kernel = torch.ones(1, 1, window, window, window, dtype=warped.dtype)

    def window_sum(volume: Tensor) -> Tensor:
        return F.conv3d(volume.flatten(0, 1)[:, None], kernel, padding=window // 2)

    sum_w, sum_f = window_sum(warped), window_sum(fixed)
    cross = window_sum(warped * fixed) - sum_w * sum_f / count
    var_w = window_sum(warped * warped) - sum_w * sum_w / count
    var_f = window_sum(fixed * fixed) - sum_f * sum_f / count
    return 1 - (cross * cross / (var_w * var_f + eps)).mean()


def value_and_gradients(loss, warped: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = warped.clone().requires_grad_(), fixed.clone().requires_grad_()
    value = loss(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ball(level: float, size: int = 18) -> Tensor:
    """Texture inside a sphere on a flat background of the given level, (1, 1, size, size, size)."""
    axis = torch.linspace(-1, 1, size)
    radius = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    return torch.where(radius < 0.3, noise(1, 1, size, size, size, seed=5), torch.tensor(level))


@pytest.mark.parametrize("window", [3, 5, 7, 9, 11, 15])
@pytest.mark.parametrize("shape", [(1, 1, 7, 8, 6), (2, 3, 5, 4, 9)])
def test_value_and_gradients_follow_the_definition(window, shape):
    warped, fixed = noise(*shape, dtype=torch.float64), noise(*shape, seed=1, dtype=torch.float64)
    found = value_and_gradients(LocalNCC(window), warped, fixed)
    expected = value_and_gradients(lambda a, b: by_definition(a, b, window), warped, fixed)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_a_volume_of_many_slabs_follows_the_definition():
    warped, fixed = noise(1, 1, 70, 60, 60), noise(1, 1, 70, 60, 60, seed=1)
    value, gradient, _ = value_and_gradients(LocalNCC(3), warped, fixed)
    truth, true_gradient, _ = value_and_gradients(lambda a, b: by_definition(a, b, 3), warped.double(), fixed.double())
    assert abs(value - truth) < 1e-6
    assert (gradient - true_gradient).abs().max() < 5e-6 * true_gradient.abs().max()


def test_the_analytic_gradient_equals_finite_differences():
    inputs = [noise(2, 2, 4, 3, 5, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(LocalNCC(3), inputs)


@pytest.mark.parametrize(
    ("warped", "fixed"),
    [
        pytest.param(noise(1, 1, 18, 18, 18), noise(1, 1, 18, 18, 18, seed=1), id="noise"),
        pytest.param(ball(0.0), ball(0.0).roll(1, 2), id="structure on zero background"),
        pytest.param(ball(0.3), ball(0.3).roll(1, 2), id="structure on grey background"),
        pytest.param(ball(0.3), noise(1, 1, 18, 18, 18, seed=1), id="flat region against noise"),
        pytest.param(0.5 + 0.01 * noise(1, 1, 18, 18, 18), 0.5 + 0.01 * noise(1, 1, 18, 18, 18, seed=1), id="faint"),
        pytest.param(ball(0.0) - 0.5, 3 * ball(0.0).roll(1, 3) - 0.5, id="z-scores"),
        pytest.param(1000 * ball(0.3), noise(1, 1, 18, 18, 18, seed=1), id="raw intensities"),
    ],
)
def test_float32_gradients_are_those_of_float64(warped, fixed):
    value, *gradients = value_and_gradients(LocalNCC(), warped, fixed)
    truth, *true_gradients = value_and_gradients(by_definition, warped.double(), fixed.double())
    assert abs(value - truth) < 1e-5
    for gradient, true_gradient in zip(gradients, true_gradients, strict=True):
        assert (gradient - true_gradient).abs().max() < 5e-5 * true_gradient.abs().max()


def test_a_flat_image_costs_one_and_gives_no_gradient():
    flat = torch.zeros(1, 1, 12, 12, 12)
    value, *gradients = value_and_gradients(LocalNCC(), flat, noise(1, 1, 12, 12, 12))
    assert value == 1
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_contrast_and_brightness_do_not_matter_away_from_the_border():
    image = noise(1, 1, 12, 12, 12, dtype=torch.float64)
    framed = F.pad(image, (4,) * 6)  # brightness changes with the frame, so that no window sees the zero padding
    brighter = F.pad(3 * image + 0.2, (4,) * 6, value=0.2) - 0.2
    assert LocalNCC(eps=1e-12)(framed, framed) == pytest.approx(LocalNCC(eps=1e-12)(framed, brighter).item(), abs=1e-6)


def test_an_aligned_image_costs_almost_nothing_and_an_unrelated_one_almost_one():
    image, other = noise(1, 1, 24, 24, 24) - 0.5, noise(1, 1, 24, 24, 24, seed=1) - 0.5
    assert LocalNCC()(image, image) < 1e-4
    assert LocalNCC()(image, other) > 0.98


def test_channels_and_batch_are_averaged():
    warped, fixed = noise(2, 3, 9, 8, 7), noise(2, 3, 9, 8, 7, seed=1)
    single = [LocalNCC()(warped[b : b + 1, c : c + 1], fixed[b : b + 1, c : c + 1]) for b in (0, 1) for c in (0, 1, 2)]
    torch.testing.assert_close(LocalNCC()(warped, fixed), torch.stack(single).mean())


def test_only_the_gradient_asked_for_is_returned():
    warped, fixed = noise(1, 1, 8, 8, 8), noise(1, 1, 8, 8, 8, seed=1)
    _, expected_warped, expected_fixed = value_and_gradients(LocalNCC(), warped, fixed)
    moving = warped.clone().requires_grad_()
    LocalNCC()(moving, fixed).backward()
    torch.testing.assert_close(moving.grad, expected_warped, rtol=0, atol=0)
    target = fixed.clone().requires_grad_()
    LocalNCC()(warped, target).backward()
    torch.testing.assert_close(target.grad, expected_fixed, rtol=0, atol=0)
    assert fixed.grad is None and not LocalNCC()(warped, fixed).requires_grad


def test_bfloat16_autocast_does_not_change_the_value():
    warped, fixed = noise(1, 1, 16, 16, 16), noise(1, 1, 16, 16, 16, seed=1)
    plain, gradient, _ = value_and_gradients(LocalNCC(), warped, fixed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient_autocast, _ = value_and_gradients(LocalNCC(), warped, fixed)
    assert value.dtype == torch.float32
    assert value == plain and torch.equal(gradient, gradient_autocast)


def test_bfloat16_images_are_computed_in_float32():
    warped, fixed = noise(1, 1, 16, 16, 16).bfloat16(), noise(1, 1, 16, 16, 16, seed=1).bfloat16()
    moving = warped.clone().requires_grad_()
    value = LocalNCC()(moving, fixed)
    value.backward()
    assert value == LocalNCC()(warped.float(), fixed.float())
    assert moving.grad.dtype == torch.bfloat16


def test_meta_tensors_give_a_plain_tensor_and_keep_their_gradient():
    warped, fixed = noise(1, 1, 8, 8, 8), noise(1, 1, 8, 8, 8, seed=1)
    value, expected, _ = value_and_gradients(LocalNCC(), warped, fixed)
    moving = warped.clone().requires_grad_()
    found = LocalNCC()(MetaTensor(moving), MetaTensor(fixed))
    found.backward()
    assert type(found) is Tensor and found == value
    assert torch.equal(moving.grad, expected)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 7), (8, 8, 8)])
def test_images_on_different_grids_are_refused(shape):
    with pytest.raises(ValueError, match="one shape"):
        LocalNCC()(noise(1, 1, 8, 8, 8), noise(*shape))


@pytest.mark.parametrize("arguments", [{"window": 8}, {"window": 1}, {"eps": 0.0}])
def test_meaningless_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        LocalNCC(**arguments)
