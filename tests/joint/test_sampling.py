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

import pytest
import torch

from scripts.joint.sampling import BetaScale, Identity, UniformScale

SAMPLERS = [Identity(), UniformScale(), BetaScale()]


def draw(sampler, number=4000, seed=0):
    torch.manual_seed(seed)
    return sampler(number, torch.device("cpu"))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_there_is_one_float32_factor_per_sample_that_scales_a_whole_field(sampler):
    factors = draw(sampler, 5)
    assert factors.shape == (5, 1, 1, 1, 1) and factors.dtype == torch.float32


def test_identity_is_the_full_field_always():
    assert torch.equal(draw(Identity()).unique(), torch.ones(1))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.75), (-1.0, 2.0)])
def test_uniform_factors_fill_their_range_evenly(low, high):
    factors = draw(UniformScale(low, high)).flatten()
    assert low <= factors.min() and factors.max() <= high
    share = torch.histc((factors - low) / (high - low), bins=4, min=0, max=1) / len(factors)
    assert (share - 0.25).abs().max() < 0.04  # six standard deviations


def test_a_range_of_no_width_is_a_constant():
    assert torch.equal(draw(UniformScale(0.5, 0.5)).unique(), torch.tensor([0.5]))


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.3), (2.0, 1.0)])
def test_beta_factors_have_the_moments_of_their_distribution(a, b):
    factors = draw(BetaScale(a, b)).flatten()
    assert factors.min() >= 0 and factors.max() <= 1
    assert factors.mean().item() == pytest.approx(a / (a + b), abs=0.03)
    assert factors.var().item() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), abs=0.02)


@pytest.mark.parametrize("sampler", SAMPLERS[1:], ids=lambda sampler: type(sampler).__name__)
def test_draws_follow_from_the_seed_of_torch(sampler):
    assert torch.equal(draw(sampler, 8, seed=1), draw(sampler, 8, seed=1))
    assert not torch.equal(draw(sampler, 8, seed=1), draw(sampler, 8, seed=2))


def test_impossible_ranges_are_refused_with_what_was_found():
    with pytest.raises(ValueError, match=r"low \(0.8\) is greater than high \(0.2\)"):
        UniformScale(0.8, 0.2)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, -0.5)])
def test_beta_parameters_that_are_not_positive_are_refused(a, b):
    with pytest.raises(ValueError, match=f"must be positive, got a={a}, b={b}"):
        BetaScale(a, b)
