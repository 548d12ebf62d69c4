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
"""What the ids in label files are called: as the data say, or the config, or by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.each_case import for_each
from .partly_labeled import IGNORED
from .transforms import MAX_CLASS
from .volumes import read_volume

__all__ = ["agree_on_labels", "names_of_ids"]


def agree_on_labels(stated: Any, given: Mapping[int | str, str] | None, source: Path) -> dict[int, str]:
    """The one map of ids to names that the data and the config agree on; empty where neither says anything.

    Args:
        stated: by the data.
        given: by the config.
        source: the folder or file of the data.

    Raises:
        ValueError: it is none, or the two differ.
    """
    stated_in = source / "labels.json" if source.is_dir() else source
    maps = [_parse_labels(value, where) for value, where in ((stated, str(stated_in)), (given, "the config")) if value]
    # a model does not know which voxels its data said nothing of
    structures = [{i: name for i, name in names.items() if name != IGNORED} for names in maps]
    if len(maps) == 2 and structures[0] != structures[1]:
        raise ValueError(
            f"the labels of {stated_in} and of the config differ.\n  {stated_in.name}: {maps[0]}\n  config: {maps[1]}\n"
            "  Remove `labels` from the config, or make them equal."
        )
    return max(maps, key=len, default={})


def names_of_ids(cases: Sequence[Mapping[str, str]], names: Mapping[int, str] | None, source: Path) -> dict[int, str]:
    """The ids that the labels of cases hold, each with its name, or its number in the place of one.

    Every label file is read once. What is no whole number above 0 is left to the data check.

    Args:
        cases: those with a ``label`` are read.
        names: of ids, as far as they are known; None: the data are to say by themselves which ids there are.
        source: the folder or file of the data, for messages.

    Raises:
        ValueError: there is no label to read, one cannot be read, or the files hold too many values for label maps.
    """
    labelled = [case for case in cases if "label" in case]
    if names is None or not labelled:
        raise ValueError(
            "nothing says what the label ids mean"
            f"{'' if names is None else f', and there is no label file in {source}'}. State `labels` (id to name) in "
            f"{source / 'labels.json' if source.is_dir() else source}, "
            'or in the config: `labels: {"1": anterior, "2": posterior}`.'
        )
    found: set[int] = set()
    for case, (ids, faults) in zip(labelled, for_each(labelled, _ids_of, "Reading which ids there are"), strict=True):
        if faults:
            raise ValueError(f"case '{case['case']}': {faults[0]}")
        found |= ids
        if len(found) > MAX_CLASS:
            raise ValueError(
                f"case '{case['case']}': {case['label']}: the label files of {source} hold {len(found)} ids or "
                f"more; expected at most {MAX_CLASS}. Are they images? Otherwise name the structures in labels.json."
            )
    if not found:
        raise ValueError(f"the {len(labelled)} label files of {source} hold nothing but background (0).")
    return _parse_labels({i: names.get(i, str(i)) for i in found}, f"the tables and label files of {source}")


def _ids_of(case: Mapping[str, str]) -> tuple[set[int], list[str]]:
    faults: list[str] = []
    volume = read_volume(case["label"], "label", faults)
    values = np.array([]) if volume is None else np.unique(volume.array)
    return {int(value) for value in values if value > 0 and value == np.floor(value) < np.inf}, faults


def _parse_labels(labels: Any, where: str) -> dict[int, str]:
    """Ids as integers, ascending, without the background."""
    try:
        names = {int(key): str(name) for key, name in labels.items()}
    except (AttributeError, ValueError) as error:
        raise ValueError(f"`labels` of {where} should map integer ids to names, found {labels!r}.") from error
    names.pop(0, None)
    if not names or min(names) < 0:
        raise ValueError(f"`labels` of {where} should name at least one id above 0 and none below, found {labels!r}.")
    if len(set(names.values())) < len(names):
        raise ValueError(
            f"`labels` of {where} gives one name to two ids: {names}. Results are told apart by the names."
        )
    return dict(sorted(names.items()))
