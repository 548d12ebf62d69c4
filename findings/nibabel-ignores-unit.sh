#!/usr/bin/env bash
# nibabel 5.4.2 takes the numbers of a NIfTI in micrometres for millimetres; SimpleITK 2.5.7 (ITK) converts them.
#
# Expected: NIfTI-1 has a field for the unit of length (xyzt_units: metre, millimetre or micrometre), which applies to
#     pixdim and both forms; nibabel's pages on coordinate systems say that an affine leads to millimetres.
# Seen: the affine of a file in micrometres is a thousand times too large. header.get_xyzt_units() says "micron", the
#     affine and header.get_zooms() do not. ITK reads 0.05 mm.
# For users of 3D images: a volume of a small animal or specimen in micrometres is one of metres by nibabel and what
#     stands on it (MONAI's Spacing, distances, volumes), and does not lie on its copy that an ITK program wrote.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import nibabel as nib
import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version().VersionString(), "/ nibabel", nib.__version__)
image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.diag([50.0, 50, 50, 1]))
image.header.set_xyzt_units("micron")
image.set_sform(image.affine, 1)
image.set_qform(image.affine, 1)
image.to_filename("mouse.nii.gz")
print("a file of 50 micrometres a voxel; its unit:", nib.load("mouse.nii.gz").header.get_xyzt_units()[0])
by_nibabel = float(nib.load("mouse.nii.gz").affine[0, 0])
by_itk = sitk.ReadImage("mouse.nii.gz").GetSpacing()[0]
print(f"voxel size: nibabel {by_nibabel:g} mm, ITK {by_itk:g} mm; expected 0.05 mm")
sys.exit(0 if by_nibabel == 50 and abs(by_itk - 0.05) < 1e-6 else 1)
PY
