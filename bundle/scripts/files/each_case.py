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

"""The one loop over cases: how far it is, and faults that stop the run or are kept for its end, as is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from . import processes
from .progress import collect
from .writing import NotWritten

Job = TypeVar("Job")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """What went wrong with a case, in the place of its result."""

    case: str
    fault: str

    def __str__(self) -> str:
        return f"'{self.case}': {self.fault}"


def for_each(jobs: Sequence[Job], work: Callable[[Job], Result], title: str) -> list[Result]:
    """Do the same with every case, or every pair; several processes share them.

    Args:
        jobs: what `work` takes, one after the other; the same in all processes.
        work: its result is small, and depends on the job alone.
        title: of what the first process shows: a bar at a terminal, lines in a log.

    Returns:
        The results in the order of the jobs, in all processes.
    """
    share = processes.share(jobs)
    return processes.gather(collect(map(work, share), title, len(share)))


def keep_going(work: Callable[[Job], Result], name_of: Callable[[Job], str]) -> Callable[[Job], Result | Failure]:
    """Make a piece of work report what goes wrong with a case, where it would have stopped all the others.

    Args:
        work: what is done with a job.
        name_of: the name of a job, for the report.

    Returns:
        The same work, which returns a :class:`Failure` instead of raising; where nothing can be written, it raises.
    """

    def attempt(job: Job) -> Any:
        try:
            return work(job)
        except NotWritten:
            raise
        except Exception as error:  # whatever is wrong with one case, the others are to be done all the same
            failure = Failure(name_of(job), f"{type(error).__name__}: {error}")
            logger.error("failed: %s", failure)
            return failure

    return attempt
