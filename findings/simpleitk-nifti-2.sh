#!/usr/bin/env bash
# SimpleITK 2.5.7 (ITK 5.4) cannot read a NIfTI-2 file; what it says is that it knows no reader for "a.nii.gz".
#
# Expected: its table of formats lists NIfTI with .nii and .nii.gz and names no version; NIfTI-2 (2011) has the same
#     suffixes, and nibabel 5.4.2 reads and writes it.
# Seen: an error that neither names the version nor tells the file from a damaged one.
# For users of 3D images: NIfTI-2 is what holds more than 32767 voxels along an axis, and some pipelines write it
#     for all. Such a file opens in nibabel and MONAI, and in no ITK program (SimpleITK, ANTs, elastix, Slicer).
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
said = {}
for version, kind in ((1, nib.Nifti1Image), (2, nib.Nifti2Image)):
    for name in ("a.nii", "a.nii.gz"):
        kind(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(f"{version}{name}")
        read = nib.load(f"{version}{name}").shape
        try:
            said[version, name] = f"read, {sitk.ReadImage(f'{version}{name}').GetSize()}"
        except RuntimeError as error:
            said[version, name] = str(error).splitlines()[-1].replace("sitk::ERROR: ", "")
        print(f"NIfTI-{version} {name}: nibabel {read}, SimpleITK: {said[version, name]}")
refused = {version for (version, _), words in said.items() if words.startswith("Unable to determine ImageIO reader")}
sys.exit(0 if refused == {2} else 1)
PY
