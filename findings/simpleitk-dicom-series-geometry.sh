#!/usr/bin/env bash
# SimpleITK 2.5.7: a DICOM series with a missing slice, or of a tilted gantry, is read as a straight, even volume.
#
# Expected: what the files say of each slice's place, or an error: a volume of even slices cannot hold either.
# Seen: of six slices 2 mm apart without the third, five slices 2.5 mm apart, with a warning on stderr and no error; of
#     slices that go 0.6 mm aside for each 2 mm, a direction that is straight and a spacing of 2.088 mm, the way between
#     the corners, with no word. Half of the voxels of the first, and all but the first slice of the second, lie elsewhere.
# For users of 3D images: a registration or a segmentation of such a series is laid over the scan where the anatomy is not.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import math
import os
import sys

import numpy as np
import SimpleITK as sitk


def write(folder, heights, aside):
    """One file a slice, each with its place in the patient: (aside * height, 0, height) mm."""
    os.makedirs(folder)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, height in enumerate(heights):
        image = sitk.GetImageFromArray(np.full((1, 4, 4), number, dtype=np.int16))
        tags = {"0008|0060": "CT", "0020|000d": "1.2.9", "0020|000e": "1.2.1", "0008|0018": f"1.2.1.{number + 1}"}
        tags |= {"0020|0013": str(number + 1), "0020|0032": f"0\\{aside * height:.6f}\\{height}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(f"{folder}/{number}.dcm")
        writer.Execute(image)


def read(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    image = reader.Execute()
    last = image.TransformIndexToPhysicalPoint((0, 0, image.GetSize()[2] - 1))
    return image.GetSize()[2], image.GetSpacing()[2], image.GetDirection(), last


write("gap", [0, 2, 6, 8, 10], 0.0)
write("tilt", [0, 2, 4, 6, 8], 0.3)
print("SimpleITK", sitk.Version_VersionString())
found = [read("gap"), read("tilt")]
for name, (slices, spacing, direction, last) in zip(("a slice is missing", "tilted"), found):
    print(f"{name}: {slices} slices of {spacing:.3f} mm, direction {direction}, the last at {[round(x, 3) for x in last]}")
(_, gap, _, _), (_, tilt, direction, last) = found
straight = direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
as_stated = math.isclose(gap, 2.5) and math.isclose(tilt, 2 * math.hypot(1, 0.3), abs_tol=1e-3) and straight
sys.exit(0 if as_stated and abs(last[0]) < 1e-6 else 1)  # the last slice of the tilted series lies at x = 2.4 mm
PY
