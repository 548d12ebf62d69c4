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

"""How far a loop is: a bar at a terminal, and in a log a line now and then, none at all where it is short."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ignite.engine import Engine, Events
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from . import processes

__all__ = ["Progress", "collect"]

Item = TypeVar("Item")

LINES = 10  # at most, of one loop in a log
PAUSE = 10.0  # seconds at least between two of them

logger = logging.getLogger(__name__)


def collect(items: Iterable[Item], title: str, total: int, pause: float = PAUSE) -> list[Item]:
    """Go through items that take their time, and keep them; of several processes the first one shows how far it is.

    Args:
        items: such as a generator that does the work.
        title: what is being done.
        total: how many there will be.
        pause: seconds between two lines of a log.

    Returns:
        The items.
    """
    if processes.rank() > 0:
        return list(items)
    if _at_terminal():
        with logging_redirect_tqdm():  # messages go above the bar, not through it
            return list(tqdm(items, title, total))
    lines, done = _Lines(title, total, pause), []
    for item in items:
        done.append(item)
        lines.tell(len(done))
    return done


class Progress:
    """A handler that shows how far each epoch of an engine is: the bar of Ignite at a terminal, or lines of a log.

    Args:
        title: what is being done.
        shown: gives values to show beside the bar.
        pause: seconds between two lines of a log.
    """

    def __init__(
        self, title: str, shown: Callable[[], Mapping[str, float]] | None = None, pause: float = PAUSE
    ) -> None:
        self.title, self.shown, self.pause = title, shown, pause

    def attach(self, engine: Engine) -> None:
        """Listen to an engine; of several processes the first one shows anything."""
        if processes.rank() > 0:
            return
        if _at_terminal():
            from ignite.handlers import ProgressBar

            transform = None if self.shown is None else (lambda _: self.shown())
            ProgressBar(persist=True, desc=self.title).attach(engine, output_transform=transform)
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._tell)

    def _start(self, engine: Engine) -> None:
        epochs = f" {engine.state.epoch} of {engine.state.max_epochs}" if engine.state.max_epochs > 1 else ""
        self.lines = _Lines(f"{self.title}{epochs}", engine.state.epoch_length, self.pause)

    def _tell(self, engine: Engine) -> None:
        self.lines.tell((engine.state.iteration - 1) % self.lines.total + 1)


class _Lines:
    """Lines of a log, at tenths of a loop, and not before a pause is over."""

    def __init__(self, title: str, total: int, pause: float) -> None:
        self.title, self.total, self.pause = title, max(1, total), pause
        self.begun = self.last = time.monotonic()
        self.tenth = 0

    def tell(self, done: int) -> None:
        tenth, now = done * LINES // self.total, time.monotonic()
        if tenth > self.tenth and now - self.last >= self.pause:
            self.tenth, self.last = tenth, now
            logger.info("%s: %d of %d after %d s", self.title, done, self.total, round(now - self.begun))


def _at_terminal() -> bool:
    return sys.stderr.isatty()
