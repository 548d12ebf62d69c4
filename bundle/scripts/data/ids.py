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
"""Ids of a label file are whole numbers, also where a slope in its header makes 0.99999998 of 1."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

WHOLE = 1e-3  # how far from a whole number an id may come

Ids = TypeVar("Ids", torch.Tensor, np.ndarray)


def whole_ids(values: Ids) -> Ids:
    """Round what is within 1e-3 of a whole number; a slope times an integer misses it by less.

    Args:
        values: a label of any shape and type.

    Returns:
        The same, with other fractions, NaN and infinity as they were; an integer label itself.
    """
    if isinstance(values, np.ndarray):
        if values.dtype.kind != "f":
            return values
        with np.errstate(invalid="ignore"):  # infinity has no distance from itself
            rounded = values.round()
            return np.where(np.abs(values - rounded) <= WHOLE, rounded, values)
    if not values.is_floating_point():
        return values
    rounded = values.round()
    return torch.where((values - rounded).abs() <= WHOLE, rounded, values)
