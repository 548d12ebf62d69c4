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
"""Where a pair lies before it is registered."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

from scripts.registration.pair import Subject, points_on_fixed_file, points_without_field


def subject(scale: float, offset: float) -> Subject:
    affine = torch.diag(torch.tensor([scale, 1.0, 2.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = offset
    file = MetaTensor(torch.zeros(1, 7, 9, 8), affine=affine)
    crop = affine.clone()
    crop[:3, 3] += 0.5
    return Subject("case", file, MetaTensor(torch.zeros(1, 6, 6, 6), affine=crop))


def test_without_a_field_points_go_where_a_field_of_zeros_takes_them():
    moving, fixed = subject(1.5, 3.0), subject(1.0, -2.0)
    expected = points_on_fixed_file(torch.zeros(1, 3, 6, 6, 6), moving, fixed)
    torch.testing.assert_close(points_without_field(moving, fixed), expected, rtol=0, atol=1e-9)
