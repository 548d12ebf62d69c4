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

"""The fenced blocks of a document, and the commands in them."""

from __future__ import annotations

import re
import shlex
from textwrap import dedent

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(document, language=""):
    """The fenced blocks in a language; those of the shell have none."""
    return [dedent(text) for _, kind, text in FENCE.findall(document.read_text()) if kind == language]


def commands(document, program):
    """The commands that begin with a program, as lists of the words after it, lines joined where they go on."""
    lines = "\n".join(blocks(document)).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True)[len(program.split()) :] for line in lines if line.startswith(f"{program} ")
    ]
