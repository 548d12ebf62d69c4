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

import nibabel
import numpy as np
import pytest

from scripts.data.readers import load_volume
from scripts.data.volumes import Volume
from scripts.fields.volumes import STORED_TYPE, as_stored


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.uint16, np.int32])
def test_whole_numbers_stay_of_their_type(stored):
    values = as_stored(np.float32([[3.4, 3.6, 200.0]]), {STORED_TYPE: np.dtype(stored).name})
    assert values.dtype == stored and values.tolist() == [[3, 4, 200]]


@pytest.mark.parametrize("outside", [-1024.0, 300.0, np.nan, np.inf])
def test_a_type_that_does_not_hold_the_values_gives_way(outside):
    values = np.float32([3.4, outside])
    assert as_stored(values, {STORED_TYPE: "uint8"}) is values


@pytest.mark.parametrize("meta", [{}, {STORED_TYPE: "float32"}, {STORED_TYPE: "float64"}, {STORED_TYPE: "int64"}])
def test_other_types_stay_as_they_are(meta):
    values = np.float32([3.4])
    assert as_stored(values, meta) is values


def test_a_file_says_what_it_stores_and_one_with_a_slope_what_that_makes(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    plain, sloped = nibabel.Nifti1Image(array, np.eye(4)), nibabel.Nifti1Image(array, np.eye(4))
    sloped.header.set_slope_inter(0.5, 0.0)
    for name, image, stored in (("plain", plain, "int16"), ("sloped", sloped, "float64")):
        nibabel.save(image, tmp_path / f"{name}.nii")
        assert load_volume(str(tmp_path / f"{name}.nii")).meta[STORED_TYPE] == stored
    assert Volume(array, np.eye(4)).as_image("a").meta[STORED_TYPE] == "int16"
