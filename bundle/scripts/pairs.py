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

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import CacheDataset, MetaTensor
from torch.utils.data import Dataset, Sampler

from scripts import processes
from scripts.datalist import case_name, read_json, resolve_entry

__all__ = ["PairDataset", "PairSampler", "RingSampler", "ordered_pairs", "read_pairs"]

# Where the moving and the fixed subject of each kind of pair come from. `any` is all of them together.
KINDS = {
    "labeled_unlabeled": ("labeled", "unlabeled"),
    "unlabeled_labeled": ("unlabeled", "labeled"),
    "labeled_labeled": ("labeled", "labeled"),
    "unlabeled_unlabeled": ("unlabeled", "unlabeled"),
}
# What the subjects of a pair are called; the third, whose image lends its style, is optional.
ROLES = ("moving", "fixed", "style")


class PairDataset(Dataset):
    """Pairs of cached subjects, addressed by ``(moving index, fixed index)`` or ``(moving, fixed, style index)``.

    Indices count the labelled subjects first, then the unlabelled ones.

    Args:
        data: labelled cases, ``{"image": path, "label": path}``; ``case`` is optional.
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
            labelled ones; ``moving_affine`` and ``fixed_affine`` (4, 4), voxel to RAS mm, where the transform keeps
            them; and the names ``moving_case`` and ``fixed_case``. For a third index the same of ``style``. The tensors
            are plain, since each operation on a :class:`~monai.data.MetaTensor` takes longer.
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
            if isinstance(subject["image"], MetaTensor):
                entry[f"{role}_affine"] = subject["image"].affine
        return entry


class PairSampler(Sampler):
    """Batches of pairs, drawn kind by kind: for ``DataLoader(batch_sampler=...)``.

    The pairs of a batch are of one kind, so that they have the same labels and can be collated. Each kind walks through
    a random order of all its pairs and begins another one when it is through; no subject is paired with itself.

    The pairs are a function of the seed and the epoch alone, so a resumed run continues as the uninterrupted one.
    Call :meth:`set_epoch` when an epoch starts: without it every epoch draws the same pairs.

    Several processes share one draw: each gets its part of a joint batch, ``batch_size`` pairs, all of one kind.
    Together they see what a process alone would see with a batch as large as theirs together.

    Args:
        dataset: the subjects.
        kinds: weight of each kind of pair, moving first: ``labeled_unlabeled`` (the paper's), ``unlabeled_labeled``,
            ``labeled_labeled``, ``unlabeled_unlabeled``, and ``any`` (two different subjects: the four kinds in
            proportion to their numbers of pairs). Each batch draws its kind.
        length: batches per epoch. ``None``: labelled times unlabelled pairs, whatever the kinds, so that methods which
            pair differently train equally long; all pairs of the kinds where there is no unlabelled subject.
        batch_size: pairs per batch of one process.
        seed: of all draws.
        style: draw a third subject for each pair, any unlabelled one that is not in the pair. The pairs stay the same.

    Raises:
        ValueError: an unknown kind, or one for which there are no subjects; while it draws, no third subject.
    """

    def __init__(
        self,
        dataset: PairDataset,
        kinds: Mapping[str, float] | None = None,
        length: int | None = None,
        batch_size: int = 1,
        seed: int = 0,
        style: bool = False,
    ) -> None:
        self.pools = {
            "labeled": tuple(dataset.labeled_indices),
            "unlabeled": tuple(dataset.unlabeled_indices),
        }
        kinds = {"labeled_unlabeled": 1.0} if kinds is None else kinds
        self._check(kinds)
        self.kinds = self._probabilities(kinds)
        if batch_size < 1 or (length is not None and length < 1):
            raise ValueError(f"batch_size and length should be at least 1, found {batch_size} and {length}.")
        self.batch_size, self.joint_size = batch_size, batch_size * processes.count()
        self.length = self._default_length() if length is None else length
        self.seed = seed
        self.style = style
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose pairs the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        """The batches of the epoch, each a list of (moving index, fixed index), with ``style`` of its index, too."""
        mine = slice(processes.rank() * self.batch_size, (processes.rank() + 1) * self.batch_size)
        rng = np.random.default_rng([self.seed, self.epoch])
        drawn = rng.choice(list(self.kinds), self.length, p=list(self.kinds.values()))
        walks = {kind: self._walk(kind) for kind in self.kinds}
        styles = np.random.default_rng([self.seed, self.epoch, len(KINDS)])  # the stream after those of the kinds
        for kind in drawn:
            pairs = [next(walks[kind]) for _ in range(self.joint_size)]
            yield ([(*pair, self._other(pair, styles)) for pair in pairs] if self.style else pairs)[mine]

    def _other(self, pair: tuple[int, int], rng: np.random.Generator) -> int:
        """An unlabelled subject that is not in the pair."""
        others = [index for index in self.pools["unlabeled"] if index not in pair]
        if not others:
            raise ValueError(f"no unlabelled subject is left for a third image beside the pair {pair}; add another.")
        return int(rng.choice(others))

    def _walk(self, kind: str) -> Iterator[tuple[int, int]]:
        # A random stream of its own: how often another kind is drawn does not change the pairs of this one.
        rng = np.random.default_rng([self.seed, self.epoch, list(KINDS).index(kind)])
        moving, fixed = (self.pools[pool] for pool in KINDS[kind])
        while True:
            for number in rng.permutation(self._count(kind)):
                yield _pair_number(int(number), moving, fixed)

    def _count(self, kind: str) -> int:
        """How many pairs of different subjects this kind has."""
        if kind == "any":
            return sum(map(self._count, KINDS))
        moving, fixed = (self.pools[pool] for pool in KINDS[kind])
        return len(moving) * (len(fixed) - 1 if moving == fixed else len(fixed))

    def _default_length(self) -> int:
        pairs = len(self.pools["labeled"]) * len(self.pools["unlabeled"])
        return max(1, (pairs or sum(map(self._count, self.kinds))) // self.joint_size)

    def _probabilities(self, kinds: Mapping[str, float]) -> dict[str, float]:
        """How often each of the four kinds is drawn."""
        weights = {kind: float(kinds.get(kind, 0)) for kind in KINDS}
        for kind in KINDS:
            weights[kind] += kinds.get("any", 0) * self._count(kind) / max(1, self._count("any"))
        total = sum(weights.values())
        return {kind: weight / total for kind, weight in weights.items() if weight > 0}

    def _check(self, kinds: Mapping[str, float]) -> None:
        known = (*KINDS, "any")
        for kind, weight in kinds.items():
            if kind not in known:
                near = difflib.get_close_matches(kind, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"unknown kind of pair '{kind}'.{hint} Known: {', '.join(known)}.")
            if weight < 0:
                raise ValueError(f"the weight of '{kind}' should not be negative, found {weight}.")
            if weight > 0 and not self._count(kind):
                possible = [other for other in known if self._count(other)]
                raise ValueError(
                    f"there is no '{kind}' pair: {len(self.pools['labeled'])} labelled and "
                    f"{len(self.pools['unlabeled'])} unlabelled subjects were found.\n"
                    f"  Possible kinds: {', '.join(possible) or 'none; a pair needs two subjects'}."
                )
        if not any(kinds.values()):
            raise ValueError(f"no kind of pair has a weight above 0: {dict(kinds)}.")


class RingSampler(Sampler):
    """Batches of one pair in which each subject is fixed once and moving once: (0, 1), (1, 2), ..., (n-1, 0).

    The cheapest set of pairs that validates a registration on every case. A single subject is paired with itself.
    Several processes share the pairs, unless there are too few for each to get one: then each takes all of them, since
    MONAI's metrics cannot be gathered from a process that has none. Their means are the same either way.

    Args:
        dataset: anything with a length: the number of subjects.
    """

    def __init__(self, dataset: Sized) -> None:
        self.num_subjects = len(dataset)
        subjects = range(self.num_subjects)
        self.moving = list(subjects) if len(subjects) < processes.count() else processes.share(subjects)

    def __len__(self) -> int:
        """As many pairs as subjects, for a process alone."""
        return len(self.moving)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The pairs in order of their moving subject."""
        for moving in self.moving:
            yield [(moving, (moving + 1) % self.num_subjects)]


def ordered_pairs(n: int, max_pairs: int | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """List the pairs (moving, fixed) of n subjects for a test, all of them or a drawn part.

    Args:
        n: number of subjects.
        max_pairs: keep that many, drawn without replacement by ``seed``. ``None``, or more than there are: all.
        seed: of the draw.

    Returns:
        All n (n - 1) ordered pairs, moving index first and rising slowest; a drawn part is in the order of the draw.
    """
    subjects = tuple(range(n))
    total = n * (n - 1)
    numbers = range(total)
    if max_pairs is not None and max_pairs < total:
        numbers = np.random.default_rng(seed).choice(total, max_pairs, replace=False).tolist()
    return [_pair_number(number, subjects, subjects) for number in numbers]


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
    entries = read_json(path).get("pairs")
    if not entries:
        raise ValueError(f"{path} holds no list 'pairs'.")
    pairs = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not {"moving", "fixed"} <= entry.keys():
            raise ValueError(f"{path}: pair {number} should have a 'moving' and a 'fixed' case, found {entry!r}.")
        pair = {role: resolve_entry(entry[role], path, f"pairs/{role}") for role in ("moving", "fixed")}
        pairs.append(pair | ({"name": str(entry["name"])} if entry.get("name") else {}))
    return pairs


def _pair_number(number: int, moving: Sequence[int], fixed: Sequence[int]) -> tuple[int, int]:
    """Pair number ``number`` of moving x fixed in row-major order, where the two are disjoint or the same subjects."""
    if moving != fixed:
        return moving[number // len(fixed)], fixed[number % len(fixed)]
    i, j = divmod(number, len(fixed) - 1)
    return moving[i], fixed[j + (j >= i)]  # steps over the pair of a subject with itself


def _with_name(case: Mapping[str, Any]) -> dict[str, Any]:
    return {"case": case_name(case["image"]), **case}
