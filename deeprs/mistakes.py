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

"""What somebody who calls a command can get wrong, told in a message that stands alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["Mistake", "nearest"]


class Mistake(Exception):
    """A mistake in the call of a command. Its text is all that is shown: what, where, expected, found, what to do."""


def nearest(name: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """`` Did you mean `NAME`?`` of the most similar name that there is, or nothing; ``shown``: as what it is named."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean `{(shown or {}).get(close[0], close[0])}`?" if close else ""
