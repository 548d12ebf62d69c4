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
"""DeepRS in miniature: three tiny networks, a pair of 16^3 volumes, and the six terms, for the tests of the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from monai.networks.nets import UNet
from torch import nn

from scripts.joint.state import PairState
from scripts.joint.trainer import JointTrainer
from scripts.joint.updates import Term, Update
from scripts.losses.adversarial import AdversarialLoss, DiscriminatorLoss
from scripts.losses.confidence import AlignmentConfidenceLoss
from scripts.losses.cross_entropy import WarpedCrossEntropy
from scripts.losses.local_ncc import LocalNCC
from scripts.losses.region import RegionConstraint
from scripts.losses.smoothness import Smoothness
from scripts.networks.discriminator import PairDiscriminator
from scripts.networks.registration import VoxelMorph2

NUM_CLASSES, SIDE = 3, 16
ALTERNATING = (("discriminator",), ("registration",), ("segmentation",))
FUSED = (("discriminator", "registration", "segmentation"),)
SGD = partial(torch.optim.SGD, lr=0.01)
#: optimisers that leave the weights alone, so that all groups of a schedule see the same networks
STILL = partial(torch.optim.SGD, lr=0.0)

#: update -> term -> (loss, quantities, weight, required entries): the paper's system
TERMS = {
    "discriminator": {"alignment": (DiscriminatorLoss(), ("reference_logits", "alignment_logits"), 1.0, ())},
    "registration": {
        "similarity": (LocalNCC(window=5), ("warped_image", "fixed_image"), 1.0, ()),
        "smoothness": (Smoothness(), ("ddf",), 1.0, ()),
        "adversarial": (AdversarialLoss(), ("alignment_logits",), 0.1, ()),
        "region": (RegionConstraint(), ("warped_prob", "fixed_prob"), 10.0, ()),
    },
    "segmentation": {
        "augmented": (WarpedCrossEntropy(), ("sampled_pred", "sampled_label"), 1.0, ("moving_label",)),
        "weak": (AlignmentConfidenceLoss(), ("fixed_pred", "warped_label", "confidence"), 0.3, ("moving_label",)),
    },
}


class FixedScale:
    """A sampler that always draws the same factor, and counts how often it is asked."""

    def __init__(self, factor: float) -> None:
        self.factor, self.draws = factor, 0

    def __call__(self, batch_size: int, device: torch.device) -> torch.Tensor:
        self.draws += 1
        return torch.full((batch_size, 1, 1, 1, 1), self.factor, device=device)


def make_networks(seed: int = 0, dropout: float = 0.0, noise_std: float = 0.0) -> dict[str, nn.Module]:
    """R, S and D with instance norm; the field of the untrained R is some tenths of a voxel long."""
    torch.manual_seed(seed)
    unet = partial(UNet, spatial_dims=3, channels=(4, 8), strides=(2,), num_res_units=1, norm="INSTANCE")
    return {
        "registration": VoxelMorph2((4, 4), (4, 4, 4, 4, 4), flow_init_std=0.1),
        "segmentation": unet(in_channels=1, out_channels=NUM_CLASSES, dropout=dropout),
        "discriminator": PairDiscriminator(unet(in_channels=2, out_channels=1), noise_std=noise_std),
    }


def make_pair(labels: Sequence[str] = ("moving",), batch_size: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of pairs: smooth images, and random classes for the images named in ``labels``."""
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for role in ("moving", "fixed"):
        noise = torch.rand(batch_size, 1, SIDE, SIDE, SIDE, generator=generator)
        batch[f"{role}_image"] = nn.functional.avg_pool3d(noise, 3, stride=1, padding=1)
        if role in labels:
            shape = (batch_size, 1, SIDE, SIDE, SIDE)
            batch[f"{role}_label"] = torch.randint(NUM_CLASSES, shape, generator=generator, dtype=torch.uint8)
    return batch


def make_updates(
    networks: Mapping[str, nn.Module],
    names: Iterable[str] = tuple(TERMS),
    optimizer: Callable[..., torch.optim.Optimizer] = SGD,
    **timing: Mapping[str, int],
) -> dict[str, Update]:
    """The updates of DeepRS, those named; ``region={"start": 2}`` times the term ``region``."""
    updates = {}
    for name in names:
        terms = {
            key: Term(loss, quantities, weight, requires, **timing.get(key, {}))
            for key, (loss, quantities, weight, requires) in TERMS[name].items()
        }
        updates[name] = Update(networks[name], optimizer(networks[name].parameters()), terms)
    return updates


def make_trainer(
    networks: Mapping[str, nn.Module],
    updates: Mapping[str, Update],
    batches: Iterable[Mapping[str, torch.Tensor]],
    schedule: Sequence[Sequence[str]] | None = None,
    max_epochs: int = 1,
    state: Mapping[str, object] | None = None,
    device: str = "cpu",
    **options: object,
) -> JointTrainer:
    """A trainer, on the CPU unless told otherwise; without a schedule, each of the updates alone, in their order."""
    return JointTrainer(
        device=torch.device(device),
        max_epochs=max_epochs,
        train_data_loader=batches,
        networks=networks,
        updates=updates,
        schedule=[[name] for name in updates] if schedule is None else schedule,
        state=partial(PairState, num_classes=NUM_CLASSES, **(state or {})),
        **options,
    )


def train(*args: object, **options: object) -> JointTrainer:
    """Make a trainer as :func:`make_trainer` does, and run it."""
    trainer = make_trainer(*args, **options)
    trainer.run()
    return trainer


def linear_update(clip_norm: float | None = None) -> Update:
    """An update of two weights, zero at first, with a step of the whole gradient."""
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    return Update(network, optimizer, {"term": Term(lambda x: x, ["ddf"])}, clip_norm=clip_norm)


def gradients(network: nn.Module) -> dict[str, torch.Tensor | None]:
    """The gradient of each parameter, as the last backward pass left it."""
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the state of a network."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same_bits(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states of a network are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def count_forwards(networks: Mapping[str, nn.Module]) -> Counter:
    """How often each network is called from now on."""
    calls: Counter = Counter()
    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls
