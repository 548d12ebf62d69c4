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
"""Networks that ``torch.compile`` has made kernels for."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)


class Compiled:
    """Calls a network as ``torch.compile`` makes it, for each shape it meets, and as it is where that fails.

    Kernels are kept on disk (``TORCHINDUCTOR_CACHE_DIR``), so that the next training begins sooner.

    Args:
        network: keeps its weights, names and mode.
        name: for messages.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.network, self.name = network, name
        # not `dynamic`: a handful of shapes, and kernels for one shape are faster
        self.compiled: Any = torch.compile(network, dynamic=False)
        self.tried: set[tuple] = set()

    def __getattr__(self, name: str) -> Any:
        if name == "network":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.network, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """As of the network."""
        if self.compiled is None:
            return self.network(*inputs)
        of_gradients = torch.is_grad_enabled(), tuple(image.requires_grad for image in inputs)
        key = (tuple(image.shape for image in inputs), of_gradients, self.network.training)
        if key not in self.tried and not self._try(key, inputs):
            return self.network(*inputs)
        return self.compiled(*inputs)

    def _try(self, key: tuple, inputs: tuple[torch.Tensor, ...]) -> bool:
        """Compile for one more shape, both ways, without a trace in gradients or random draws."""
        logger.info("compiling %s for %s: the first time this may take a minute", self.name, *key[0][:1])
        try:
            with torch.random.fork_rng(devices=[i.device for i in inputs[:1] if i.is_cuda]):
                output = self.compiled(*inputs)
                if output.requires_grad:
                    wanted = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
                    wanted += [image for image in inputs if image.requires_grad]
                    torch.autograd.grad(output.float().sum(), wanted, allow_unused=True)  # a decoder for another pass
        except Exception as error:  # of a compiler, which may be missing: no reason to lose a training
            logger.warning("compile: %s is not compiled, and goes on as it is: %s", self.name, _first_line(error))
            self.compiled = None
            return False
        self.tried.add(key)
        return True


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
