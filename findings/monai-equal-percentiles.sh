#!/usr/bin/env bash
# MONAI 1.6.1: ScaleIntensityRangePercentiles neither scales nor clips an image whose two percentiles are equal.
#
# Expected: its documentation says that the two percentiles go to [b_min, b_max], and that clip=True clips after that.
#     Whatever the percentiles are, a clipped image lies within [b_min, b_max].
# Seen: the image comes back less the percentile, plus b_min: b_max and clip are passed over. The only word is a
#     warning "Divide by zero (a_min == a_max)", which Python shows once for all images.
# For users of 3D images: so it is where nearly all voxels have one value, as around a vessel tree, a masked organ or
#     in an angiogram; of 100 images these alone reach the network in raw units, here 1000 instead of 1.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys
import warnings

import monai
import torch
from monai.transforms import ScaleIntensityRangePercentiles

print("MONAI", monai.__version__, "/ PyTorch", torch.__version__)
warnings.simplefilter("ignore")
scale = ScaleIntensityRangePercentiles(lower=1, upper=99, b_min=-1, b_max=1, clip=True)
found = {}
for share in (0.05, 0.005):
    image = torch.zeros(1, 40, 40, 40)
    image.view(-1)[: int(share * image.numel())] = 1000
    scaled = scale(image)
    found[share] = (float(scaled.min()), float(scaled.max()))
    print(f"1000 in {share:.1%} of all voxels, 0 elsewhere: scaled to {found[share]}; expected within (-1, 1)")
sys.exit(0 if found == {0.05: (-1, 1), 0.005: (-1, 999)} else 1)
PY
