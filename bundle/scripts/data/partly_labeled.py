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
"""Labels that do not say everything: voxels to be ignored, and structures that were not drawn in a case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["IGNORED", "resolve_missing", "split_ignored"]

IGNORED = "ignore"  # what nnU-Net calls the id of voxels that nobody has labelled


def split_ignored(names: Mapping[int, str], source: Path) -> tuple[dict[int, str], int | None]:
    """Take the id of voxels to be ignored out of the structures.

    Args:
        names: id -> name, ascending.
        source: what states them, for the message.

    Returns:
        The structures, and that id, where there is one.

    Raises:
        ValueError: it is not the highest, as nnU-Net demands, or there is nothing else.
    """
    structures = {i: name for i, name in names.items() if name != IGNORED}
    ignored = next((i for i, name in names.items() if name == IGNORED), None)
    if ignored is not None and (not structures or ignored < max(structures)):
        raise ValueError(
            f"{source}: '{IGNORED}' has the id {ignored}; expected the highest, above those of at least one structure, "
            f"found {dict(names)}."
        )
    return structures, ignored


def resolve_missing(case: Mapping[str, Any], labels: Mapping[int, str], source: Path | str) -> dict[str, Any]:
    """A case whose ``missing`` names structures, with their classes instead.

    Args:
        case: ``missing``: names or ids of structures, where it has it.
        labels: id -> name of the structures, in the order of the classes 1, 2, ...
        source: what states the case, for the message.

    Returns:
        The case; ``missing`` are ascending classes.

    Raises:
        ValueError: one is no structure.
    """
    if "missing" not in case:
        return dict(case)
    classes = {str(key): number for number, pair in enumerate(labels.items(), start=1) for key in pair}
    if unknown := [entry for entry in case["missing"] if str(entry) not in classes]:
        raise ValueError(
            f"case '{case['case']}' of {source}: `missing` has {', '.join(map(repr, unknown))}, and no structure is "
            f"called so.\n  known    {', '.join(f'{i} ({name})' for i, name in labels.items())}"
        )
    return {**case, "missing": tuple(sorted({classes[str(entry)] for entry in case["missing"]}))}
