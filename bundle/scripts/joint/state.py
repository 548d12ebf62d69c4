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
from itertools import takewhile
from typing import Any, ClassVar

import torch
from monai.networks.utils import one_hot

from ..fields.warping import warp_together
from ..losses.partial_labels import merge_unknown, partial_one_hot
from ..networks.passes import passed
from .parts import DISCRIMINATED, MADE_OF, SEGMENTED, SHARED, WARPED, Shared, with_parts
from .sampling import Identity


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
        wanted: names of the quantities that will be read. Predictions among them, and among what they are made of, are
            made in one batch of the network, which is exact with instance norm, and faster on a CPU than one at a time;
            and one pass over a field warps all that it warps.
        carried: quantities computed elsewhere, taken as they are.
        amp_dtype: run the networks in this type under autocast; fields, warps and losses stay float32.
    """

    #: a subclass that makes one of these otherwise says anew what it shares
    shared: ClassVar[Mapping[str, Shared]] = SHARED
    #: what is drawn on the CPU; None where draws there decide what is computed
    drawn: ClassVar[Sequence[str] | None] = ("sampling_factor",)
    made_of: ClassVar[Mapping[str, Sequence[str]]] = MADE_OF

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        inherited = super(cls, cls).made_of
        cls.made_of = {name: parts for name, parts in inherited.items() if name not in own} | own.get("made_of", {})
        since = takewhile(lambda base: "shared" not in vars(base), cls.__mro__)  # it was said; also what is mixed in
        if set().union(*map(vars, since)) & {*cls.shared, "moving_image", "fixed_image", "moving_label"}:
            cls.shared = {}

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
        self.wanted = with_parts(wanted, self.made_of)
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
        return self._warp("warped_image")

    @cached_property
    def warped_label(self) -> torch.Tensor:
        """W(y_m, field): the moving label on the fixed grid, soft; all zero where it comes from outside the volume."""
        return self._warp("warped_label")

    @cached_property
    def warped_moving_prob(self) -> torch.Tensor:
        """W(S(x_m), field): the class probabilities of the moving image, carried along by the field.

        The other order of segmenting and warping than ``warped_prob``: what it teaches does not pass through the
        segmentation network on its way to the field.
        """
        return self._warp("warped_moving_prob")

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
        return self._warp("sampled_image")

    @cached_property
    def sampled_label(self) -> torch.Tensor:
        """The moving label, warped exactly as ``sampled_image``."""
        return self._warp("sampled_label")

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

    def _together(self, name: str, kind: Mapping[str, Any]) -> list[str]:
        """``name``, and what else of its kind is wanted, not yet there, and made as it is here, not in a subclass."""
        mine = vars(PairState)
        others = (q for q in kind if q in self.wanted and q not in self.__dict__ and getattr(type(self), q) is mine[q])
        return [name, *(q for q in others if q != name)]

    def _warp(self, name: str) -> torch.Tensor:
        _, field = (getattr(self, part) for part in WARPED[name])
        by_field = {q: source for q, (source, by) in WARPED.items() if by == WARPED[name][1]}
        names = [q for q in self._together(name, by_field) if q == name or self._is_at_hand(by_field[q])]
        warped = warp_together([getattr(self, by_field[q]) for q in names], field)
        self.__dict__.update(zip(names, warped, strict=True))
        return self.__dict__[name]

    def _is_at_hand(self, source: str) -> bool:
        """Whether it may be asked for now: probabilities may come in one batch with those of the warped image."""
        return (
            source in self.__dict__ or source == "moving_image" or (source == "moving_label" and source in self.batch)
        )

    def _segment(self, name: str) -> torch.Tensor:
        names = self._together(name, SEGMENTED)
        predictions = self._forward("segmentation", torch.cat([getattr(self, SEGMENTED[q]) for q in names]))
        self.__dict__.update(zip(names, predictions.chunk(len(names)), strict=True))
        return self.__dict__[name]

    def _discriminate(self, name: str) -> torch.Tensor:
        names = self._together(name, DISCRIMINATED)
        candidates = torch.cat([getattr(self, DISCRIMINATED[q]) for q in names])
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
