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
from monai.networks.nets import UNet

from scripts.networks.inferers import MovedCopiesInferer

SHAPE = (20, 24, 16)
#: what no move takes to the border of the volume
INSIDE = (..., slice(4, -4), slice(4, -4), slice(4, -4))


def ramp() -> torch.Tensor:
    """Brightness that rises along all axes: linear interpolation gets it right everywhere (1, 1, D, H, W)."""
    axes = torch.meshgrid(*[torch.linspace(0, 1, side) for side in SHAPE], indexing="ij")
    return sum(weight * axis for weight, axis in zip((0.5, 0.3, 0.2), axes, strict=True))[None, None]


def by_brightness(image: torch.Tensor) -> torch.Tensor:
    """Logits of two classes that depend on nothing but the brightness of the voxel."""
    return torch.cat([image, 1 - image], dim=1)


def test_without_copies_it_is_one_pass():
    plain = by_brightness(ramp()).log_softmax(dim=1)
    torch.testing.assert_close(MovedCopiesInferer(copies=0)(ramp(), by_brightness), plain)


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
def test_what_is_said_of_a_copy_is_brought_back_to_where_it_came_from(amp):
    plain = by_brightness(ramp()).softmax(dim=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        averaged = MovedCopiesInferer(copies=6)(ramp(), by_brightness).exp()
    torch.testing.assert_close(averaged[INSIDE], plain[INSIDE], atol=1e-4, rtol=0)

    seen = []
    MovedCopiesInferer(copies=6)(ramp(), lambda images: seen.extend(images) or by_brightness(images))
    assert len(seen) == 7
    assert all((copy - ramp())[INSIDE].abs().max() > 0.02 for copy in seen[1:])  # they had been moved


@pytest.mark.parametrize("copies", [1, 2, 3, 12])
def test_copies_in_batches_say_what_they_say_one_by_one(copies, monkeypatch):
    sizes = []
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,), norm="INSTANCE").eval()

    def counted(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return network(images)

    with torch.no_grad():
        together = MovedCopiesInferer(copies)(ramp(), counted).exp()
        assert sum(sizes) == copies + 1 and set(sizes) <= {2, 3}  # never one alone
        monkeypatch.setattr("scripts.networks.inferers.COPIES_AT_ONCE", 1)
        alone = MovedCopiesInferer(copies)(ramp(), network).exp()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_what_differs_between_copies_averages_out():
    noise = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(0))

    def noisy(image: torch.Tensor) -> torch.Tensor:
        return by_brightness(image) + noise  # as of a network that is wrong at a place, whatever it is shown

    expected = by_brightness(ramp()).softmax(dim=1)
    error = [(MovedCopiesInferer(n)(ramp(), noisy).exp() - expected)[INSIDE].square().mean().sqrt() for n in (0, 12)]
    assert error[1] < 0.5 * error[0]


def test_a_volume_gets_the_same_prediction_each_time():
    results = [MovedCopiesInferer(copies=3, seed=seed)(ramp(), by_brightness) for seed in (0, 0, 1)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_result_is_of_probabilities():
    averaged = MovedCopiesInferer(copies=3)(ramp().repeat(2, 1, 1, 1, 1), by_brightness)
    assert averaged.shape == (2, 2, *SHAPE)
    torch.testing.assert_close(averaged.exp().sum(dim=1), torch.ones(2, *SHAPE))


def test_a_negative_number_of_copies_is_refused():
    with pytest.raises(ValueError, match="should be 0 or more, found -1"):
        MovedCopiesInferer(copies=-1)


def test_moves_that_are_kept_are_those_of_monai(monkeypatch):
    image = torch.rand(1, 2, *SHAPE)
    found = []
    for largest in (2**18, 0):
        monkeypatch.setattr("scripts.networks.inferers.LARGEST_KEPT", largest)
        with torch.no_grad():
            found.append(MovedCopiesInferer(copies=4)(image, lambda copies: copies).exp())
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
