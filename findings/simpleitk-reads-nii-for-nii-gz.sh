#!/usr/bin/env bash
# SimpleITK 2.5.7 (ITK 5.4): asked for w.nii.gz, it reads w.nii if that lies beside it.
#
# Expected: ReadImage(name) reads the file of that name, or fails. Nothing in its documentation says otherwise.
# Seen: ReadImage("w.nii.gz") returns the voxels of w.nii, without a warning. nibabel 5.4.2 reads each by its name.
# For users of 3D images: whoever unpacks a volume and works on the copy, or keeps two versions of a label so, gets
#     the other file under the name of the first; shape and spacing as a rule agree, so nothing shows it.
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
for name, value in (("w.nii.gz", 1), ("w.nii", 2)):
    nib.Nifti1Image(np.full((4, 4, 4), value, np.int16), np.eye(4)).to_filename(name)
    print(f"every voxel of {name} is {value}")
by_itk = int(sitk.GetArrayFromImage(sitk.ReadImage("w.nii.gz")).max())
by_nibabel = int(nib.load("w.nii.gz").get_fdata().max())
print(f"read from w.nii.gz: SimpleITK {by_itk}, nibabel {by_nibabel}; expected 1")
sys.exit(0 if (by_itk, by_nibabel) == (2, 1) else 1)
PY
