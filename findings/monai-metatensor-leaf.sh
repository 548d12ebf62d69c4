#!/usr/bin/env bash
# MONAI 1.6.1: zeros_like, ones_like, rand_like and new_zeros of a MetaTensor with requires_grad=True give no leaf.
#
# Expected: as of a tensor, a leaf: its gradient is kept, and an optimiser takes it.
# Seen: a MetaTensor that requires a gradient and is no leaf. Adam refuses it; after backward() its grad is None, with a
#     warning at most. With requires_grad_() on the result it is a leaf.
# For users of 3D images: MONAI's loaders give MetaTensors. A displacement or velocity that is made "like" an image, to be
#     optimised for that pair, does not move, or fails with a message that names no MetaTensor.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 || exit 2

venv/bin/python -W ignore - <<'PY'
import sys

import monai
import torch
from monai.data import MetaTensor

print("MONAI", monai.__version__, "/ torch", torch.__version__)
image, plain = MetaTensor(torch.rand(1, 4, 4, 4)), torch.rand(1, 4, 4, 4)
makers = {
    "zeros_like(x, requires_grad=True)": lambda x: torch.zeros_like(x, requires_grad=True),
    "ones_like(x, requires_grad=True)": lambda x: torch.ones_like(x, requires_grad=True),
    "rand_like(x, requires_grad=True)": lambda x: torch.rand_like(x, requires_grad=True),
    "x.new_zeros(3, requires_grad=True)": lambda x: x.new_zeros(3, requires_grad=True),
    "zeros_like(x).requires_grad_()": lambda x: torch.zeros_like(x).requires_grad_(),
}
found = []
for name, make in makers.items():
    of_tensor, of_image = make(plain), make(image)
    (of_image * 2).sum().backward()
    try:
        torch.optim.Adam([of_image])
        said = "taken"
    except ValueError as error:
        said = str(error)
    found.append((of_tensor.is_leaf, of_image.is_leaf, of_image.grad is not None, said == "taken"))
    print(f"{name}: a leaf of a tensor {of_tensor.is_leaf}, of an image {of_image.is_leaf}; Adam: {said}")
sys.exit(0 if found == [(True, False, False, False)] * 4 + [(True, True, True, True)] else 1)
PY
