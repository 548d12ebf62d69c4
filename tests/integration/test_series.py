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
"""A DICOM series is segmented and registered as the NIfTI of the same voxels is; one with a gap is left out by name."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import names_in, workflow
from dicom_files import SPACING, affine_of_series, write_series
from test_inference import IDS, infer, layers

import deeprs
from scripts.files.errors import root_cause
from scripts.files.output_folder import stamps
from scripts.phantom.volumes import phantom_subject

TURN = np.radians(15)
AXES = ((np.cos(TURN), 0, -np.sin(TURN)), (0, 1, 0))
ORIGIN = (-20.0, -30.0, 12.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two subjects as series, and as NIfTI with the affine that the series are to have."""
    folder, size = tmp_path_factory.mktemp("pair"), (3.0, 3.2)
    for seed, name in enumerate(("moving", "fixed")):
        image = phantom_subject(seed, shape=(32, 30, 20), spacing=(3, 3.2, 4), orientation="LPS", tilt=0).image
        image = np.round(image).astype(np.int16)
        write_series(folder / name, image, heights=[4.0 * n for n in range(20)], axes=AXES, spacing=size)
        affine = affine_of_series(AXES, (-10.0, 20.0, -30.0), size, 4.0)
        nib.save(nib.Nifti1Image(image, affine), folder / f"{name}.nii.gz")
    return folder


def test_series_are_segmented_into_niftis_on_their_grids_and_one_with_a_gap_is_named(tmp_path):
    classes = layers((22, 26, 20))
    for name in ("good", "torn"):
        write_series(tmp_path / "in" / name, 80 * classes, axes=AXES, origin=ORIGIN)
    (tmp_path / "in" / "torn" / "IM0007.dcm").unlink()
    with pytest.raises(Exception) as stopped:
        infer(tmp_path / "in", tmp_path / "out")
    message = str(root_cause(stopped.value))
    assert "1 of 2 images could not be segmented" in message and "'torn'" in message and "IM0006.dcm" in message
    assert names_in(tmp_path / "out") == {"good_seg.nii.gz", "review.csv"}
    label = nib.load(tmp_path / "out" / "good_seg.nii.gz")
    np.testing.assert_allclose(label.affine, affine_of_series(AXES, ORIGIN, SPACING), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(label.dataobj), np.array([0, *IDS])[classes])


def test_one_series_is_segmented_alone_and_named_after_its_folder(tmp_path):
    write_series(tmp_path / "1.2.840", 80 * layers((22, 26, 20)))
    assert [path.name for path in infer(tmp_path / "1.2.840", tmp_path / "out")] == ["1.2.840_seg.nii.gz"]


def test_from_python_a_series_has_the_label_map_of_its_nifti(pair):
    series, nifti = (deeprs.segment(pair / name, copies=0) for name in ("fixed", "fixed.nii.gz"))
    np.testing.assert_array_equal(series.array, nifti.array)
    np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-4)
    with pytest.raises(FileNotFoundError, match="or folder of a DICOM series"):
        deeprs.segment(pair)


def test_registering_series_writes_what_their_niftis_give(pair, tmp_path):
    written = {}
    for ending in ("", ".nii.gz"):
        out = tmp_path / f"out{ending}"
        paths = {name: f"{pair / name}{ending}" for name in ("moving", "fixed")}
        with workflow(
            ["register.yaml"], "infer", properties_path=None, output_dir=str(out), refine=0, **paths
        ) as registering:
            registering.run()
        assert {"moving_to_fixed_warp.nii.gz", "warped.nii.gz", "picture.png"} <= names_in(out)
        written[ending] = [nib.load(out / name) for name in ("warped.nii.gz", "moving_to_fixed_warp.nii.gz")]
    # fields are rounded to a 4096th of a voxel, across which the image changes by 600 at most; they are in mm. ITK
    # reads a series in float32, of which the warped image stays; that of a NIfTI in int16 is of whole numbers
    for one, other, within in zip(*written.values(), (0.5 + 600 / 4096, 0.02), strict=True):
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
        np.testing.assert_allclose(one.get_fdata(), other.get_fdata(), atol=within)


def test_registering_refuses_a_tilted_series_by_the_option(pair, tmp_path):
    moving = write_series(tmp_path / "tilted", np.arange(60).reshape(4, 5, 3), aside=0.2)
    with pytest.raises(ValueError, match=f"--moving '{moving}': .*11.3 degrees"):
        deeprs.register(moving, pair / "fixed")


def test_a_run_that_goes_on_notices_a_slice_that_was_replaced(pair, tmp_path):
    folder = shutil.copytree(pair / "fixed", tmp_path / "fixed")
    before = stamps([folder])
    assert before == stamps([folder]) and len(before) == 20
    (folder / "IM0003.dcm").write_bytes(b"another")
    assert before != stamps([folder])
