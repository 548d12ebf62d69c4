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
"""Fields of other programs: each is what its header says it is, or is refused by its name."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from geometries import OBLIQUE, smooth_field

from scripts.fields.grids import lps_to_ras, voxel_points
from scripts.fields.transform_files import read_transform, write_displacement
from scripts.fields.transforms import Chain

GRID, SHAPE = OBLIQUE[0], (20, 24, 18)
LPS = smooth_field(SHAPE).permute(1, 2, 3, 0).double()  # mm
RAS = lps_to_ras(LPS)
PLACES = voxel_points(SHAPE, GRID)  # RAS mm


def field(path, vectors, code=1007, name="", p1=0.0, descrip="", grid=GRID):
    file = nib.Nifti1Image(np.asarray(vectors, np.float32)[:, :, :, None], np.asarray(grid))
    file.set_qform(file.affine, 1)
    file.set_sform(file.affine, 1)
    file.header.set_intent(code, (), name=name)
    file.header["intent_p1"], file.header["descrip"] = p1, descrip
    nib.save(file, path)
    return path


def moved(path):
    """Where some points (N, 3), RAS mm, go, by the only step of a file."""
    points = PLACES[2:-2:5, 2:-2:5, 2:-2:5].reshape(-1, 3)
    return Chain(read_transform(path))(points)


@pytest.mark.parametrize(
    ("vectors", "options"),
    [
        (LPS, {}),
        (RAS, {"code": 1006}),
        (RAS, {"name": "NREG_TRANS", "p1": 1}),
        (PLACES + RAS, {"name": "NREG_TRANS", "p1": 0}),
        (PLACES + RAS, {"name": "Mapping", "descrip": "Deformation field"}),
    ],
    ids=["ITK", "ITK 1006", "NiftyReg displacement", "NiftyReg deformation", "SPM"],
)
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_the_vectors_are_what_the_header_says(vectors, options, suffix, tmp_path):
    (step,) = read_transform(field(tmp_path / f"y.{suffix}", vectors, **options))
    torch.testing.assert_close(step.displacement.double(), LPS, atol=2e-4, rtol=0)
    expected = (PLACES + RAS)[2:-2:5, 2:-2:5, 2:-2:5].reshape(-1, 3)
    torch.testing.assert_close(moved(tmp_path / f"y.{suffix}"), expected, atol=2e-4, rtol=0)


def test_a_field_of_niftyreg_moves_points_as_the_same_field_written_for_itk(tmp_path):
    field(tmp_path / "nreg.nii.gz", PLACES + RAS, name="NREG_TRANS")
    write_displacement(tmp_path / "itk.nii.gz", LPS.float(), GRID)
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "itk.nii.gz"), sitk.sitkVectorFloat64))
    point = PLACES[9, 11, 7]
    theirs = np.array(transform.TransformPoint((point * torch.tensor([-1, -1, 1])).tolist())) * [-1, -1, 1]
    (step,) = read_transform(tmp_path / "nreg.nii.gz")
    np.testing.assert_allclose(step(point[None])[0], theirs, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "NREG_TRANS", "p1": 2}, r"grid of cubic splines of NiftyReg .*intent_p1 2.*reg_transform"),
        ({"name": "NREG_TRANS", "p1": 3}, "velocity field of NiftyReg"),
        ({"name": "NREG_TRANS", "p1": 5}, "velocity grid of splines of NiftyReg"),
        ({"name": "NREG_CPP_FILE"}, "transform of an early version of NiftyReg"),
        ({"code": 2006}, r"displacement field of FSL's fnirt \(intent code 2006\).*-from-fnirt"),
        ({"code": 2007}, "spline coefficients of FSL's fnirt"),
        ({"code": 2018}, "field of FSL's topup"),
        ({"code": 1005}, "intent code is 1005, expected 1007"),
        ({"name": "MeshWarp"}, r"calls its vectors 'MeshWarp' \(NIfTI intent name\)"),
        ({"descrip": "Velocity field"}, r"calls itself 'Velocity field' \(NIfTI descrip\): a velocity"),
        ({"descrip": "Flow Field"}, "a flow field is no displacement field"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(options, words, tmp_path):
    with pytest.raises(ValueError, match=rf"'w\.nii\.gz'.*{words}"):
        read_transform(field(tmp_path / "w.nii.gz", LPS, **options))


@pytest.mark.parametrize(("code", "program"), [("afni", "AFNI"), ("freesurfer", "FreeSurfer")])
def test_an_extension_of_another_program_is_refused(code, program, tmp_path):
    path = field(tmp_path / "w.nii.gz", LPS)
    file = nib.load(path)
    file.header.extensions.append(nib.nifti1.Nifti1Extension(code, b"warp"))
    nib.save(nib.Nifti1Image(file.get_fdata(dtype=np.float32), None, file.header), tmp_path / "ext.nii.gz")
    with pytest.raises(ValueError, match=f"is of {program} by the extension of its header"):
        read_transform(tmp_path / "ext.nii.gz")


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
def test_positions_that_nothing_names_are_known_by_their_range(system, suffix, tmp_path):
    positions = PLACES + RAS if system == "RAS" else lps_to_ras(PLACES) + LPS
    path = field(tmp_path / "y.nii.gz", positions)
    if suffix != "nii.gz":
        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / f"y.{suffix}"))
    with pytest.raises(ValueError, match=f"holds positions, {system} mm by their range"):
        read_transform(tmp_path / f"y.{suffix}")


def test_a_large_but_smooth_displacement_is_no_position(tmp_path):
    stretched = LPS + 0.4 * lps_to_ras(PLACES - PLACES[10, 12, 9])  # 40 % larger
    (step,) = read_transform(field(tmp_path / "w.nii.gz", stretched))
    torch.testing.assert_close(step.displacement.double(), stretched, atol=1e-4, rtol=0)


def test_the_named_field_is_read_whatever_lies_beside_it(tmp_path):
    field(tmp_path / "w.nii", LPS + 8)
    (step,) = read_transform(field(tmp_path / "w.nii.gz", LPS))
    torch.testing.assert_close(step.displacement.double(), LPS, atol=1e-5, rtol=0)


def test_a_field_in_another_shape_or_unit_is_refused(tmp_path):
    file = nib.Nifti1Image(LPS.float().numpy(), np.asarray(GRID))
    file.header.set_intent(1007)
    nib.save(file, tmp_path / "four.nii.gz")
    with pytest.raises(ValueError, match=r"shape \(X, Y, Z, 1, 3\), found \(20, 24, 18, 3\)"):
        read_transform(tmp_path / "four.nii.gz")
    file = nib.load(field(tmp_path / "w.nii.gz", LPS))
    file.header.set_xyzt_units("micron")
    nib.save(nib.Nifti1Image(file.get_fdata(dtype=np.float32), None, file.header), tmp_path / "micron.nii.gz")
    with pytest.raises(ValueError, match=r"its unit is the micrometre"):
        read_transform(tmp_path / "micron.nii.gz")


def test_a_nifti_field_with_nan_is_refused(tmp_path):
    broken = LPS.clone()
    broken[3, 4, 5, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        read_transform(field(tmp_path / "w.nii.gz", broken))


def nrrd_field(path, extra):
    head = (
        f"NRRD0005\ntype: float\ndimension: 4\nsizes: 3 4 5 6\nkinds: vector domain domain domain\n{extra}"
        "space directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n"
    )
    path.write_bytes(head.encode() + np.tile(np.float32([1, 2, 3]), 120).astype("<f4").tobytes())
    return path


def test_an_nrrd_field_in_lps_is_taken_and_its_frame_may_be_the_identity(tmp_path):
    for extra in ("space: LPS\n", "space: LPS\nmeasurement frame: (1,0,0) (0,1,0) (0,0,1)\n"):
        (step,) = read_transform(nrrd_field(tmp_path / "w.nrrd", extra))
        assert (step.displacement == torch.tensor([1.0, 2, 3])).all() and step.displacement.shape == (4, 5, 6, 3)


@pytest.mark.parametrize(
    "extra", ["space: RAS\n", "space: LAS\n", "space: LPS\nmeasurement frame: (-1,0,0) (0,-1,0) (0,0,1)\n"]
)
def test_an_nrrd_field_whose_vectors_itk_would_not_turn_is_refused(extra, tmp_path):
    with pytest.raises(ValueError, match=r"ITK turns its grid, and not its vectors"):
        read_transform(nrrd_field(tmp_path / "w.nrrd", extra))


@pytest.mark.parametrize("name", ["affine.txt", "flirt.mat"])
def test_a_bare_matrix_is_refused_with_the_way_out(name, tmp_path):
    np.savetxt(tmp_path / name, np.eye(4))
    with pytest.raises(ValueError, match=r"bare 4x4 matrix: NiftyReg's.*FSL's flirt.*c3d_affine_tool"):
        read_transform(tmp_path / name)
