#!/usr/bin/env bash
# MONAI 1.6.1: VoxelMorph(half_res=True) integrates another velocity than the one it is given.
#
# Expected: documented is that the velocity is integrated at half resolution, which costs accuracy only. On a grid half
#     as fine a vector of 2 voxels is one of 1 voxel: vectors are halved on the way down, and doubled on the way up. A
#     velocity a * x, integrated over unit time, is a displacement (exp(a) - 1) * x; here a = -0.3, so -0.259 * x.
# Seen: vectors are doubled on the way down and halved on the way up: -0.173 * x, not -0.259 * x. With half_res=False,
#     or with the factors the other way round, it is right.
# For users of 3D images: four times the velocity is integrated, and a quarter of the result used. Fields fold earlier
#     than they should, and weights carry over neither to half_res=False nor to other implementations.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY' 2>messages || { status=$?; cat messages; exit "$status"; }
import sys

import monai
import torch
import torch.nn.functional as F
from monai.networks.blocks import DVF2DDF
from monai.networks.nets import VoxelMorph

print("MONAI", monai.__version__, "/ PyTorch", torch.__version__)
a, size = -0.3, 48
x = torch.arange(size) - (size - 1) / 2
velocity = torch.zeros(1, 3, size, size, size)
velocity[0, 0] = a * x[:, None, None]


class Given(torch.nn.Module):
    def forward(self, images):
        return velocity


def slope(ddf):
    line = ddf[0, 0, :, size // 2, size // 2]
    return round(float(line[30] - line[17]) / 13, 3)


def scaled(field, factor):
    return F.interpolate(field * factor, scale_factor=factor, mode="trilinear", align_corners=True)


image = torch.zeros(1, 1, size, size, size)
exact = round(float(torch.tensor(a).exp() - 1), 3)
full, half = (slope(VoxelMorph(Given(), 7, half_res)(image, image)[1]) for half_res in (False, True))
right = slope(scaled(DVF2DDF(7)(scaled(velocity, 0.5)), 2.0))
print(f"slope of the displacement: exact {exact}, half_res=False {full}, half_res=True {half}, right factors {right}")
sys.exit(0 if abs(full - exact) < 0.01 and abs(right - exact) < 0.01 and abs(half - exact) > 0.05 else 1)
PY
