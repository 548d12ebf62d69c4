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
"""Validation of both tasks at once: every case segmented, every pair registered, as training left the networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import Evaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer

from ..joint.state import PairState
from ..joint.trainer import to_device
from .options import TASKS, checked_tasks


class JointEvaluator(Evaluator):
    """Segments the fixed image of every pair and registers the moving one onto it, by the state of the trainer.

    The output holds ``pred`` (logits of the fixed image) and ``label`` for segmentation, ``warped_label`` (soft) and
    ``registered_label`` for registration, these labels as class indices (B, 1, D, H, W). The two differ where labels do
    not say everything, which is then left out on both sides. Handlers find the field of the pair as
    ``engine.state.ddf`` (B, 3, D, H, W), None where registration is no task. The state of the last pair stays readable
    as ``engine.state.pair`` until the next run.

    Args:
        device: where the pairs and networks live.
        val_data_loader: yields pairs in which both images are labelled.
        networks: name -> network, for the state.
        state: makes the state of a pair.
        tasks: ``segmentation``, ``registration`` or both; what is not named is not computed.
        inferer: how the segmentation network is applied to the fixed image.
        postprocessing, key_val_metric, additional_metrics, val_handlers, amp, amp_kwargs: as in MONAI's evaluators.
    """

    def __init__(
        self,
        device: torch.device | str,
        val_data_loader: Iterable[Any],
        networks: Mapping[str, torch.nn.Module],
        state: Callable[..., PairState],
        tasks: str | Collection[str] = TASKS,
        inferer: Inferer | None = None,
        postprocessing: Callable | None = None,
        key_val_metric: dict | None = None,
        additional_metrics: dict | None = None,
        val_handlers: Sequence | None = None,
        amp: bool = False,
        amp_kwargs: dict | None = None,
    ) -> None:
        self.networks, self.make_state, self.tasks = dict(networks), state, checked_tasks(tasks)
        self.inferer = SimpleInferer() if inferer is None else inferer
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            postprocessing=postprocessing,
            key_val_metric=key_val_metric,
            additional_metrics=additional_metrics,
            val_handlers=val_handlers,
            amp=amp,
            amp_kwargs=amp_kwargs,
        )

    def last_pair(self) -> PairState:
        """The state of the last pair that was validated."""
        return self.state.pair

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        batch = to_device(batchdata, self.state.device)
        for network in self.networks.values():
            network.eval()
        amp_dtype = self.amp_kwargs.get("dtype", torch.bfloat16) if self.amp else None
        pair = self.state.pair = self.make_state(batch, self.networks, amp_dtype=amp_dtype)
        output = {"image": pair.fixed_image, "label": batch["fixed_label"]}
        with torch.no_grad():
            if "segmentation" in self.tasks:
                device = pair.fixed_image.device.type
                with torch.autocast(device, dtype=amp_dtype, enabled=amp_dtype is not None):
                    output["pred"] = self.inferer(pair.fixed_image, self.networks["segmentation"]).float()
            if "registration" in self.tasks:
                output |= {"warped_label": pair.warped_label, "registered_label": batch["fixed_label"]}
            if "fixed_missing" in batch:
                self._leave_out_unknown(pair, output)
        self.state.ddf = pair.computed("ddf")
        self.state.output = output
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _leave_out_unknown(self, pair: PairState, output: dict[str, torch.Tensor]) -> None:
        """What a label says nothing of becomes background on both sides; a structure that is nowhere has no Dice."""
        (truth,) = pair.compared(["fixed_label"])
        output["label"] = truth.argmax(dim=1, keepdim=True)
        for pred, name, label in (
            ("pred", "fixed_pred", "label"),
            ("warped_label", "warped_label", "registered_label"),
        ):
            if pred in output:
                output[pred], truth = pair.compared([name, "fixed_label"], [output[pred], pair.fixed_label])
                output[label] = truth.argmax(dim=1, keepdim=True)
