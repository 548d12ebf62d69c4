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
"""What is kept for the backward pass is counted in bytes that can be told beforehand."""

from __future__ import annotations

import torch

from benchmarks.costs.memory import Kept

KILOBYTE = 2**10


def test_what_is_kept_is_counted_once_until_the_backward_pass_lets_go():
    a, b = (torch.rand(KILOBYTE // 4, requires_grad=True) for _ in range(2))
    with Kept() as kept:
        product = a * b
        assert kept.now == 2 * KILOBYTE  # both factors
        square = product * product
        assert kept.now == 3 * KILOBYTE  # the product twice, which is one storage
        other = square * a
        assert kept.now == 4 * KILOBYTE  # and the square; `a` is there already
        other.sum().backward()
        assert (kept.now, kept.peak) == (0, 4 * KILOBYTE)
    torch.testing.assert_close(b.grad, 2 * a**3 * b.detach())


def test_a_result_that_its_own_graph_keeps_is_let_go_with_it():
    with Kept() as kept:
        result = torch.rand(KILOBYTE // 4, requires_grad=True).exp()  # its gradient is the result itself
        assert kept.now == KILOBYTE
        del result
    assert kept.now == 0
