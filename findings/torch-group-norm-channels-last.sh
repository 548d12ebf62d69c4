#!/usr/bin/env bash
# torch 2.13.0, CPU: group norm with a group for each channel takes many times as long where a volume lies channels last.
#
# Expected: about as long as of the same volume in the usual layout; a copy between the two takes a few milliseconds.
# Seen: in bfloat16 more than eight times as long for 16 channels of 64 x 48 x 64 voxels, forward and backward; to copy,
#     normalise in the usual layout, and copy back is faster.
# For users of 3D images: channels last is what makes convolutions of few channels fast on a processor, and instance norm is
#     a group norm of single channels. A U-Net of both is slower than one of neither.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6 || exit 2

venv/bin/python -W ignore - <<'PY'
import statistics
import sys
import time

import torch
import torch.nn.functional as F

print("torch", torch.__version__, "/", torch.backends.cpu.get_cpu_capability())
torch.set_num_threads(1)
volume = torch.randn(2, 16, 64, 48, 64).bfloat16()
layouts = {"usual": torch.contiguous_format, "channels last": torch.channels_last_3d}


def normalise(image, copies):
    if not copies:
        return F.group_norm(image, 16)
    return F.group_norm(image.contiguous(), 16).contiguous(memory_format=torch.channels_last_3d)


ways = {"usual": ("usual", False), "channels last": ("channels last", False), "copied there and back": ("channels last", True)}
seconds = {way: [] for way in ways}
for _ in range(9):
    for way, (layout, copies) in ways.items():
        image = volume.contiguous(memory_format=layouts[layout]).requires_grad_()
        start = time.thread_time()
        out = normalise(image, copies)
        torch.autograd.grad(out, image, torch.ones_like(out))
        seconds[way].append(time.thread_time() - start)
medians = {way: statistics.median(values[1:]) for way, values in seconds.items()}
for way, value in medians.items():
    print(f"{way}: {1e3 * value:.1f} ms, {value / medians['usual']:.1f} times the usual layout")
slow = medians["channels last"] > 8 * medians["usual"] and medians["channels last"] > 2 * medians["copied there and back"]
sys.exit(0 if slow else 1)
PY
