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
"""Which pairs an epoch, a validation and a test are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence, Sized

import numpy as np
from torch.utils.data import Sampler

from ..files import processes
from .pairs import PairDataset

__all__ = ["PairSampler", "RingSampler", "ordered_pairs"]


# Where the moving and the fixed subject of each kind of pair come from. `any` is all of them together.
KINDS = {
    "labeled_unlabeled": ("labeled", "unlabeled"),
    "unlabeled_labeled": ("unlabeled", "labeled"),
    "labeled_labeled": ("labeled", "labeled"),
    "unlabeled_unlabeled": ("unlabeled", "unlabeled"),
}


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
                yield pair_number(int(number), moving, fixed)

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
    return [pair_number(number, subjects, subjects) for number in numbers]


def pair_number(number: int, moving: Sequence[int], fixed: Sequence[int]) -> tuple[int, int]:
    """Pair number ``number`` of moving x fixed in row-major order, where the two are disjoint or the same subjects."""
    if moving != fixed:
        return moving[number // len(fixed)], fixed[number % len(fixed)]
    i, j = divmod(number, len(fixed) - 1)
    return moving[i], fixed[j + (j >= i)]  # steps over the pair of a subject with itself
