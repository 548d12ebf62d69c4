# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What a step costs, counted: arithmetic, operations, launches, bytes; and what the machine could do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.costs.memory import Kept

#: what the CUDA driver is asked for when work is handed to the device
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")


class _Operations(TorchDispatchMode):
    """Counts the operations of ATen that reach a backend, forward, backward and optimiser alike."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Counts(ExitStack):
    """Counts what runs while it is entered.

    Arithmetic is that of matrix products and convolutions, a multiplication and an addition being two. Bytes are those
    that have to move even where everything else is fused: what is kept for the backward pass, written once and read
    once; and of each trained parameter its value and gradient, written and read once by the optimiser, and so its
    moments. Forward passes without gradients come on top.

    Args:
        optimizers: of what is trained.
    """

    def __init__(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        super().__init__()
        self.optimizers = list(optimizers)

    def __enter__(self) -> Counts:
        super().__enter__()
        self._flops = self.enter_context(FlopCounterMode(display=False))
        self._operations = self.enter_context(_Operations())
        self._kept = self.enter_context(Kept())
        return self

    def results(self) -> dict[str, int]:
        """``flops``, ``aten_ops`` and ``bytes_at_least``."""
        parameters = [p for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]]
        moments = [
            value for optimizer in self.optimizers for state in optimizer.state.values() for value in state.values()
        ]
        moments = [value for value in moments if isinstance(value, torch.Tensor)]
        return {
            "flops": self._flops.get_total_flops(),
            "aten_ops": self._operations.count,
            "bytes_at_least": 2 * self._kept.total + 4 * _bytes(parameters) + 2 * _bytes(moments),
        }


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Launches(profile):
    """Counts what a CUDA device is given to do while it is entered."""

    def __init__(self) -> None:
        super().__init__(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    def results(self) -> dict[str, float]:
        """``launches``, a graph being one; ``kernels`` and copies on the device; ``kernels_ms``, their times' sum."""
        events = self.events()
        kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation]
        return {
            "launches": sum(event.name.startswith(LAUNCHES) for event in events),
            "kernels": len(kernels),
            "kernels_ms": sum(event.device_time_total for event in kernels) / 1e3,
        }


def peaks(device: str, side: int | None = None, repeats: int = 7) -> dict[str, float]:
    """Measure what the machine can do: the best of some tries.

    Args:
        device: "cpu" or "cuda".
        side: voxels of a side of the volume; 32 on a CPU, else 128.
        repeats: tries.

    Returns:
        ``flops_per_s`` of a convolution of 64 by 64 channels, 3 x 3 x 3, in channels_last, the better of bfloat16 and
        float32; and ``bytes_per_s``, read and written, of a copy.
    """
    side = side or (32 if device == "cpu" else 128)
    flops = 2 * 64 * 64 * 27 * side**3
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        layout = {"device": device, "dtype": dtype, "memory_format": torch.channels_last_3d}
        conv = torch.nn.Conv3d(64, 64, 3, padding=1, bias=False).to(**layout)
        image = torch.rand(1, 64, side, side, side).to(**layout)
        # what a training asks for, to be repeatable, is not what the machine can do
        with torch.no_grad(), torch.backends.cudnn.flags(benchmark=True, deterministic=False, allow_tf32=True):
            seconds.append(_best(lambda conv=conv, image=image: conv(image), repeats, device))
    source = torch.zeros(2**26 if device == "cpu" else 2**28, device=device)
    target = torch.empty_like(source)
    copying = _best(lambda: target.copy_(source), repeats, device)
    return {"flops_per_s": flops / min(seconds), "bytes_per_s": 2 * _bytes([source]) / copying}


def _best(run: Callable[[], object], repeats: int, device: str) -> float:
    tries = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        tries.append(time.perf_counter() - start)
    return min(tries[1:])
