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
"""Labels that do not say everything: how terms compare what such a label says, and nothing else.

A voxel that bears no structure may show one that was not drawn in this case. It therefore counts as "background or one
of these", with the sum of their probabilities; and a voxel to be ignored counts as background that was found. Losses
stay as they are: it is their arguments that are merged, so that a merged class is one that neither side has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.utils import one_hot
from torch import Tensor

__all__ = ["merge_unknown", "partial_one_hot"]

WHOLE = 1 - 1e-4  # a voxel that a warp made of known ones alone
NEVER = -1e4  # logit of a class that a voxel cannot be: its probability is 0 in float32, also beside others
SHARES = ("_prob", "_label", "_anatomy", "_regions")  # endings of quantities with a share for each class


def partial_one_hot(classes: Tensor, num_classes: int, missing: Tensor) -> Tensor:
    """One-hot label and, in as many channels again, where each class is known: both move together under a warp.

    Args:
        classes: (B, 1, D, H, W); ``num_classes`` at voxels to be ignored.
        num_classes: with the background.
        missing: true for the classes that were not drawn in a case, (B, K) with K of at least ``num_classes``.

    Returns:
        (B, 2 num_classes, D, H, W), float32. At an ignored voxel all is 0.
    """
    classes = classes.long()
    label = one_hot(classes, num_classes + 1, dtype=torch.float32)[:, :num_classes]
    drawn = ~missing[:, :num_classes, None, None, None]
    return torch.cat([label, (drawn & (classes != num_classes)).to(label)], dim=1)


def merge_unknown(values: Sequence[Tensor], names: Sequence[str], num_classes: int) -> list[Tensor]:
    """Merge, in the arguments of a loss, the classes that a partial label among them says nothing of.

    With U the classes that a voxel may be without its label saying so: p_0 becomes p_0 + sum of p_c over U, and p_c
    becomes 0 for c in U. Where a voxel is to be ignored, also in part or because a warp brought it from outside, p_0
    is 1 on all sides, and there is no gradient.

    Args:
        values: arguments of a loss. Those of twice ``num_classes`` channels are of :func:`partial_one_hot`, warped or
            not; without one, all stay as they are.
        names: of the quantities: ``*_pred`` are logits, and those of :data:`SHARES` have a share for each class.
        num_classes: with the background.

    Returns:
        The arguments; partial labels with ``num_classes`` channels.
    """
    partial = [value.ndim == 5 and value.shape[1] == 2 * num_classes for value in values]
    if not any(partial):
        return list(values)
    known = [value[:, num_classes:] > WHOLE for value, is_partial in zip(values, partial, strict=True) if is_partial]
    unknown = ~torch.stack(known).all(dim=0)
    merged = []
    for value, name, is_partial in zip(values, names, partial, strict=True):
        if is_partial:
            value = _merge_shares(value[:, :num_classes], unknown)
        elif name.endswith("_pred"):
            value = _merge_logits(value, unknown)
        elif name.endswith(SHARES):
            value = _merge_shares(value, unknown)
        merged.append(value)
    return merged


def _merge_shares(shares: Tensor, unknown: Tensor) -> Tensor:
    rest = shares.masked_fill(unknown, 0)
    background = shares[:, :1] + shares[:, 1:].masked_fill(~unknown[:, 1:], 0).sum(dim=1, keepdim=True)
    return torch.cat([background.masked_fill(unknown[:, :1], 1), rest[:, 1:]], dim=1)


def _merge_logits(logits: Tensor, unknown: Tensor) -> Tensor:
    background = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(~unknown[:, 1:], NEVER)], dim=1)
    background = background.logsumexp(dim=1, keepdim=True).masked_fill(unknown[:, :1], 0)
    return torch.cat([background, logits[:, 1:].masked_fill(unknown[:, 1:], NEVER)], dim=1)
