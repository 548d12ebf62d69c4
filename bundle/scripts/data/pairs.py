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
"""Pairs of subjects: which moving image meets which fixed image, and in which order.

A subject is preprocessed and cached once; a pair is two indices, made into a dictionary when it is asked for. So 4
labelled and 40 unlabelled subjects give the paper's 160 pairs at the price of 44 cached volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, MetaTensor
from torch.utils.data import Dataset

from ..files.datalist import case_name, read_json, resolve_entry
from ..files.output_folder import settle
from .transforms import MAX_CLASS

__all__ = ["PairDataset", "read_pairs"]


# What the subjects of a pair are called; the third, whose image lends its style, is optional.
ROLES = ("moving", "fixed", "style")


class PairDataset(Dataset):
    """Pairs of cached subjects, addressed by ``(moving index, fixed index)`` or ``(moving, fixed, style index)``.

    Indices count the labelled subjects first, then the unlabelled ones.

    Args:
        data: labelled cases, ``{"image": path, "label": path}``; ``case`` is optional, and so is ``missing``, the
            classes that the label leaves out, which one case has when others have it.
        transform: MONAI's transforms for a subject, which must let ``label`` be missing. What comes before a random
            one is done once; anything but a MONAI transform would count as random.
        unlabeled: cases of which the image alone is used: a label that one might carry is left out before anything
            reads it.
        cache_workers: threads that fill the cache.
        progress: show a bar while it fills.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable,
        unlabeled: Sequence[Mapping[str, Any]] = (),
        cache_workers: int = 0,
        progress: bool = False,
    ) -> None:
        labeled = [_with_name(case) for case in data]
        images = [{key: case[key] for key in ("case", "image")} for case in map(_with_name, unlabeled)]
        self.labeled_indices = tuple(range(len(labeled)))
        self.unlabeled_indices = tuple(range(len(labeled), len(labeled) + len(images)))
        self.subjects = CacheDataset(labeled + images, transform, num_workers=max(1, cache_workers), progress=progress)

    def __len__(self) -> int:
        """The number of subjects; the number of pairs is the sampler's affair."""
        return len(self.subjects)

    def __getitem__(self, pair: tuple[int, ...]) -> dict[str, Any]:
        """Put two subjects together, or three.

        Returns:
            ``moving_image`` and ``fixed_image`` (C, D, H, W); ``moving_label`` and ``fixed_label`` (1, D, H, W) of the
            labelled ones, and of those that say it ``moving_missing`` and ``fixed_missing`` (256,), true at the classes
            that were not drawn; ``moving_affine`` and ``fixed_affine`` (4, 4), voxel to RAS mm, where the transform
            keeps them; and the names ``moving_case`` and ``fixed_case``. For a third index the same of ``style``. The
            tensors are plain, since each operation on a :class:`~monai.data.MetaTensor` takes longer.
        """
        entry: dict[str, Any] = {}
        for role, index in zip(ROLES[: max(2, len(pair))], pair, strict=True):
            subject = self.subjects[index]
            entry[f"{role}_case"] = subject["case"]
            for key in ("image", "label"):
                if key not in subject:
                    continue
                volume = subject[key]
                entry[f"{role}_{key}"] = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
            if "missing" in subject:
                entry[f"{role}_missing"] = torch.zeros(MAX_CLASS + 1, dtype=torch.bool)
                entry[f"{role}_missing"][list(subject["missing"])] = True
            if isinstance(subject["image"], MetaTensor):
                entry[f"{role}_affine"] = subject["image"].affine
        return entry


def read_pairs(path: str | Path) -> list[dict[str, dict]]:
    """Read the pairs of a test from a JSON file, ``{"pairs": [{"moving": case, "fixed": case}, ...]}``.

    Args:
        path: the file. Paths of cases are relative to it; a case's ``label`` and a pair's ``name`` are optional.

    Returns:
        ``{"moving": case, "fixed": case}`` for each pair, with absolute paths and the cases' names, and the pair's
        ``"name"`` where it has one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no pairs, or an entry lacks one of its two cases.
    """
    path = Path(path).expanduser()
    settle(path.parent)
    entries = read_json(path).get("pairs")
    if not entries or not isinstance(entries, list):
        raise ValueError(f"{path} holds no list 'pairs'.")
    pairs = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not {"moving", "fixed"} <= entry.keys():
            raise ValueError(f"{path}: pair {number} should have a 'moving' and a 'fixed' case, found {entry!r}.")
        pair = {role: resolve_entry(entry[role], path, f"pairs/{role}") for role in ("moving", "fixed")}
        pairs.append(pair | ({"name": str(entry["name"])} if entry.get("name") else {}))
    return pairs


def _with_name(case: Mapping[str, Any]) -> dict[str, Any]:
    return {"case": case_name(case["image"]), **case}
