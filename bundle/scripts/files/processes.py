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
"""Several processes that do one job: who this one is, what is its share, and what all of them exchange.

They are started by torchrun and brought together by ``configs/multi_gpu_train.yaml``. Whatever is here works in a
process alone, too, where it changes nothing. A function that exchanges something has to be called by all processes, in
the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["add_up", "average_gradients", "count", "gather", "rank", "share", "start_alike"]

Item = TypeVar("Item")


def rank() -> int:
    """The number of this process, 0 for the first and for one alone. The first is the one that writes."""
    return distributed.get_rank() if _joined() else 0


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _joined() else 1


def share(items: Sequence[Item]) -> list[Item]:
    """What of a list this process sees to: every n-th item of it for n processes."""
    return list(items[rank() :: count()])


def gather(done: Sequence[Item]) -> list[Item]:
    """Put together what the processes made of their :func:`share`: a result for each item, in the order of the list.

    Args:
        done: a result for each item of this process's share.

    Returns:
        The results of all, in all processes.
    """
    missing = object()
    rounds = itertools.zip_longest(*_from_all(list(done)), fillvalue=missing)
    return [result for each in rounds for result in each if result is not missing]


def add_up(amounts: Mapping[str, float]) -> dict[str, float]:
    """Sum amounts of the same name over processes; a name that one process lacks counts there as 0."""
    total: dict[str, float] = {}
    for each in _from_all(dict(amounts)):
        for name, amount in each.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def start_alike(networks: Iterable[torch.nn.Module], epoch: int) -> None:
    """Give all processes the weights of the first one.

    Args:
        networks: the same in all processes.
        epoch: after which this process begins.

    Raises:
        ValueError: when the processes do not begin after the same epoch.
    """
    if count() == 1:
        return
    epochs = _from_all(epoch)
    if len(set(epochs)) > 1:
        raise ValueError(
            f"the processes begin after different epochs: {epochs}. Training is resumed from a file in `ckpt_dir`, so "
            "`output_dir` and `ckpt_dir` have to be folders that all machines see."
        )
    for network in networks:
        for value in network.state_dict().values():
            distributed.broadcast(value, src=0)


def average_gradients(parameters: Sequence[torch.nn.Parameter], taught: bool) -> bool:
    """Replace the gradients by their means over processes, in one exchange.

    Args:
        parameters: those of one network, in the same order in all processes.
        taught: whether this process has gradients. Those of one that has none count as 0.

    Returns:
        Whether any process has some; if not, all gradients stay as they are.
    """
    if count() == 1:
        return taught
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flag = gradients[0].new_tensor([float(taught)])
    joint = torch.cat([*(gradient.flatten() for gradient in gradients), flag])
    distributed.all_reduce(joint)
    if not taught and joint[-1] == 0:  # only who has nothing to do waits here for its GPU
        return False
    means = (joint[:-1] / count()).split([parameter.numel() for parameter in parameters])
    for parameter, mean in zip(parameters, means, strict=True):
        parameter.grad = mean.view_as(parameter)
    return True


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _from_all(value: Any) -> list[Any]:
    if not _joined():
        return [value]
    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values
