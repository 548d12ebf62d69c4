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
"""The last line of a failed run is what went wrong, not where in the config parser it was noticed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

import torch

OUT_OF_MEMORY = (
    "There was not enough memory. What helps: networks in bfloat16 (`run/bf16.yaml`), a smaller `spatial_size` or a "
    "larger `pixdim`, R at half resolution (`run/low_memory.yaml`), and to do without `run/fused.yaml`. What each of "
    'them saves is in docs/configs.md, "Out of memory".'
)


def root_cause(error: BaseException) -> BaseException:
    """The error that began a chain: the first that this bundle raised itself, else the innermost."""
    while error.__cause__ is not None and not is_ours(error):
        error = error.__cause__
    return error


def is_ours(error: BaseException) -> bool:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and Path(__file__).parents[1] in Path(traceback.tb_frame.f_code.co_filename).parents


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device; PyTorch has no class of its own for that of the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def show_cause_last() -> None:
    """Make the interpreter end a traceback with the error that began it, and with what to do when memory ran out.

    MONAI evaluates a config inside several layers, each of which wraps what the one below raised. The message for the
    user is that of the innermost error; without this it stands far up, in the middle of the parser's frames.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, traceback)
        cause = root_cause(error)
        if cause is not error:
            sys.stderr.write(f"\n{type(cause).__name__}: {cause}\n")
        if is_out_of_memory(cause):
            sys.stderr.write(f"\n{OUT_OF_MEMORY}\n")

    sys.excepthook = hook
