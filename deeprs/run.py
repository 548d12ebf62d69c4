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

"""The workflow of MONAI in this process, and what is said when it fails or is stopped."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import BUNDLE
from .declared import config_files
from .plans import Plan

__all__ = ["run_demo", "run_workflow"]

LINES_OF_OTHERS = 4  # of a message that is not ours: compilers and drivers write pages


class Stopped(BaseException):
    """Somebody sent a signal; not an Exception, so that nothing on the way takes it for a failure of a case."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


def run_workflow(
    name: str, plan: Plan, entries: Mapping[str, Any], kept: Callable[[], str], traceback: bool = False
) -> int:
    """Run what ``python -m monai.bundle run`` would.

    Args:
        name: of the command, for messages.
        plan: the entry that is run, and the config files.
        entries: of the command line.
        kept: says what there is, when it was stopped.
        traceback: let a failure end in one.

    Returns:
        The exit status.
    """

    def work() -> None:
        from monai.apps import get_logger
        from monai.bundle import ConfigWorkflow

        from scripts.training.config_of_run import running

        options = dict(entries)
        tracking = options.pop("tracking", None)
        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # files lie in several folders, and may
        with config_files(plan) as files:
            workflow = ConfigWorkflow(config_file=files, run_id=plan.run_id, tracking=tracking, **options)
        if not traceback:
            for each in (*logging.getLogger().handlers, get_logger("monai.handlers.StatsHandler")):
                each.addFilter(_say_once)
        with running(workflow):
            workflow.initialize()
            workflow.run()
            workflow.finalize()

    return _guarded(name, work, kept, traceback)


def run_demo(options: Mapping[str, Any], traceback: bool = False) -> int:
    """Run ``scripts.phantom.demo``, whose steps are processes that say themselves what is wrong."""

    def work() -> None:
        from scripts.phantom.demo import demo

        demo(**options)

    return _guarded("demo", work, lambda: f"The next call makes {options['output_dir']} anew.", traceback)


def _guarded(name: str, work: Callable[[], None], kept: Callable[[], str], traceback: bool) -> int:
    sys.path.insert(0, str(BUNDLE))  # first, so that no other package called `scripts` is taken for that of the bundle
    sys.path.append("")  # last, as `python -m monai.bundle` finds what lies in the folder one stands in
    warnings.filterwarnings("ignore", category=FutureWarning)  # MONAI warns of what MONAI itself calls
    try:
        with _signals():
            work()
    except (KeyboardInterrupt, Stopped) as stop:
        print(f"\ndeeprs {name}: stopped. {kept()}", file=sys.stderr)
        return getattr(stop, "status", 128 + signal.SIGINT)
    except Exception as error:
        if traceback:
            raise
        print(f"deeprs {name}: {_message(error)}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does; a second one of either stops at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _say_once(record: logging.LogRecord) -> bool:
    """Handlers of MONAI and Ignite log an error, and its traceback, on its way; here it is said once, at the end."""
    return not (record.exc_info and record.exc_info[0]) and "terminating due to exception" not in str(record.msg)


def _message(error: BaseException) -> str:
    """What went wrong, without where in the program."""
    from scripts.files.errors import OUT_OF_MEMORY, is_ours, is_out_of_memory, root_cause

    cause = root_cause(error)
    if is_out_of_memory(cause):
        return f"{str(cause).splitlines()[0][:200]}\n{OUT_OF_MEMORY}"
    if is_ours(cause) and isinstance(cause, (ValueError, OSError, RuntimeError)):
        return str(cause)
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    if len(lines) > LINES_OF_OTHERS:
        lines = [*lines[: LINES_OF_OTHERS - 1], "... (--traceback shows all of it)"]
    return f"{_component(error)}{type(cause).__name__}: " + "\n".join(line[:300] for line in lines)


def _component(error: BaseException | None) -> str:
    """The component of the config that could not be made, innermost, where MONAI says which."""
    found = ""
    while error is not None:
        if (text := str(error)).startswith("Failed to instantiate component '"):
            found = f"{text.split(chr(39))[1]}: "
        error = error.__cause__
    return found
