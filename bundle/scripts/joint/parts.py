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
"""What the quantities of a pair are made of, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

#: predictions of the segmentation network and the image each is made of
SEGMENTED = {
    "moving_pred": "moving_image",
    "fixed_pred": "fixed_image",
    "warped_pred": "warped_image",
    "sampled_pred": "sampled_image",
}
#: outputs of the discriminator and the candidate each one scores
DISCRIMINATED = {
    "reference_logits": "reference_image",
    "alignment_logits": "warped_image",
    "sampled_alignment_logits": "sampled_image",
}
#: what is warped by a field, and by which
WARPED = {
    "warped_image": ("moving_image", "ddf"),
    "warped_label": ("moving_label", "ddf"),
    "warped_moving_prob": ("moving_prob", "ddf"),
    "sampled_image": ("moving_image", "sampled_ddf"),
    "sampled_label": ("moving_label", "sampled_ddf"),
}
#: what quantities are made of, as far as it is worth knowing beforehand
MADE_OF: Mapping[str, Sequence[str]] = {
    "moving_prob": ["moving_pred"],
    "fixed_prob": ["fixed_pred"],
    "warped_prob": ["warped_pred"],
    "sampled_prob": ["sampled_pred"],
    "warped_pred": ["warped_image"],
    "sampled_pred": ["sampled_image"],
    "warped_moving_prob": ["moving_prob"],
    "agreement": ["warped_moving_prob", "fixed_prob"],
    "alignment_logits": ["warped_image"],
    "sampled_alignment_logits": ["sampled_image"],
    "sampled_ddf": ["sampling_factor"],
    "sampled_image": ["sampled_ddf"],
    "sampled_label": ["sampled_ddf"],
    "confidence": ["alignment_logits"],
    "sampled_confidence": ["sampled_alignment_logits"],
}


class Shared(NamedTuple):
    """A quantity that is the same for all updates of a pair, until a network that it is made by has moved.

    Args:
        made_by: names of these networks.
        taught: those of them that a loss of the quantity teaches; a gradient reaches no other.
    """

    made_by: frozenset[str] = frozenset()
    taught: frozenset[str] = frozenset()


#: what one group of updates may take from the one before
SHARED = {
    **dict.fromkeys(("moving_label", "fixed_label"), Shared()),
    **dict.fromkeys(
        ("ddf", "warped_image", "warped_label"), Shared(frozenset({"registration"}), frozenset({"registration"}))
    ),
}


def with_parts(names: Collection[str], made_of: Mapping[str, Sequence[str]]) -> set[str]:
    """Names, and those of all that they are made of."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += made_of.get(name, ())
    return found
