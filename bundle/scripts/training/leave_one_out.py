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

"""Which way to join the votes of labelled cases is best, told by leaving out one of them after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from monai.metrics import compute_roc_auc
from torch import Tensor

from ..fields.metrics import dice_per_structure
from ..matching.clues import DIFFERENCE, Judge, learn_judge
from ..matching.match import Matching
from ..matching.vote import WEIGHTINGS, Atlas, LocalVote, carry, carry_again, carry_by, examples

__all__ = ["choose_vote", "mean_dice"]

Known = Mapping[tuple[str, str], tuple[Tensor, Tensor]]  # atlas, fixed -> what a judge learns from


def choose_vote(
    atlases: Sequence[Atlas],
    segment: Callable[[Tensor], Tensor],
    num_classes: int,
    matching: Matching,
    weighting: str | None = None,
) -> tuple[LocalVote, dict[str, float]]:
    """Have all labelled cases but one vote on that one, in each way, and take the best.

    A judge that has a say on a case has met it in no pair.

    Args:
        atlases: the labelled cases.
        segment: gives class probabilities (1, C, D, H, W) of an image, for the affine.
        num_classes: with background.
        matching: carries, by the images.
        weighting: to be taken, where it can be; None: the best.

    Returns:
        How to join, with a judge taught on all pairs where it is ``learned``; and figures: the mean Dice of each way
        and of a second turn of the best (``again``), and the areas under the ROC curve of telling right from wrong
        warped labels by difference and by judges (``auc_...``). A single case leaves nobody to vote: no figures.
    """
    ways = [name for name in WEIGHTINGS if name != "learned"]
    if len(atlases) < 2:
        return LocalVote(weighting if weighting in ways else ways[0]), {}
    known: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
    votes: list[dict[str, Tensor]] = []
    fields: list[list[Tensor]] = []
    for others, atlas in _left_out(atlases):
        carried = carry(others, atlas.image, segment(atlas.image), num_classes, matching)
        known |= {(one.case, atlas.case): examples(one, atlas.label) for one in carried}
        votes.append({name: LocalVote(name)(carried).half() for name in ways})
        fields.append([one.ddf.half() for one in carried])
    judges = {atlas.case: _judge(known, without=atlas.case) for atlas in atlases}
    if None not in judges.values():
        ways.append("learned")
        for (others, atlas), ddfs, vote in zip(_left_out(atlases), fields, votes, strict=True):
            pairs = zip(others, ddfs, strict=True)
            carried = [carry_by(other, atlas.image, ddf.float(), num_classes) for other, ddf in pairs]
            vote["learned"] = LocalVote("learned", judge=judges[atlas.case])(carried).half()
    figures = {
        name: _mean(mean_dice(vote[name], atlas.label) for vote, atlas in zip(votes, atlases, strict=True))
        for name in ways
    }
    best = weighting if weighting in ways else max(figures, key=lambda name: figures[name])
    again = []
    for (others, atlas), vote in zip(_left_out(atlases), votes, strict=True):
        join = LocalVote(best, judge=judges[atlas.case])
        carried = carry_again(others, atlas.image, vote[best].float(), num_classes, matching)
        again.append(mean_dice(join(carried), atlas.label))
    figures["again"] = _mean(again)
    figures |= {f"auc_{name}": value for name, value in _areas(known, judges).items()}
    turns = 2 if figures["again"] > figures[best] else 1
    return LocalVote(best, turns, _judge(known) if best == "learned" else None), figures


def mean_dice(prob: Tensor, label: Tensor) -> float:
    """Mean Dice over the structures of class scores (1, C, D, H, W) and a label (1, 1, D, H, W)."""
    classes = prob.argmax(dim=1, keepdim=True)
    return float(dice_per_structure(classes, label, prob.shape[1]).nanmean().nan_to_num())


def _left_out(atlases: Sequence[Atlas]) -> Iterator[tuple[list[Atlas], Atlas]]:
    """The others, and each."""
    return (([other for other in atlases if other is not atlas], atlas) for atlas in atlases)


def _judge(known: Known, without: str | None = None) -> Judge | None:
    """A judge of what is known of pairs, but for those with one case; None where no pair is left."""
    left = [example for pair, example in known.items() if without not in pair]
    return learn_judge(*(torch.cat(part) for part in zip(*left, strict=True))) if left else None


def _areas(known: Known, judges: Mapping[str, Judge | None]) -> dict[str, float]:
    """Areas under the ROC curve of telling right warped labels, by difference and by judges of other pairs."""
    found: dict[str, list[float]] = {"difference": [], "learned": []}
    for (_, fixed), (clues, right) in known.items():
        if 0 < int(right.sum()) < len(right):
            found["difference"].append(compute_roc_auc(-clues[:, DIFFERENCE], right.long()))
            if (judge := judges[fixed]) is not None:
                logits = clues @ judge.weights[:-1].to(clues.device)
                found["learned"].append(compute_roc_auc(logits, right.long()))
    return {name: _mean(values) for name, values in found.items() if values}


def _mean(values: Iterable[float]) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values)
