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
"""DeepRS as one writes it who puts it together from MONAI's parts, and MONAI's VoxelMorph trained alone.

To measure against, not to train with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, DiffusionLoss, LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks import Warp
from monai.networks.nets import VoxelMorph
from monai.networks.utils import one_hot
from torch import Tensor


class NaiveTraining:
    """The three networks, trained in turns as GANs are: each step computes all that it reads.

    With the schedule of the paper R runs three times, S of the fixed image twice, D of the warped image three times.
    Steps detach what comes from other networks, but do not spare them their forward pass with a graph, nor, where the
    gradient passes through them, the gradient of their weights.

    Args:
        networks: ``registration``, ``segmentation``, ``discriminator``.
        optimizers: of each.
        schedule: the steps, groups of names, in order.
        num_classes: with background.
        amp_dtype: of the networks, under autocast; None: float32.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        schedule: Sequence[Sequence[str]],
        num_classes: int,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.networks, self.optimizers, self.schedule = networks, optimizers, schedule
        self.num_classes, self.amp_dtype = num_classes, amp_dtype
        self.warp = Warp(mode="bilinear", padding_mode="zeros")
        self.similarity = LocalNormalizedCrossCorrelationLoss(3, kernel_size=9)
        self.smoothness, self.overlap = DiffusionLoss(), DiceLoss(softmax=True, include_background=False)
        self.losses: dict[str, Tensor] = {}

    def __call__(self, batch: Mapping[str, Tensor]) -> None:
        """One iteration.

        Args:
            batch: ``moving_image``, ``fixed_image`` (B, 1, D, H, W) and ``moving_label``, classes, on the device.
        """
        moving, fixed = batch["moving_image"], batch["fixed_image"]
        label = one_hot(batch["moving_label"].long(), self.num_classes)
        for name in (name for group in self.schedule for name in group):
            loss = getattr(self, f"_{name}_loss")(moving, fixed, label)
            self.optimizers[name].zero_grad()
            loss.backward()
            self.optimizers[name].step()
            self.losses[name] = loss.detach()

    def _discriminator_loss(self, moving: Tensor, fixed: Tensor, label: Tensor) -> Tensor:
        warped = self.warp(moving, self._run("registration", moving, fixed)).detach()
        real = self._run("discriminator", 0.2 * moving + 0.8 * fixed, fixed)
        fake = self._run("discriminator", warped, fixed)
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def _registration_loss(self, moving: Tensor, fixed: Tensor, label: Tensor) -> Tensor:
        ddf = self._run("registration", moving, fixed)
        warped = self.warp(moving, ddf)
        deceived = F.softplus(-self._run("discriminator", warped, fixed)).mean()
        carried = self.warp(self._run("segmentation", moving).softmax(1), ddf)
        region = F.mse_loss(carried, self._run("segmentation", fixed).softmax(1).detach())
        return self.similarity(warped, fixed) + 5 * self.smoothness(ddf) + 0.1 * deceived + 600 * region

    def _segmentation_loss(self, moving: Tensor, fixed: Tensor, label: Tensor) -> Tensor:
        ddf = self._run("registration", moving, fixed).detach()
        alpha = torch.rand(len(ddf), 1, 1, 1, 1, device=ddf.device)
        pred = self._run("segmentation", self.warp(moving, alpha * ddf))
        sampled = self.warp(label, alpha * ddf)
        confidence = self._run("discriminator", self.warp(moving, ddf), fixed).sigmoid().detach()
        entropy = F.cross_entropy(self._run("segmentation", fixed), self.warp(label, ddf), reduction="none")
        weak = (confidence[:, 0] * entropy).mean()
        return F.cross_entropy(pred, sampled) + self.overlap(pred, sampled) + weak

    def _run(self, name: str, *inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            return self.networks[name](*inputs).float()  # MONAI's local correlation is wrong in bfloat16


class MonaiVoxelMorph:
    """``monai.networks.nets.VoxelMorph`` as it comes, trained by local correlation and a diffusion penalty.

    Args:
        device: where.
        amp_dtype: of its U-Net, under autocast; None: float32.
        learning_rate: of Adam.
    """

    def __init__(self, device: str, amp_dtype: torch.dtype | None = None, learning_rate: float = 1e-4) -> None:
        self.network, self.amp_dtype = VoxelMorph().to(device), amp_dtype
        self.similarity = LocalNormalizedCrossCorrelationLoss(3, kernel_size=9)
        self.smoothness = DiffusionLoss()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        self.losses: dict[str, Tensor] = {}

    def __call__(self, batch: Mapping[str, Tensor]) -> None:
        """One iteration on ``moving_image`` and ``fixed_image`` (B, 1, D, H, W), on the device."""
        moving, fixed = batch["moving_image"], batch["fixed_image"]
        with torch.autocast(moving.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
            velocity = self.network.backbone(torch.cat([moving, fixed], dim=1))
        ddf = self.network.dvf2ddf(velocity.float())  # as its forward pass does, where all is float32
        loss = self.similarity(self.network.warp(moving, ddf), fixed) + self.smoothness(ddf)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses["registration"] = loss.detach()
