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

"""A call as the command of MONAI that does the same, in words that a shell and Fire read as what they are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["monai_command", "quoted"]


def monai_command(run_id: str, files: Sequence[Path], entries: Mapping[str, Any]) -> list[str]:
    """The words of ``python -m monai.bundle run``.

    Args:
        run_id: such as ``training``.
        files: the config files, in their order.
        entries: of the command line; ``None`` has been replaced by ``$None``, as MONAI passes over it.
    """
    words = ["python", "-m", "monai.bundle", "run", run_id]
    words += ["--config_file", str([str(file) for file in files]).replace("', '", "','")]
    for name, value in entries.items():
        text = _for_fire(value)
        # behind a space, Fire takes what begins with a hyphen for an option
        words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return words


def _for_fire(value: Any) -> str:
    from fire.parser import DefaultParseValue

    if isinstance(value, str):
        read = DefaultParseValue(value)
        return value if isinstance(read, str) and read == value else repr(value)
    return repr(value)


def quoted(words: Sequence[str]) -> str:
    """Words as a line for a POSIX shell; lists of files are easier to read in double quotes."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('$`"\\!') else shlex.quote(word) for word in words
    )
