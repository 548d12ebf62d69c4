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
"""Instance refinement: some steps of optimisation on the field of the pair at hand, after the network's one guess."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from ..fields.warping import compose, integrate
from ..joint.state import PairState
from ..joint.updates import Term
from ..networks.layout import resized

PART = 1 / 16  # voxels: a velocity is followed in parts that are hardly longer


class Refinement:
    """Moves a displacement field downhill on the terms that taught the registration network, with Adam.

    What is optimised is a stationary velocity at half the resolution, whose integral is composed with the field: what a
    smooth velocity integrates to does not fold, so the refined field folds where that of the network does, and hardly
    elsewhere. Without terms, a state that can refine itself (``refined``) does. The networks stay as they are. Those
    terms are left out that weigh nothing, need a label, read a network that is not there, or do not depend on the
    field. A term with a start or a ramp counts with its full weight. No steps leave everything as it is, to the bit.

    Args:
        terms: name -> :class:`scripts.joint.updates.Term`, those of the registration network.
        steps: how many; 0 is none; None: ``default``.
        default: of the recipe; where none of its terms can judge a field, there is then no step.
        learning_rate: about how far a voxel moves in a step, in voxels.

    Raises:
        ValueError: ``steps`` is negative or not whole; ``learning_rate`` is not positive.
    """

    def __init__(
        self, terms: Mapping[str, Term], steps: int | None = 0, learning_rate: float = 0.05, default: int = 0
    ) -> None:
        self.is_told = steps is not None
        steps = default if steps is None else steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
            raise ValueError(f"`--refine` takes a number of steps, whole and 0 or more, found {steps!r}.")
        if learning_rate <= 0:
            raise ValueError(f"Refinement: learning_rate is in voxels and above 0, found {learning_rate}.")
        self.terms = {name: term for name, term in terms.items() if term.weight != 0 and not term.requires}
        self.steps, self.learning_rate = steps, learning_rate

    def __call__(self, pair: PairState, make_state: Callable[..., PairState]) -> PairState:
        """Refine the field of a pair.

        Args:
            pair: its ``ddf`` is where the steps begin; its networks are in evaluation mode.
            make_state: called as ``make_state(carried=..., sampling=None, wanted=...)``, makes a state of this pair.

        Returns:
            A state with the refined ``ddf``; without steps, ``pair``.

        Raises:
            ValueError: when no term can judge a field.
        """
        if self.steps == 0:
            return pair
        if not self.terms and hasattr(pair, "refined"):  # it knows how
            return make_state(carried=pair.refined(self.steps), sampling=None)
        start, squarings = pair.ddf.detach(), self._squarings()
        velocity = torch.zeros_like(start[:, :, ::2, ::2, ::2]).requires_grad_()
        with torch.enable_grad():
            # the full field, as always at inference: `sampling` would draw another part of it at every step
            first = make_state(carried=pair.of_field(_moved(start, velocity, squarings)), sampling=None)
            terms = self._usable(first)
            if not terms:
                return pair
            # masks, predictions of the two images, ...: what the field does not change is computed once
            known = {name: first.computed(name) for name in first.quantities()}
            known = {name: value for name, value in known.items() if value is not None and not value.requires_grad}
            read = {quantity for term in terms.values() for quantity in term.quantities}
            optimizer = torch.optim.Adam([velocity], lr=self.learning_rate)
            for step in range(self.steps):
                if step == 0:
                    state = first
                else:
                    field = pair.of_field(_moved(start, velocity, squarings))
                    state = make_state(carried={**known, **field}, sampling=None, wanted=read)
                loss = sum(term.weight * _value(term, state) for term in terms.values())
                # of the sum over the voxels: on large volumes the gradient of their mean would drown in Adam's eps
                (velocity.grad,) = torch.autograd.grad(loss * start[:, 0].numel(), velocity)
                optimizer.step()
        field = pair.of_field(_moved(start, velocity.detach(), squarings))
        return make_state(carried={**known, **field}, sampling=None)

    def _squarings(self) -> int:
        """Of an integration, so that its parts are short however far the steps go."""
        reach = self.steps * self.learning_rate / 2  # on a grid of half the resolution
        return max(1, math.ceil(math.log2(reach / PART)))

    def _usable(self, pair: PairState) -> dict[str, Term]:
        usable = {}
        for name, term in self.terms.items():
            try:
                depends = _value(term, pair).requires_grad
            except KeyError:  # of a label or a network: at inference not all are there
                continue
            if depends:
                usable[name] = term
        if not usable and self.is_told:
            raise ValueError(
                f"nothing to refine a field by: of the terms {sorted(self.terms)} none can be computed from two images "
                "and the networks that were found. Leave `--refine` out."
            )
        return usable


def _moved(start: torch.Tensor, velocity: torch.Tensor, squarings: int) -> torch.Tensor:
    """The field after what a velocity at half the resolution, in voxels of the full grid, integrates to."""
    half = integrate(velocity / 2, squarings)  # in voxels of its own grid
    return compose(resized(2 * half, start.shape[2:]), start)


def _value(term: Term, pair: PairState) -> torch.Tensor:
    return term.loss(*(getattr(pair, quantity) for quantity in term.quantities))
