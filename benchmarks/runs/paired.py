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
"""How much one method differs from another on the same cases, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000

Scores = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Difference:
    """A mean difference, the ends of its 95 % interval, and the number of cases that both methods have."""

    mean: float
    low: float
    high: float
    n: int


def paired_difference(method: Sequence[Scores], reference: Sequence[Scores], seed: int = 0) -> Difference:
    """Bootstrap the mean over cases of (method - reference), each of them a mean over its runs.

    Two things vary: which cases were tested, and the seeds that the networks were trained with. Cases are drawn with
    replacement, the same ones for both methods, for a case that is hard is hard for both. Runs are drawn with
    replacement for each method by itself, for seed 0 of one method has nothing to do with seed 0 of another. Of k runs,
    a draw has only (k - 1) / k of the variance of a new training, which matters since k is 2 or 3; so the runs are
    first spread about their mean by sqrt(k / (k - 1)). With a single run nothing is known of its seed, and the interval
    is that of the cases alone: the table marks it. Pairs that share an image are taken for independent, which makes
    intervals of registration somewhat narrow.

    Args:
        method: for each run, case -> score.
        reference: the same of the other method; the number of runs may differ.
        seed: of the draws.

    Returns:
        Mean, 2.5th and 97.5th percentile; a difference that is the same in all runs and cases is its own interval.

    Raises:
        ValueError: when the runs have no case in common.
    """
    runs = [*method, *reference]
    cases = [case for case in runs[0] if all(case in run for run in runs)] if method and reference else []
    if not cases:
        raise ValueError(f"no case is in all runs, {len(method)} of the one and {len(reference)} of the other method.")
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=RESAMPLES) / len(cases)
    means, resampled = [], []
    for side in (method, reference):
        scores = np.array([[run[case] for case in cases] for run in side])
        means.append(scores.mean(axis=0))
        count = len(scores)
        spread = means[-1] + np.sqrt(count / max(count - 1, 1)) * (scores - means[-1])
        weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
        resampled.append(((weights @ spread) * drawn).sum(axis=1))
    low, high = np.percentile(resampled[0] - resampled[1], (2.5, 97.5))
    return Difference(float((means[0] - means[1]).mean()), float(low), float(high), len(cases))
