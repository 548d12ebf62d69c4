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

"""The command ``deeprs``: reads its words, finds what is wrong with them, and hands over to MONAI.

Nothing here imports PyTorch or MONAI, so that help and what is said of a mistake come at once.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .check import TRACKING, entries_of
from .commands import COMMANDS
from .fire_words import monai_command, quoted
from .help import command_help, overview, recipes
from .mistakes import Mistake, nearest
from .parse import Call, parse
from .plans import planning_before

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words behind ``deeprs``; those of this process when None.

    Returns:
        The exit status: 0; 1 for what failed in the work; 2 for a mistake in the call; 130 and 143 when stopped.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    try:
        return _dispatch(name, words[1:])
    except Mistake as mistake:
        title = f"deeprs {name}" if name in COMMANDS else "deeprs"
        print(f"{title}: {mistake}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(name: str, words: Sequence[str]) -> int:
    if name in ("--help", "-h", "help"):
        print(command_help(words[0]) if words and words[0] in COMMANDS else overview())
        return 0
    if name == "--version":
        print(f"deeprs {__version__}")
        return 0
    if name == "recipes":
        print(recipes())
        return 0
    if name == "demo":
        return _demo(words)
    if name not in COMMANDS:
        known = [*COMMANDS, "recipes", "demo"]
        raise Mistake(f"there is no command `{name}`.{nearest(name, known)}\nCommands: {', '.join(known)}.")
    call = parse(words)
    if "help" in call.flags:
        print(command_help(name))
        return 0
    return _run(name, call, shlex.join(["deeprs", name, *words]))


def _run(name: str, call: Call, line: str) -> int:
    command = COMMANDS[name]
    plan, entries = entries_of(name, command, call)
    steps = [(plan, entries)]
    if first := planning_before(plan, call):
        options = {option: value for option, value in entries.items() if option not in TRACKING}
        steps.insert(0, (first, options | first.entries))
    if "show" in call.flags:
        print(" && ".join(quoted(monai_command(step.run_id, step.files, options)) for step, options in steps))
        return 0
    from .run import run_workflow  # imports MONAI when it is called

    out = Path(plan.out)

    def kept() -> str:
        if not any(out.glob(command.keeps)):
            return "Nothing is kept, as nothing was complete."
        return command.kept.format(out=os.path.relpath(out), call=line.replace(" --resume", ""))

    for step, options in steps:
        if status := run_workflow(name, step, options, kept, traceback="traceback" in call.flags):
            return status
    return 0


def _demo(words: Sequence[str]) -> int:
    call = parse(words)
    if "help" in call.flags:
        print(
            "deeprs demo [--out output/demo] [--seed 0] [--max_epochs 8]\n\n"
            "Draw phantoms of the heart, train a small DeepRS on them, and write its results and a\n"
            "report into --out: minutes on a CPU."
        )
        return 0
    options: dict[str, Any] = {"output_dir": "output/demo"}
    for name, texts in call.options.items():
        if name not in ("output_dir", "seed", "max_epochs") or texts[-1] is None:
            raise Mistake(f"--{name}: demo takes --out DIR, --seed NUMBER and --max_epochs NUMBER.")
        options[name] = texts[-1]
        if name != "output_dir":
            if not texts[-1].isdigit():
                raise Mistake(f"--{name}: expected a whole number, found {texts[-1]!r}.")
            options[name] = int(texts[-1])
    if call.words:
        raise Mistake(f"demo takes no `{call.words[0]}`: it makes its own data.")
    from .run import run_demo

    options["output_dir"] = str(Path(options["output_dir"]).expanduser())
    return run_demo(options, traceback="traceback" in call.flags)
