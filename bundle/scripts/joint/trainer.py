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
"""One engine for every method: named updates, taught by weighted terms, run on every pair as a schedule says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents

from ..files import processes
from ..networks.layout import for_processor
from .capture import CapturedRunner
from .compiled import Compiled
from .exchange import Exchange
from .groups import Group, GroupRunner, live_terms, weights_of
from .state import PairState
from .updates import Update
from .wiring import check_wiring


class JointTrainer(Trainer):
    """Runs ``updates`` on every batch, group after group of ``schedule``; a group shares its forward passes.

    ``schedule: [[discriminator], [registration], [segmentation]]`` is the alternating training of the paper
    (Section 3.2): each group sees the networks as the groups before it left them. All names in one group is the fused
    form: one forward pass of each network, then one step of each. A name in several groups steps in each of them,
    with fresh random draws. Gradients reach only the parameters of the update that a term belongs to; everything else
    is left alone by ``backward(inputs=...)``. What no network that makes it has changed since the group before is taken
    from there, with its graph where that teaches (``PairState.shared``).

    Handlers find the field of the pair as ``engine.state.ddf`` (B, 3, D, H, W), as the last group that computed it left
    it, or None.

    Args:
        device: where the pairs and networks live.
        max_epochs: epochs to train.
        train_data_loader: yields batches of pairs (see :class:`scripts.data.pairs.PairDataset`).
        networks: name -> network, for the state.
        updates: name -> :class:`Update`.
        schedule: groups of names of updates, in order.
        state: makes the state of a pair, called as :class:`scripts.joint.state.PairState` is.
        carry: quantities that survive, detached, from one group to the next.
        augmentation: MONAI dictionary transforms with one random draw for a whole pair, run on the device.
        supplement: gives further tensors for a batch, before its augmentation, such as labels found meanwhile; where it
            has ``attach``, it also listens to this trainer.
        output: what the engine puts out beside ``loss``: key -> quantity, as the last group that computed it left it;
            a quantity that was not computed is left out.
        postprocessing, key_train_metric, additional_metrics, train_handlers, amp, amp_kwargs: as in MONAI's trainers.
        compile: compile the networks by ``torch.compile`` for the shapes they meet.
        cuda_graphs: on a GPU, record what a group launches, and launch it again as one.
        seed: with the epoch, fixes the pairs and the augmentation of that epoch; with the number of the process, where
            there are several, all its random draws.

    Raises:
        ValueError: for wiring that cannot work, with what would: unknown quantities or updates, empty schedules.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        networks: Mapping[str, torch.nn.Module],
        updates: Mapping[str, Update],
        schedule: Sequence[Sequence[str]],
        state: Callable[..., PairState],
        carry: Sequence[str] = (),
        augmentation: Callable[[dict], dict] | None = None,
        supplement: Callable[[dict], dict] | None = None,
        output: Mapping[str, str] | None = None,
        postprocessing: Callable | None = None,
        key_train_metric: dict | None = None,
        additional_metrics: dict | None = None,
        train_handlers: Sequence | None = None,
        amp: bool = False,
        amp_kwargs: dict | None = None,
        compile: bool = False,
        cuda_graphs: bool = False,
        seed: int = 0,
    ) -> None:
        self.networks, self.updates = dict(networks), dict(updates)
        self.schedule = [list(group) for group in schedule]
        self.make_state, self.carry, self.outputs = state, list(carry), dict(output or {})
        self.augmentation, self.supplement, self.seed = augmentation, supplement, seed
        check_wiring(self.updates, self.schedule, state, [*self.carry, *self.outputs.values()])
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            postprocessing=postprocessing,
            key_metric=key_train_metric,
            additional_metrics=additional_metrics,
            handlers=train_handlers,
            amp=amp,
            amp_kwargs=amp_kwargs,
        )
        if self.state.device.type == "cpu":
            for network in self.networks.values():
                for_processor(network)
        called = (
            {name: Compiled(network, name) for name, network in self.networks.items()} if compile else self.networks
        )
        self.run_group = GroupRunner(called, self.updates, state, self.outputs, self.carry, self._amp_dtype)
        if cuda_graphs and self.state.device.type == "cuda":
            self.run_group = CapturedRunner(self.run_group)
        self.state.losses, self.state.best = {}, {}  # raw value and weight of each term; best validation metrics
        # after the handlers, one of which may have resumed a training
        self.add_event_handler(Events.STARTED, lambda: processes.start_alike(self.networks.values(), self.state.epoch))
        self.add_event_handler(Events.EPOCH_STARTED, JointTrainer._seed_epoch)
        if hasattr(supplement, "attach"):
            supplement.attach(self)
        self.until_end = ExitStack()

    def run(self) -> None:
        """Train. What handlers have put into ``until_end``, such as a lock, is let go, however it ends."""
        with self.until_end:
            super().run()

    def last_pair(self) -> PairState:
        """The pair of the last iteration without augmentation, as the networks, in evaluation mode, see it by now."""
        for network in self.networks.values():  # the next iteration sets them back
            network.eval()
        return self.make_state(to_device(self._last_batch, self.state.device), self.networks, amp_dtype=self._amp_dtype)

    @property
    def _amp_dtype(self) -> torch.dtype | None:
        return self.amp_kwargs.get("dtype", torch.bfloat16) if self.amp else None

    def _seed_epoch(self) -> None:
        sampler = getattr(self.data_loader, "batch_sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.state.epoch)
        # not seed + epoch: neighbouring seeds would share all but one epoch. Rank 0 draws what a process alone does
        drawn = np.random.default_rng([self.seed, self.state.epoch, processes.rank()]).integers(2**32)
        if hasattr(self.augmentation, "set_random_state"):
            self.augmentation.set_random_state(seed=int(drawn))
        if processes.count() > 1:  # or all would draw the same factors and the same noise
            torch.manual_seed(int(drawn))

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        for network in self.networks.values():  # a validation may have come between two iterations
            network.train()
        self._last_batch = batchdata  # MONAI takes the one in the state apart
        batch = to_device(batchdata, self.state.device)
        if self.supplement is not None:
            batch |= self.supplement(batch)
        batch = self._augment(batch)
        total, carried, losses, output = torch.zeros((), device=self.state.device), {}, {}, {}
        self.state.ddf = None
        exchange = Exchange({} if self.carry else self.networks)  # or what is made of the carried would come around it
        for names, group in self._groups(batch):
            for name in names:
                self.updates[name].optimizer.zero_grad(set_to_none=True)
            weights = weights_of(group, self.state.iteration)
            outcome = self.run_group(group, batch, {**exchange.given(group.taught), **carried}, weights)
            for name in names:
                self.updates[name].step(taught=name in group.live)
            exchange.take(self.make_state, outcome.quantities, moved=self._taught(names))
            losses |= {name: (value, weights[name]) for name, value in outcome.losses.items()}
            total = total + outcome.total
            carried |= {q: outcome.quantities[q].detach() for q in self.carry if q in outcome.quantities}
            output |= outcome.output
            if "ddf" in outcome.quantities:
                self.state.ddf = outcome.quantities["ddf"].detach()
        for update in self.updates.values():
            update.advance()
        self.state.losses = losses
        size = len(batch["fixed_image"])  # one entry a pair: MONAI would fetch a scalar from the device to repeat it
        self.state.output = {**output, "loss": total.expand(size)}
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _augment(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.augmentation is None:
            return batch
        tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
        size = len(next(iter(tensors.values())))
        samples = [self.augmentation({key: value[i] for key, value in tensors.items()}) for i in range(size)]
        moved = {key: torch.stack([_plain(sample[key]) for sample in samples]) for key in tensors}
        return {**batch, **moved}

    def _groups(self, batch: Mapping[str, Any]) -> list[tuple[list[str], Group]]:
        """Each group of the schedule, with what of it is live."""
        live = [live_terms(names, self.updates, batch, self.state.iteration) for names in self.schedule]
        taught = [self._taught(terms) for terms in live] + [frozenset()]
        parts = zip(self.schedule, live, taught, taught[1:], strict=False)
        return [(names, Group(i, *of_group)) for i, (names, *of_group) in enumerate(parts)]

    def _taught(self, updates: Iterable[str]) -> frozenset[str]:
        """Names of the networks that updates move."""
        moving = [self.updates[name].network for name in updates]
        return frozenset(name for name, network in self.networks.items() if any(network is other for other in moving))


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors, as plain tensors, on the device; other entries (names of cases) as they are."""
    return {key: _plain(v).to(device) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
