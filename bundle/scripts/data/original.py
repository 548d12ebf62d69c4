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

"""A case as its files hold it: the image's own values and the label's own ids, with nothing done to either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..files.each_case import Failure, for_each, keep_going
from .ids import whole_ids
from .readers import load_volume
from .transforms import LARGEST_ID, describe_strays, find_strays
from .volumes import lay_label

__all__ = ["Original", "check_label_ids", "read_label", "read_original"]


@dataclass(frozen=True)
class Original:
    """One case as it lies on disk.

    Args:
        case: its name.
        image: (1, X, Y, Z) float32 with its affine.
        label: (1, X, Y, Z) int32, ids, with its affine, where there is one.
    """

    case: str
    image: Any
    label: Any = None


def read_original(case: Mapping[str, str], corrections: Mapping[int, int] | None = None) -> Original:
    """Read the files of a case.

    Args:
        case: ``case``, ``image`` and, where there is one, ``label``: paths.
        corrections: ids of the label that are wrong -> what they should be.

    Returns:
        The case.

    Raises:
        ValueError: the label holds fractions, or is not on the grid of its image.
    """
    image = load_volume(case["image"])
    if "label" not in case:
        return Original(case["case"], image)
    label = read_label(case["label"], corrections)
    return Original(case["case"], image, lay_label(label, image, case["case"]))


def read_label(path: str, corrections: Mapping[int, int] | None = None) -> Any:
    """Read a label map.

    Args:
        path: the file.
        corrections: ids that are wrong -> what they should be.

    Returns:
        Ids (1, X, Y, Z), int32, with their affine.

    Raises:
        ValueError: the file holds numbers with fractions, so it is no label map, or ids too large to be told apart.
    """
    volume = load_volume(path)
    ids = volume.round().to(torch.int32)
    if (ids.as_tensor() != whole_ids(volume.as_tensor())).any():
        raise ValueError(f"{path} holds numbers with fractions, so it is no label map. Is it an image?")
    if (largest := int(ids.abs().max())) > LARGEST_ID:
        raise ValueError(f"{path} holds the id {largest}, and {LARGEST_ID} is the largest possible: number them anew.")
    for wrong, right in (corrections or {}).items():
        ids[ids == int(wrong)] = int(right)
    return ids


def check_label_ids(
    cases: Sequence[Mapping[str, str]], labels: Mapping[int, str], corrections: Mapping[int, int]
) -> None:
    """Refuse labels with ids that nobody named, all at once, and say how such an id can be corrected.

    Args:
        cases: those with a ``label`` are read.
        labels: the ids that are known -> names.
        corrections: ids that are wrong -> what they should be.

    Raises:
        ValueError: names every case with an unknown id, and the option by which it becomes the nearest known one.
    """
    labelled = [case for case in cases if "label" in case]
    known = list(labels)
    look = keep_going(lambda case: find_strays(read_label(case["label"], corrections).as_tensor(), known), _name)
    faults, guesses = [], {}
    for case, strays in zip(labelled, for_each(labelled, look, "Checking labels"), strict=True):
        if strays and not isinstance(strays, Failure):  # one that cannot be read is told with its case, later
            faults.append(f"case '{_name(case)}': {describe_strays(strays, known)}")
            guesses |= {str(int(stray)): _nearest(stray, labels) for stray in strays}
    if faults:
        meant = ", ".join(f"{stray} should be {guess} ({labels[guess]})" for stray, guess in guesses.items())
        option = {str(wrong): right for wrong, right in corrections.items()} | guesses
        raise ValueError(
            "\n".join(faults) + f"\n  Look at these voxels in a viewer. If {meant}, run the same command with\n"
            f'    --corrections "{option}"\n  The files stay as they are; what is prepared from them is corrected.'
        )


def _name(case: Mapping[str, str]) -> str:
    return case["case"]


def _nearest(stray: float, labels: Mapping[int, str]) -> int:
    return min(labels, key=lambda known: abs(known - stray))
