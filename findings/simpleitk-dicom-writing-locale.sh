#!/usr/bin/env bash
# SimpleITK 2.5.7: writing a DICOM slice with its place sets the locale of the whole process to "C", and leaves it there.
#
# Expected: a writer of images leaves the process as it was.
# Seen: after one slice with "0020|0032" was written, locale.setlocale(LC_ALL) says "C" where it said C.UTF-8, and open() without an
#     encoding reads and writes ASCII: a text with "ü" can be read before and not after. NIfTI does not do it.
# For users of 3D images: in a program that exports a segmentation to DICOM and then reads a config or a table with a name
#     such as "Müller", the second fails, and only after the first.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6 || exit 2

LC_ALL=C.UTF-8 PYTHONUTF8=0 venv/bin/python - <<'PY'
import locale
import sys

import numpy as np
import SimpleITK as sitk

with open("names.txt", "w", encoding="utf-8") as file:
    file.write("Müller")


def state():
    try:
        with open("names.txt") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        text = type(error).__name__
    return locale.setlocale(locale.LC_ALL), text


image = sitk.GetImageFromArray(np.zeros((1, 4, 4), dtype=np.int16))
image.SetMetaData("0020|0032", "0\\0\\1")  # the place of a slice, without which the series has none
print("SimpleITK", sitk.Version_VersionString())
found = [state()]
for name in ("slice.nii.gz", "slice.dcm"):
    sitk.WriteImage(image, name)
    found.append(state())
for name, (of_process, text) in zip(("before", "after slice.nii.gz", "after slice.dcm"), found):
    print(f"{name}: locale {of_process!r}, names.txt read as {text!r}")
before, after_nifti, after_dicom = found
same = before == after_nifti and before[0] != "C" and before[1] == "Müller"
sys.exit(0 if same and after_dicom == ("C", "UnicodeDecodeError") else 1)
PY
