#!/usr/bin/env bash
# torch 2.13.0, CPU with AVX-512 bf16: the weight gradient of a 3^3 convolution in bfloat16 holds memory that nobody wrote,
# where the first axis of the volume has two voxels.
#
# Expected: a gradient that depends on input, weights and the gradient of the output alone.
# Seen: after other tensors of NaN were freed, NaN in the gradient of the weights, for volumes of (2, 2, 2) and (2, 4, 4)
#     at nearly every try, also of a transposed convolution; never for (3, 2, 2) or (4, 4, 2), with a stride of 2, in
#     float32, or in the input's gradient.
# For users of 3D images: the bottom of a U-Net of four strides has two voxels for a volume of 32. Training in bfloat16 on
#     such a processor ends in NaN at random, depending on what the process freed before.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up (a processor without these instructions).
set -euo pipefail
grep -q avx512_bf16 /proc/cpuinfo || { echo "needs a processor with avx512_bf16"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 || exit 2

venv/bin/python -W ignore - <<'PY'
import sys

import torch
import torch.nn.functional as F

print("torch", torch.__version__, "/", torch.backends.cpu.get_cpu_capability())
torch.set_num_threads(1)
torch.manual_seed(0)
TRIES = 6


def faults(shape, stride, dtype, convolve=F.conv3d):
    """At how many of the tries a number of the gradients of weights, and of the input, is none."""
    of_weight = of_input = 0
    for _ in range(TRIES):
        image = torch.randn(1, 32, *(stride * side for side in shape), dtype=dtype, requires_grad=True)
        weight = torch.randn(32, 32, 3, 3, 3, dtype=dtype, requires_grad=True)
        out = convolve(image, weight, padding=1, stride=stride)
        used = [torch.full((size,), float("nan")) for size in (64, 512, 4096, 27648, 200000, 500000) for _ in range(4)]
        del used
        grads = torch.autograd.grad(out, (image, weight), torch.ones_like(out))
        of_input += not torch.isfinite(grads[0]).all()
        of_weight += not torch.isfinite(grads[1]).all()
    return of_weight, of_input


bf16, fp32 = torch.bfloat16, torch.float32
cases = {
    ((2, 2, 2), 1, bf16): True,
    ((2, 4, 4), 1, bf16): True,
    ((3, 2, 2), 1, bf16): False,
    ((4, 4, 2), 1, bf16): False,
    ((2, 2, 2), 2, bf16): False,
    ((2, 4, 4), 1, bf16, F.conv_transpose3d): True,
    ((3, 4, 4), 1, bf16, F.conv_transpose3d): False,
    ((2, 2, 2), 1, fp32): False,
}
found = {case: faults(*case) for case in cases}
for (shape, stride, dtype, *transposed), (of_weight, of_input) in found.items():
    print(f"{shape}, stride {stride}, {dtype}{', transposed' if transposed else ''}: NaN in the weights' gradient {of_weight}, in the input's {of_input} of {TRIES}")
sys.exit(0 if all((of_weight > 0) == cases[case] and not of_input for case, (of_weight, of_input) in found.items()) else 1)
PY
