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
from functools import partial
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents

from ..files import processes
from ..networks.layout import for_processor
from .exchange import Exchange, keeping
from .state import PairState
from .updates import Term, Update
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
        plan = [(group, self._live_terms(group, batch)) for group in self.schedule]
        exchange = Exchange({} if self.carry else self.networks)  # or what is made of the carried would come around it
        for i, (group, live) in enumerate(plan):
            taught, next_taught = (self._taught(terms) for _, terms in [*plan, (group, {})][i : i + 2])
            state = self._make_state(batch, live, {**exchange.given(taught), **carried}, taught, next_taught)
            sums = {name: self._evaluate(name, terms, state, losses) for name, terms in live.items()}
            self._learn(group, sums)
            exchange.take(state, moved=self._taught(group))
            total = total + sum(loss.detach() for loss in sums.values())
            carried.update({q: v.detach() for q in self.carry if (v := state.computed(q)) is not None})
            shown = {key: q for key, q in self.outputs.items() if state.computed(q) is not None}
            output.update(zip(shown, (v.detach() for v in state.compared(list(shown.values()))), strict=True))
            if (ddf := state.computed("ddf")) is not None:
                self.state.ddf = ddf.detach()
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

    def _live_terms(self, group: Sequence[str], batch: Mapping[str, Any]) -> dict[str, dict[str, Term]]:
        iteration = self.state.iteration
        live = {
            name: {key: term for key, term in self.updates[name].terms.items() if term.is_live(batch, iteration)}
            for name in group
        }
        return {name: terms for name, terms in live.items() if terms}  # an update with nothing to learn sits out

    def _taught(self, updates: Iterable[str]) -> set[str]:
        """Names of the networks that updates move."""
        moving = [self.updates[name].network for name in updates]
        return {name for name, network in self.networks.items() if any(network is other for other in moving)}

    def _make_state(
        self,
        batch: Mapping[str, Any],
        live: Mapping[str, Mapping[str, Term]],
        carried: Mapping[str, torch.Tensor],
        taught: set[str],
        next_taught: set[str],
    ) -> PairState:
        kind = self.make_state.func if isinstance(self.make_state, partial) else self.make_state
        return self.make_state(
            batch,
            self.networks,
            learning=taught | (keeping(kind) & next_taught),
            wanted={q for terms in live.values() for term in terms.values() for q in term.quantities},
            carried=carried,
            amp_dtype=self._amp_dtype,
        )

    def _evaluate(
        self, name: str, terms: Mapping[str, Term], state: PairState, losses: dict[str, tuple[torch.Tensor, float]]
    ) -> torch.Tensor:
        total = torch.zeros((), device=self.state.device)
        for key, term in terms.items():
            value = term.loss(*state.compared(term.quantities))
            weight = term.weight_at(self.state.iteration)
            losses[f"{name}/{key}"] = (value.detach(), weight)
            total = total + weight * value
        return total

    def _learn(self, group: Sequence[str], sums: Mapping[str, torch.Tensor]) -> None:
        for name in group:
            self.updates[name].optimizer.zero_grad(set_to_none=True)
        for i, (name, loss) in enumerate(sums.items()):
            update = self.updates[name]
            if loss.requires_grad:
                # terms of one group share graphs, which must live until the last of them has been walked
                loss.backward(inputs=update.parameters, retain_graph=i + 1 < len(sums))
            if all(parameter.grad is None for parameter in update.parameters):
                raise ValueError(
                    f"updates::{name}: no term depends on the parameters of its network. Its terms read "
                    f"{sorted({q for term in update.terms.values() for q in term.quantities})}; "
                    "is one of them in `carry`?"
                )
        for name in group:
            self.updates[name].step(taught=name in sums)


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors, as plain tensors, on the device; other entries (names of cases) as they are."""
    return {key: _plain(v).to(device) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
