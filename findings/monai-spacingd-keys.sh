#!/usr/bin/env bash
# MONAI 1.6.1: Spacingd fails if the data have a key that begins with the image's and "_", such as image_path.
#
# Expected: documented are the image's metadata under KEY_ and a postfix; of all else its documentation says that it
#     is returned as it was. Orientationd, Zoomd and others take the same data.
# Seen: for an image from a NIfTI file it calls .update() on every entry of such a name, text or volume: an
#     AttributeError. The same pair under the names fixed and moving passes.
# For users of 3D images: {fixed, fixed_label} or {image, image_path}, which MONAI Label sends to every model, cannot
#     be resampled to one voxel size; the error names neither the key nor the reason.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 nibabel==5.4.2 || exit 2

venv/bin/python - <<'PY'
import sys

import monai
import nibabel as nib
import numpy as np
from monai.transforms import LoadImaged, Spacingd

print("MONAI", monai.__version__, "/ nibabel", nib.__version__)
nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_filename("a.nii.gz")
found = []
for others in (("image", "label"), ("image", "image_path"), ("fixed", "moving"), ("fixed", "fixed_label")):
    keys = [key for key in others if not key.endswith("_path")]
    data = LoadImaged(keys, ensure_channel_first=True)(dict.fromkeys(others, "a.nii.gz"))
    try:
        said = f"resampled to {tuple(Spacingd(keys, (2, 2, 2))(data)[keys[0]].shape)}"
    except AttributeError as error:
        said = f"AttributeError: {error}"
    found.append("update" in said)
    print(f"{others}: {said}")
sys.exit(0 if found == [False, True, False, True] else 1)
PY
