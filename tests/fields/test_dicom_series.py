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
"""A DICOM series is read where it is one straight, even volume, and refused with the slice where it is not."""

from __future__ import annotations

import itk
import numpy as np
import pytest
from dicom_files import affine_of_series, write_series

from scripts.data.readers import load_volume
from scripts.data.volumes import read_volume
from scripts.fields.dicom_series import SeriesFault, read_series, sorted_slices
from scripts.files.datalist import case_name
from scripts.files.series import find_series, is_series, slices_in

VOLUME = np.arange(6 * 5 * 8).reshape(6, 5, 8)
TURN = np.radians(20)
OBLIQUE = ((np.cos(TURN), 0, -np.sin(TURN)), (0, 1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))


def fault(folder) -> str:
    with pytest.raises(SeriesFault) as stopped:
        sorted_slices(folder)
    return str(stopped.value)


@pytest.mark.parametrize("axes", [((1, 0, 0), (0, 1, 0)), OBLIQUE, CORONAL])
@pytest.mark.parametrize("names", ["IM{:04d}.dcm", "{}"])
def test_a_series_has_its_values_at_their_places(tmp_path, axes, names):
    origin = (-11.0, 22.5, -33.25)
    volume = load_volume(write_series(tmp_path / "s", VOLUME, axes=axes, origin=origin, names=names))
    assert np.array_equal(volume[0].numpy(), VOLUME)
    assert np.allclose(volume.affine, affine_of_series(axes, origin), atol=1e-4)


def test_the_order_is_that_of_the_places_and_not_of_the_names(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME[:, :, ::-1], heights=[2.5 * n for n in reversed(range(8))])
    assert [path.name for path in sorted_slices(folder)] == [f"IM{n:04d}.dcm" for n in reversed(range(8))]
    assert np.array_equal(load_volume(folder)[0].numpy(), VOLUME)


def test_slopes_that_differ_between_slices_are_kept_with_their_fractions(tmp_path):
    file = write_series(tmp_path / "s", VOLUME) / "IM0005.dcm"  # as of PET; the first slice is of whole numbers
    whole, half = (b"\x28\x00\x53\x10\x02\x00\x00\x00" + text for text in (b"1 ", b".5"))
    assert file.read_bytes().count(whole) == 1
    file.write_bytes(file.read_bytes().replace(whole, half))
    expected = VOLUME.astype(float)
    expected[:, :, 5] = 0.5 * (VOLUME[:, :, 5] + 1) - 1  # it is stored less the intercept, -1
    assert np.array_equal(load_volume(tmp_path / "s")[0].numpy(), expected)


def test_a_missing_slice_is_refused_with_the_one_before_the_gap(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    (folder / "IM0003.dcm").unlink()
    message = fault(folder)
    assert "behind IM0002.dcm, at -25 mm, the next one, IM0004.dcm, lies 5 mm further; expected 2.5 mm" in message
    assert "as if 1 was missing" in message and "Export the series again" in message


def test_itk_reads_a_series_with_a_gap_as_one_of_thicker_slices(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    (folder / "IM0003.dcm").unlink()
    image = itk.imread([str(path) for path in slices_in(folder)], itk.F)
    assert image.GetSpacing()[2] == pytest.approx(7 * 2.5 / 6)


@pytest.mark.parametrize(("off", "good"), [(0.02, True), (0.04, False), (-0.04, False)])
def test_slices_are_even_within_a_hundredth(tmp_path, off, good):
    folder = write_series(tmp_path / "s", VOLUME, heights=[0, 2.5, 5 + off, 7.5, 10, 12.5, 15, 17.5])
    if good:
        assert len(sorted_slices(folder)) == 8
    else:
        assert "IM0002.dcm" in fault(folder)


def test_a_gap_between_three_slices_is_told_from_the_rule(tmp_path):
    assert "behind IM0001.dcm" in fault(write_series(tmp_path / "s", VOLUME[:, :, :3], heights=[0, 2.5, 7.5]))


@pytest.mark.parametrize("degrees", [15.0, 0.5])
def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path, degrees):
    message = fault(write_series(tmp_path / "s", VOLUME, aside=np.tan(np.radians(degrees))))
    assert f"they go {degrees:.3g} degrees aside" in message and "IM0000.dcm to IM0007.dcm" in message


def test_an_oblique_series_that_stands_straight_is_no_tilted_one(tmp_path):
    assert len(sorted_slices(write_series(tmp_path / "s", VOLUME, axes=OBLIQUE))) == 8


def test_a_slice_that_lies_aside_is_refused(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    write_series(tmp_path / "t", VOLUME, origin=(-9.5, 20, -30))
    (tmp_path / "t" / "IM0004.dcm").rename(folder / "IM0004.dcm")
    assert "lies aside of the others: IM0004.dcm, by 0.5 mm; expected at most 0.1 of a voxel" in fault(folder)


def test_several_series_are_refused_with_their_counts(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    write_series(folder, VOLUME[:, :, :3], uid="1.2.826.2", names="scout{}", _0008_103e="scout")
    message = fault(folder)
    assert "expected one DICOM series, found 2" in message and "Give a folder with one of them" in message
    assert "8 files: a chest, 1.2.826.1" in message and "3 files: scout, 1.2.826.2" in message


def test_slices_at_one_place_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    write_series(folder, VOLUME, names="echo2_{}", _0008_0018="1.2.826.1.99")
    assert "lie at one place, IM0000.dcm and echo2_0" in fault(folder)


def test_slices_with_another_grid_or_direction_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME)
    write_series(folder, VOLUME[:, :, :1], heights=[40], axes=CORONAL, names="localizer", _0008_0018="1.2.826.1.50")
    message = fault(folder)
    assert "do not lie alike" in message and "localizer: 5 x 6" in message
    other = write_series(tmp_path / "o", VOLUME)
    write_series(other, VOLUME[:4, :, :1], heights=[20], names="small", _0008_0018="1.2.826.1.50")
    assert "small: 5 x 4" in fault(other)


def test_one_slice_is_no_volume_and_other_files_are_no_series(tmp_path):
    assert "has one slice" in fault(write_series(tmp_path / "one", VOLUME[:, :, :1]))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("n" * 200)
    assert not is_series(tmp_path / "none") and not is_series(tmp_path / "one" / "IM0000.dcm")
    assert "no DICOM series" in fault(tmp_path / "none")


def test_colour_is_refused(tmp_path):
    folder = write_series(tmp_path / "s", np.stack([VOLUME] * 3, axis=-1))
    assert "IM0000.dcm is in colour" in fault(folder)


def test_a_fault_names_the_folder_and_says_what_to_do_once(tmp_path):
    folder = write_series(tmp_path / "s", VOLUME, heights=[0, 1, 2, 3, 5, 6, 7, 8])
    faults = []
    assert read_volume(str(folder), "image", faults) is None
    assert len(faults) == 1 and str(folder) in faults[0] and "IM0003.dcm" in faults[0]


def test_a_series_is_named_after_its_folder_dots_and_all(tmp_path):
    folder = write_series(tmp_path / "1.2.840.5", VOLUME)
    assert case_name(folder) == "1.2.840.5"
    (tmp_path / "empty").mkdir()
    assert list(find_series(tmp_path)) == ["1.2.840.5"]
    assert itk.size(read_series(folder)) == (6, 5, 8)
