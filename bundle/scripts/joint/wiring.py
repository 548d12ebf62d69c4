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
"""Find what could not work in a config when the trainer is built, not at iteration 500."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the engine imports this module
    from .state import PairState
    from .updates import Update


def check_wiring(
    updates: Mapping[str, Update],
    schedule: Sequence[Sequence[str]],
    state: Callable[..., PairState],
    others: Sequence[str] = (),
) -> None:
    """Find what could not work in a config before the first iteration does.

    Args:
        updates: name -> :class:`Update`.
        schedule: groups of names of updates.
        state: the state class, or a partial of it.
        others: further names of quantities that are read (``carry``, ``output``).

    Raises:
        ValueError: naming the place, what was found, the nearest that exists, and all that exist.
    """
    _refuse_values("updates", updates, "terms")
    for name, update in updates.items():
        _refuse_values(f"updates::{name}::terms", update.terms, "quantities")
    scheduled = [name for group in schedule for name in group]
    if not scheduled:
        raise ValueError(f"`schedule` is empty. It takes groups of the names in `updates`: {sorted(updates)}.")
    for name in scheduled:
        if name not in updates:
            raise ValueError(f"unknown update '{name}' in `schedule`.{_nearest(name, updates)}")
    if idle := sorted(set(updates) - set(scheduled)):
        raise ValueError(f"updates {idle} are never scheduled. Add them to `schedule`, or disable them.")
    offered = (state.func if isinstance(state, partial) else state).quantities()
    reads = {
        f"updates::{name}::terms::{key}": (*term.quantities, *term.requires)
        for name, update in updates.items()
        for key, term in update.terms.items()
    }
    for place, quantities in {**reads, "carry or output": others}.items():
        for quantity in quantities:
            if quantity not in offered:
                raise ValueError(f"unknown quantity '{quantity}' in {place}.{_nearest(quantity, offered)}")
    for name, update in updates.items():
        _check_update(name, update)


def _refuse_values(place: str, parts: Mapping[str, Any], has: str) -> None:
    """Refuse what a misspelt option leaves beside components: ``--updates::registraton::clip_norm 1`` is a mapping."""
    components = [name for name, part in parts.items() if hasattr(part, has)]
    for name, part in parts.items():
        if name not in components:
            raise ValueError(f"{place}::{name} is {part}, which has no `{has}`.{_nearest(name, components)}")


def _check_update(name: str, update: Update) -> None:
    if not update.terms:
        raise ValueError(f"updates::{name} has no terms and would learn nothing. Add one, or disable the update.")
    own = {id(parameter) for parameter in update.network.parameters()}
    if not all(id(parameter) in own for parameter in update.parameters):
        raise ValueError(
            f"updates::{name}: its optimizer moves parameters that are not of its network. "
            "Set `params` of the optimizer to the parameters of the `network` of this update."
        )
    if update.scheduler is not None and update.scheduler.optimizer is not update.optimizer:
        raise ValueError(
            f"updates::{name}: its scheduler is of another optimizer. "
            f"Set `optimizer` of the scheduler to '@updates::{name}::optimizer'."
        )


def _nearest(name: str, offered: Iterable[str]) -> str:
    names = sorted(offered)
    close = difflib.get_close_matches(name, names, n=1)
    return (f" Did you mean '{close[0]}'?" if close else "") + f"\n  There are: {', '.join(names)}."
