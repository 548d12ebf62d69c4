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
"""Everything that can be computed from one pair of images, each quantity at most once.

A loss term names the quantities it reads; :class:`PairState` computes them when they are first read. Forward passes and
random draws therefore happen once per pair however many terms share them, and not at all when no term needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from monai.networks.utils import one_hot

from ..fields.warping import warp
from ..losses.partial_labels import merge_unknown, partial_one_hot
from ..networks.passes import passed
from .sampling import Identity

#: predictions of the segmentation network and the image each is made of
_SEGMENTED = {
    "moving_pred": "moving_image",
    "fixed_pred": "fixed_image",
    "warped_pred": "warped_image",
    "sampled_pred": "sampled_image",
}
#: outputs of the discriminator and the candidate each one scores
_DISCRIMINATED = {
    "reference_logits": "reference_image",
    "alignment_logits": "warped_image",
    "sampled_alignment_logits": "sampled_image",
}


class PairState:
    """The quantities of a pair (moving, fixed): images, labels, field, warps, predictions, confidence.

    Symbols of the paper: x_m, x_f are ``moving_image`` and ``fixed_image``; y_m is ``moving_label``; the field is
    ``ddf`` and its sampled form ``sampled_ddf``; W(x_m, field) is ``warped_image``; S(x_f) is ``fixed_pred`` before
    and ``fixed_prob`` after softmax; D(W(x_m, field), x_f) is ``alignment_logits`` and, after the sigmoid,
    ``confidence``.
    Images are (B, 1, D, H, W) in [0, 1]; labels and predictions (B, num_classes, D, H, W) with background as channel 0.

    Args:
        batch: tensors ``moving_image``, ``fixed_image`` and, for labelled cases, ``moving_label``, ``fixed_label`` as
            class indices (B, 1, D, H, W). With ``moving_missing`` (B, K), true at the classes that were not drawn, the
            index ``num_classes`` marks voxels to be ignored, and ``moving_label`` has further channels, which
            ``compared`` reads (:mod:`scripts.losses.partial_labels`); so with ``fixed_missing``.
        networks: ``registration``, ``segmentation``, ``discriminator``; only those that are read have to be there.
        num_classes: classes with background.
        sampling: how the field is scaled to make training data (see :mod:`scripts.joint.sampling`).
        reference_blend: beta of the reference image, the share of the moving image in it (Section 3.2).
        learning: names of the networks whose parameters are being taught. A forward pass keeps its graph only when its
            network, or something it depends on, is among them.
        wanted: names of the quantities that will be read. Predictions in it are made in one batch of the network, which
            is exact with instance norm, and faster on a CPU than one at a time.
        carried: quantities computed elsewhere, taken as they are.
        amp_dtype: run the networks in this type under autocast; fields, warps and losses stay float32.
    """

    def __init__(
        self,
        batch: Mapping[str, Any],
        networks: Mapping[str, torch.nn.Module],
        *,
        num_classes: int,
        sampling: Any = None,
        reference_blend: float = 0.2,
        learning: Collection[str] = (),
        wanted: Collection[str] = (),
        carried: Mapping[str, torch.Tensor] | None = None,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.batch = batch
        self.networks = networks
        self.num_classes = num_classes
        self.sampling = Identity() if sampling is None else sampling
        self.reference_blend = reference_blend
        self.learning = learning
        self.wanted = wanted
        self.amp_dtype = amp_dtype
        self.__dict__.update(carried or {})  # where a cached_property looks first

    @classmethod
    def quantities(cls) -> list[str]:
        """Names of all the quantities that a term may read, in alphabetical order."""
        return sorted(
            {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, cached_property)}
        )

    @classmethod
    def required(cls, tasks: Sequence[str], **settings: Any) -> list[str]:
        """Names of the networks that must be there for tasks; ``settings`` are those of the state."""
        return [task for task in ("segmentation", "registration") if task in tasks]

    def computed(self, name: str) -> torch.Tensor | None:
        """The quantity when it has been computed or carried over, else None; never computes it."""
        return self.__dict__.get(name)

    def compared(self, names: Sequence[str], values: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Quantities as they may be compared: what a label among them says nothing of is merged in all of them.

        Args:
            names: of the quantities.
            values: in their place; None: they are computed.
        """
        values = [getattr(self, name) for name in names] if values is None else values
        return merge_unknown(values, names, self.num_classes)

    @staticmethod
    def of_field(ddf: torch.Tensor) -> dict[str, torch.Tensor]:
        """What to carry into a state so that ``ddf`` is its field: for refinement."""
        return {"ddf": ddf}

    # ---- the pair itself

    @cached_property
    def moving_image(self) -> torch.Tensor:
        """x_m: the image that is pulled onto the fixed one."""
        return self.batch["moving_image"]

    @cached_property
    def fixed_image(self) -> torch.Tensor:
        """x_f: the image that stays, and whose grid every warped quantity is on."""
        return self.batch["fixed_image"]

    @cached_property
    def moving_label(self) -> torch.Tensor:
        """y_m: one-hot label of the moving image."""
        return self._one_hot("moving_label")

    @cached_property
    def fixed_label(self) -> torch.Tensor:
        """y_f: one-hot label of the fixed image, where there is one."""
        return self._one_hot("fixed_label")

    # ---- registration

    @cached_property
    def ddf(self) -> torch.Tensor:
        """The field of the registration network: displacement in voxels (B, 3, D, H, W), float32."""
        return self._forward("registration", self.moving_image, self.fixed_image)

    @cached_property
    def warped_image(self) -> torch.Tensor:
        """W(x_m, field): the moving image on the fixed grid."""
        return warp(self.moving_image, self.ddf)

    @cached_property
    def warped_label(self) -> torch.Tensor:
        """W(y_m, field): the moving label on the fixed grid, soft; all zero where it comes from outside the volume."""
        return warp(self.moving_label, self.ddf)

    @cached_property
    def warped_moving_prob(self) -> torch.Tensor:
        """W(S(x_m), field): the class probabilities of the moving image, carried along by the field.

        The other order of segmenting and warping than ``warped_prob``: what it teaches does not pass through the
        segmentation network on its way to the field.
        """
        return warp(self.moving_prob, self.ddf)

    # ---- deep structure sampling (Section 3.1)

    @cached_property
    def sampling_factor(self) -> torch.Tensor:
        """alpha: how much of the field is applied, one draw per sample (B, 1, 1, 1, 1)."""
        return self.sampling(self.fixed_image.shape[0], self.fixed_image.device)

    @cached_property
    def sampled_ddf(self) -> torch.Tensor:
        """alpha times the field."""
        return self.sampling_factor * self.ddf

    @cached_property
    def sampled_image(self) -> torch.Tensor:
        """The moving image part of the way to the fixed one."""
        return warp(self.moving_image, self.sampled_ddf)

    @cached_property
    def sampled_label(self) -> torch.Tensor:
        """The moving label, warped exactly as ``sampled_image``."""
        return warp(self.moving_label, self.sampled_ddf)

    # ---- segmentation

    @cached_property
    def moving_pred(self) -> torch.Tensor:
        """S(x_m), logits."""
        return self._segment("moving_pred")

    @cached_property
    def fixed_pred(self) -> torch.Tensor:
        """S(x_f), logits."""
        return self._segment("fixed_pred")

    @cached_property
    def warped_pred(self) -> torch.Tensor:
        """S(W(x_m, field)), logits."""
        return self._segment("warped_pred")

    @cached_property
    def sampled_pred(self) -> torch.Tensor:
        """S of ``sampled_image``, logits."""
        return self._segment("sampled_pred")

    @cached_property
    def moving_prob(self) -> torch.Tensor:
        """Class probabilities of the moving image."""
        return self.moving_pred.softmax(dim=1)

    @cached_property
    def fixed_prob(self) -> torch.Tensor:
        """Class probabilities of the fixed image."""
        return self.fixed_pred.softmax(dim=1)

    @cached_property
    def warped_prob(self) -> torch.Tensor:
        """Class probabilities of the warped image."""
        return self.warped_pred.softmax(dim=1)

    @cached_property
    def sampled_prob(self) -> torch.Tensor:
        """Class probabilities of ``sampled_image``."""
        return self.sampled_pred.softmax(dim=1)

    # ---- discrimination

    @cached_property
    def reference_image(self) -> torch.Tensor:
        """x_r = beta x_m + (1 - beta) x_f: what the discriminator is told is well aligned (Section 3.2)."""
        return self.reference_blend * self.moving_image + (1 - self.reference_blend) * self.fixed_image

    @cached_property
    def reference_logits(self) -> torch.Tensor:
        """D(x_r, x_f), logits."""
        return self._discriminate("reference_logits")

    @cached_property
    def alignment_logits(self) -> torch.Tensor:
        """D(W(x_m, field), x_f), logits."""
        return self._discriminate("alignment_logits")

    @cached_property
    def sampled_alignment_logits(self) -> torch.Tensor:
        """D of ``sampled_image`` and the fixed image, logits."""
        return self._discriminate("sampled_alignment_logits")

    @cached_property
    def confidence(self) -> torch.Tensor:
        """The alignment confidence map of the warped image: probability (B, 1, D, H, W) that a voxel is aligned."""
        return self.alignment_logits.sigmoid()

    @cached_property
    def sampled_confidence(self) -> torch.Tensor:
        """The alignment confidence map of ``sampled_image`` (Eq. 1 as printed)."""
        return self.sampled_alignment_logits.sigmoid()

    @cached_property
    def agreement(self) -> torch.Tensor:
        """Probability (B, 1, D, H, W) that a voxel and what the field brings there are of one class, says S."""
        return (self.warped_moving_prob * self.fixed_prob).sum(dim=1, keepdim=True)

    @property
    def has_confidence(self) -> bool:
        """Whether the networks at hand can make ``confidence``."""
        return "discriminator" in self.networks

    # ---- how they are computed

    def _one_hot(self, name: str) -> torch.Tensor:
        if name not in self.batch:
            raise KeyError(f"this pair has no '{name}'; a term that reads it needs `requires: [{name}]` to sit it out.")
        if (missing := self.batch.get(name.replace("_label", "_missing"))) is not None:
            return partial_one_hot(self.batch[name], self.num_classes, missing)
        return one_hot(self.batch[name].long(), self.num_classes, dtype=torch.float32)

    def _forward(self, name: str, *inputs: torch.Tensor, method: str = "__call__") -> torch.Tensor:
        taught = name in self.learning or any(x.requires_grad for x in inputs)
        device = inputs[0].device.type
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and taught),
            torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None),
        ):
            output = passed(self.networks[name], *inputs, method=method)
        return output if self.amp_dtype is None else output.float()

    def _segment(self, name: str) -> torch.Tensor:
        carried = {"warped_moving_prob": "moving_pred"}
        wanted = {carried.get(q, q.replace("_prob", "_pred")) for q in self.wanted}
        names = [q for q in _SEGMENTED if q == name or (q in wanted and q not in self.__dict__)]
        images = [getattr(self, _SEGMENTED[q]) for q in names]
        predictions = self._forward("segmentation", torch.cat(images)).chunk(len(names))
        self.__dict__.update(zip(names, predictions, strict=True))
        return self.__dict__[name]

    def _discriminate(self, name: str) -> torch.Tensor:
        maps = {"confidence": "alignment_logits", "sampled_confidence": "sampled_alignment_logits"}
        read = {maps.get(q, q) for q in self.wanted}
        names = [q for q in _DISCRIMINATED if q == name or (q in read and q not in self.__dict__)]
        candidates = torch.cat([getattr(self, _DISCRIMINATED[q]) for q in names])
        fixed = self.fixed_image.repeat(len(names), 1, 1, 1, 1)
        logits = self._forward("discriminator", candidates, fixed).chunk(len(names))
        self.__dict__.update(zip(names, logits, strict=True))
        return self.__dict__[name]


def required_networks(state: Callable[..., PairState], tasks: str | Sequence[str]) -> list[str]:
    """Names of the networks whose weights must be there for tasks, whatever the recipe.

    Args:
        state: a state class, or a partial of it.
        tasks: ``segmentation``, ``registration``, or both.
    """
    kind, settings = (state.func, state.keywords) if isinstance(state, partial) else (state, {})
    required = getattr(kind, "required", PairState.required)  # a function that makes a state says nothing
    return required([tasks] if isinstance(tasks, str) else tasks, **settings)
