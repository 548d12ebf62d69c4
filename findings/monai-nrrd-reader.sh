#!/usr/bin/env bash
# MONAI 1.6.1 (pynrrd 1.1.3, itk 5.4.7): LoadImage mirrors an NRRD in LAS as soon as pynrrd is installed.
#
# Expected: the affine of a loaded image leads to RAS, by whichever reader: NrrdReader documents its affine_lps_to_ras
#     (on by default) as what makes it agree with NibabelReader.
# Seen: with pynrrd NrrdReader is taken, which turns only "left-posterior-superior" into RAS. The numbers of
#     left-anterior-superior, and of "LPS" (the same space by its other name), are kept as if they were RAS. ITKReader,
#     which reads the file without pynrrd, is right. Nothing is said; SaveImage writes the wrong place into the NIfTI.
# For users of 3D images: left and right of a volume change with a package that another program brings along.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 nibabel==5.4.2 itk-io==5.4.7 || exit 2

cat >load.py <<'PY'
import sys

import monai
import nibabel as nib
from monai.transforms import LoadImage, SaveImage

AXES = {"left-posterior-superior": "LPS", "right-anterior-superior": "RAS"}
AXES |= {"left-anterior-superior": "LAS", "LPS": "LPS"}
wrong = []
for space, axes in AXES.items():
    fields = ["NRRD0004", "type: uint8", "dimension: 3", f"space: {space}", "sizes: 2 2 2", "encoding: raw"]
    fields += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (10,20,30)", "", ""]
    with open("a.nrrd", "wb") as file:
        file.write("\n".join(fields).encode() + bytes(8))
    image = LoadImage(ensure_channel_first=True)("a.nrrd")
    SaveImage(output_dir=".", output_postfix="saved", separate_folder=False, print_log=False)(image)
    found = "".join(nib.aff2axcodes(nib.load("a_saved.nii.gz").affine))
    print(f"  space {space}: axes towards {axes}, after LoadImage and SaveImage {found}")
    wrong += [space] * (found != axes)
sys.exit(0 if wrong == sys.argv[1:] else 1)
PY
venv/bin/pip list 2>/dev/null | grep -iE '^(monai|itk-io) '
echo "without pynrrd:"
venv/bin/python load.py
venv/bin/pip install -qq --disable-pip-version-check pynrrd==1.1.3 || exit 2
echo "with pynrrd 1.1.3:"
venv/bin/python load.py left-anterior-superior LPS
