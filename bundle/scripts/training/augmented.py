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
"""An augmentation works on what every pair has, or says that a part may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data.samplers import KINDS

__all__ = ["refuse_missing_keys"]


def refuse_missing_keys(config: Mapping[str, Any]) -> None:
    """Refuse an augmentation that the first pair without a label would stop.

    Args:
        config: merged, not resolved; other than of a training, it is left alone.

    Raises:
        ValueError: names the transform, the key, and what to add.
    """
    train = config.get("train")
    sampler = train.get("sampler") if isinstance(train, Mapping) else None
    if not isinstance(sampler, Mapping) or not isinstance(sampler.get("kinds"), Mapping):
        return
    always = _in_every_pair(sampler)
    for transform in _transforms(config.get("augmentation")):
        keys = transform.get("keys", ())
        for key in [keys] if isinstance(keys, str) else keys:
            if key not in always and not key.startswith(("$", "@")) and not transform.get("allow_missing_keys"):
                raise ValueError(
                    f"augmentation: {transform['_target_']} works on `{key}`, which not every pair has of those that "
                    "`train::sampler::kinds` draws. Add `allow_missing_keys: true` to it, or take the key out."
                )


def _in_every_pair(sampler: Mapping[str, Any]) -> set[str]:
    kinds = [kind for kind, weight in sampler["kinds"].items() if weight]
    keys = {"moving_image", "fixed_image"} | ({"style_image"} if sampler.get("style") else set())
    for place, role in enumerate(("moving", "fixed")):
        if all(KINDS.get(kind, ("any", "any"))[place] == "labeled" for kind in kinds):
            keys.add(f"{role}_label")
    return keys


def _transforms(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, Mapping):
        if "_target_" in content and "keys" in content:
            yield content
        yield from (found for part in content.values() for found in _transforms(part))
    elif isinstance(content, list):
        yield from (found for part in content for found in _transforms(part))
