#!/usr/bin/env bash
# MONAI 1.6.1: LocalNormalizedCrossCorrelationLoss leaves its range [-1, 0] by eleven orders of magnitude.
#
# Expected: its documentation gives a range of about [-1, 0], of whatever images: correlation does not depend on their
#     brightness, so no range of intensity is asked for.
# Seen: with a flat region of a large value (-1000.7 HU, air of a resampled CT) the loss of float32 images is -2e11,
#     whereas float64 gives -0.35. Sums of squares cancel, and the rounding is divided by a variance of almost 0.
# For users of 3D images: CT in Hounsfield units, or MR with an offset, gives a loss of rounding only, of which the
#     minimum has nothing to do with alignment. It comes and goes with the value: at -1000.0 all is well.
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

import monai
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

print("MONAI", monai.__version__, "/ PyTorch", torch.__version__)
loss = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=3)
found = {}
for air in (-1000.0, -1000.7):
    image = torch.full((1, 1, 32, 32, 32), air)
    image[:, :, 8:24, 8:24, 8:24] = 40 + 20 * torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    found[air] = (float(loss(image, image)), float(loss(image.double(), image.double())))
    print(f"soft tissue in air of {air} HU, with itself: float32 {found[air][0]:.4g}, float64 {found[air][1]:.4g}")
sys.exit(0 if found[-1000.7][0] < -1e6 and -1 <= found[-1000.7][1] <= 0 and -1 <= found[-1000.0][0] <= 0 else 1)
PY
