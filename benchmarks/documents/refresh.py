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
"""Put into the documents what is made elsewhere, so that nothing there is older than its source.

In a document, a command in a block of its own, followed by ``<!-- prints -->``, is followed by what it prints up to
``<!-- end -->``. Parts that are made from code and configs are those of ``reference.py``:

    python -m benchmarks.documents.refresh
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import fire

from benchmarks import ROOT
from benchmarks.documents import reference
from benchmarks.runs import claims, compare, overview
from benchmarks.studies import confidence, contrasts, fusion, lessons, matching, refinement, shares
from scripts.files.writing import write_text

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "bundle/docs/*.md",
    "benchmarks/results/README.md",
    "benchmarks/results/*/README.md",
)
COMMANDS = {
    "runs.claims": {"table": claims.table},
    "runs.compare": {"table": compare.table, "structures": compare.structures},
    "runs.overview": {"table": overview.table},
    "studies.confidence": {"table": confidence.table},
    "studies.contrasts": {"table": contrasts.table},
    "studies.fusion": {"table": fusion.table},
    "studies.lessons": {"table": lessons.table},
    "studies.matching": {"table": matching.table},
    "studies.refinement": {"table": refinement.table},
    "studies.shares": {"table": shares.table},
}
_PRINTED = re.compile(
    r"(?P<head>```\npython -m benchmarks\.(?P<tool>[\w.]+) (?P<arguments>(?:[^`\n]|\\\n)+)\n```\n<!-- prints -->\n)"
    r"(?P<body>.*?)(?P<tail><!-- end -->)",
    re.DOTALL,
)


def _printed(command: re.Match[str]) -> str:
    functions: dict[str, Callable[..., str]] = COMMANDS[command["tool"]]
    arguments = shlex.split(command["arguments"].replace("\\\n", " "))
    with contextlib.redirect_stdout(io.StringIO()):  # Fire also prints what it returns
        text = fire.Fire(functions, command=arguments)
    return f"{command['head']}{text}\n{command['tail']}"


def refreshed(text: str) -> str:
    """A document with the output of its commands, and its generated parts, as they are now.

    Args:
        text: Markdown.
    """
    return reference.refreshed(_PRINTED.sub(_printed, text))


def main(root: str = str(ROOT)) -> list[str]:
    """Refresh all documents.

    Args:
        root: of the repository.

    Returns:
        The files that changed.
    """
    changed = []
    for path in (path for pattern in DOCUMENTS for path in sorted(Path(root).glob(pattern))):
        if (new := refreshed(path.read_text())) != path.read_text():
            write_text(path, new)
            changed.append(str(path))
    return changed


if __name__ == "__main__":
    fire.Fire(main)
