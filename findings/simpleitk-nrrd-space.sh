#!/usr/bin/env bash
# SimpleITK 2.5.7 (ITK 5.4) reads an NRRD of any space it does not know as one in LPS, without a warning.
#
# Expected: the definition of the format (field "space" of NRRD0004) has spaces that say how the patient lies, such as
#     right-anterior-superior, and those that do not: scanner-xyz, 3D-right-handed and 3D-left-handed. ITK's points are
#     LPS. It turns RAS and LAS into it; of the others a reader would have to be warned.
# Seen: they are read with the numbers of the header taken for LPS. Only the metadata NRRD_space has the true name, and
#     a NIfTI written from the image claims scanner coordinates (code 1) and has lost it.
# For users of 3D images: left and right, front and back of such a volume are a guess that looks like a fact; LPS is
#     right-handed, so that a 3D-left-handed volume becomes its mirror image.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY' 2>messages || status=$?
import sys

import nibabel as nib
import SimpleITK as sitk

print("SimpleITK", sitk.Version().VersionString())
found = {}
for space in ("left-posterior-superior", "right-anterior-superior", "scanner-xyz", "3D-right-handed", "3D-left-handed"):
    fields = ["NRRD0004", "type: uint8", "dimension: 3", f"space: {space}", "sizes: 2 2 2", "encoding: raw"]
    fields += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (10,20,30)", "", ""]
    with open("a.nrrd", "wb") as file:
        file.write("\n".join(fields).encode() + bytes(8))
    image = sitk.ReadImage("a.nrrd")
    sitk.WriteImage(image, "a.nii")
    code = int(nib.load("a.nii").header["sform_code"])
    found[space] = (image.GetOrigin(), image.GetDirection()[::4], code)
    print(f"{space}: LPS origin {found[space][0]}, axes {found[space][1]}; in NIfTI sform code {code}")
lps, ras, *others = found.values()
sys.exit(0 if ras[0] == (-10, -20, 30) and all(other == lps for other in others) and lps[2] == 1 else 1)
PY
echo "messages on the error stream: $(wc -l <messages)"
[ ! -s messages ] && exit "${status:-0}"
cat messages
exit 1
