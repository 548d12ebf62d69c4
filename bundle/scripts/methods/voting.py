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

"""Segmentation by the labelled cases themselves: carried onto each image, where they vote, in place of the network."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.config import KeysCollection
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor, nn

from ..data.cases import load_cases
from ..data.readers import load_volume
from ..data.review import estimated_dice, overlaps, touching
from ..data.transforms import LabelsToClassesd, preprocess
from ..data.volumes import lay_label
from ..fields.grids import voxel_points
from ..fields.world import sample_label_at
from ..matching.clues import Judge
from ..matching.match import Matching
from ..matching.vote import WEIGHTINGS, Atlas, LocalVote, refuse_partly_labeled, take_vote
from ..networks.weights import read_saved

__all__ = ["Confidenced", "Reviewed", "VotedSegmentation", "voted", "with_votes"]

logger = logging.getLogger(__name__)

CACHED = 2**31  # bytes of probabilities that are kept: an image comes again in each of its pairs
LEAST = 1e-4  # of a probability: the logarithm of 0 is none
SHARE = 0.7  # of the vote in its mean with the network; validation cases of abdomen_ct were best with 0.6 to 0.8


class Answer(NamedTuple):
    """Logarithms of class probabilities (1, C, D, H, W), how sure of them one may be (1, 1, D, H, W), and for each
    structure the Dice that this comes to, and that of the network with the vote."""

    logits: Tensor
    confidence: Tensor
    estimate: list[float]
    agreement: list[float | None]


class VotedSegmentation(nn.Module):
    """A segmentation network that answers together with labelled images, once they are carried onto the image.

    The network is asked first: its classes make the affine, and count with their share. An image that is one of the
    labelled ones does not vote on itself.

    Args:
        network: gives logits (B, C, D, H, W) of images (B, 1, D, H, W).
        atlases: the labelled images.
        num_classes: with background.
        matching: carries them, by the images.
        vote: joins them.
        inferer: applies the network.
        share: of the vote in a mean of probabilities, from 0 (the network alone) to 1 (the vote alone).
    """

    def __init__(
        self,
        network: nn.Module,
        atlases: Sequence[Atlas],
        num_classes: int,
        matching: Matching,
        vote: LocalVote,
        inferer: Inferer | None = None,
        share: float = SHARE,
    ) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.network, self.atlases, self.num_classes = network, list(atlases), num_classes
        self.matching, self.vote, self.share = matching, vote, share
        self._known: OrderedDict[tuple, Answer] = OrderedDict()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Logarithms of class probabilities (B, C, D, H, W): logits like any others."""
        return torch.cat([self._of_one(one[None].float()).logits for one in image])

    @torch.no_grad()
    def confidence(self, image: Tensor) -> Tensor:
        """How sure two sources that err independently are of the class that :meth:`forward` gives.

        Returns:
            (B, 1, D, H, W): the network's probability of it times that of the vote.
        """
        return torch.cat([self._of_one(one[None].float()).confidence for one in image])

    def review(self, image: Tensor) -> dict[str, list]:
        """Of an image (1, 1, D, H, W), for each structure.

        Returns:
            ``estimate``, the Dice of the answer with the product of both sources' probabilities, and ``agreement``, the
            Dice of the network's classes with those of the vote.
        """
        answer = self._of_one(image.float())
        return {"estimate": answer.estimate, "agreement": answer.agreement}

    @torch.no_grad()
    def _of_one(self, image: Tensor) -> Answer:
        key = (tuple(image.shape), hash(image.cpu().numpy().tobytes()))
        if key not in self._known:
            self._known[key] = self._asked(image)
            while sum(4 * (found.logits.numel() + found.confidence.numel()) for found in self._known.values()) > CACHED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def _asked(self, image: Tensor) -> Answer:
        own = self.inferer(image, self.network).float().log_softmax(dim=1)
        others = [atlas for atlas in self.atlases if not torch.equal(atlas.image, image)]
        with torch.autocast(image.device.type, enabled=False):
            vote, _ = take_vote(others, image, own.exp(), self.num_classes, self.matching, self.vote)
        joined = self.share * vote + (1 - self.share) * own.exp()
        logits = joined.clamp(min=LEAST).log().log_softmax(dim=1)
        both, classes = own.exp() * vote, logits.argmax(dim=1, keepdim=True)
        agreement = overlaps(own.argmax(dim=1), vote.argmax(dim=1), self.num_classes)
        return Answer(logits, both.gather(1, classes), estimated_dice(both[0], classes[0, 0]), agreement)


class _OfNetwork(MapTransform):
    """Adds something to what a network gave, with the network at hand."""

    def __init__(self, keys: KeysCollection, network: nn.Module) -> None:
        super().__init__(keys)
        self.network = network


class Confidenced(_OfNetwork):
    """Adds ``confidence`` (1, D, H, W) to logits (C, D, H, W): the probability that the class they give is right.

    With votes that of :meth:`VotedSegmentation.confidence`, else the largest of the network's own probabilities.

    Args:
        keys: the logits.
        network: that gave them, of ``image``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add it."""
        d = dict(data)
        for key in self.key_iterator(d):
            if isinstance(self.network, VotedSegmentation):
                found = self.network.confidence(torch.as_tensor(d["image"])[None].to(d[key].device))[0]
            else:
                found = d[key].float().softmax(dim=0).amax(dim=0, keepdim=True)
            d["confidence"] = convert_to_dst_type(found, d[key], dtype=torch.float32)[0]
        return d


class Reviewed(_OfNetwork):
    """Adds ``review``, what can be told of class probabilities (C, D, H, W) on the networks' grid without a true label.

    For each structure ``estimate``, its Dice with its own probabilities; ``cut_off``, whether it reaches a face of the
    grid; and with votes what :meth:`VotedSegmentation.review` says.

    Args:
        keys: the probabilities.
        network: that gave them, of ``image``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add it."""
        d = dict(data)
        for key in self.key_iterator(d):
            prob = convert_to_tensor(d[key], track_meta=False).float()
            classes = prob.argmax(dim=0)
            d["review"] = {"estimate": estimated_dice(prob, classes), "cut_off": touching(classes, len(prob))}
            if isinstance(self.network, VotedSegmentation):
                d["review"] |= self.network.review(torch.as_tensor(d["image"])[None].to(prob.device))
        return d


def voted(
    network: nn.Module,
    vote: str | Path | None,
    preprocessing: Callable,
    labels: Mapping[str, str],
    folder: str | Path,
    num_labeled: int | None = None,
    fold: int = 0,
    seed: int = 0,
    device: torch.device | str = "cpu",
    inferer: Inferer | None = None,
    share: float = SHARE,
    image_name: str | None = None,
    label_name: str | None = None,
) -> nn.Module:
    """Let the labelled cases of a data set answer together with a segmentation network.

    Args:
        network: for segmentation.
        vote: a folder or datalist with labelled cases; None: the network stays as it is.
        preprocessing: of images.
        labels: ids of the structures -> names.
        folder: of the weights; ``votes.pt`` in it says which way to join votes its training chose.
        num_labeled, fold, seed, image_name, label_name: which labelled cases, as
            :func:`scripts.data.cases.load_cases` chooses them.
        device: where the network is.
        inferer, share: as for :class:`VotedSegmentation`.

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: it has no labelled case, or one with other structures.
    """
    if vote is None:
        return network
    source = Path(vote)
    is_list = source.suffix == ".json"
    cases = load_cases(
        source.parent if is_list else source,
        datalist=source if is_list else None,
        labels=labels,
        num_labeled=num_labeled,
        fold=fold,
        seed=seed,
        image_name=image_name,
        label_name=label_name,
    )
    if not cases.labeled:
        raise ValueError(f"--vote {vote}: there is no labelled case that could vote.")
    ids = sorted(int(i) for i in labels if int(i) != 0)
    atlases = [_atlas(case, preprocessing, ids, device) for case in cases.labeled]
    join = _chosen(Path(folder))
    names = ", ".join(atlas.case for atlas in atlases)
    logger.info("labelled cases vote on each image, joined by %s in %d turns: %s", join.weighting, join.turns, names)
    return VotedSegmentation(network, atlases, len(ids) + 1, Matching(), join, inferer, share).eval()


def with_votes(networks: Mapping[str, nn.Module], vote: str | Path | None, **settings: Any) -> dict[str, nn.Module]:
    """The same for loaded networks by name: ``segmentation`` answers by votes; ``settings`` are those of :func:`voted`.

    Raises:
        ValueError: there is no segmentation network, by whose classes labelled cases could be carried.
    """
    if vote is None:
        return dict(networks)
    if "segmentation" not in networks:
        raise ValueError(f"--vote {vote}: there is no segmentation network, by whose classes labels could be carried.")
    return {**networks, "segmentation": voted(networks["segmentation"], vote, **settings)}


def _chosen(folder: Path) -> LocalVote:
    path = folder / "votes.pt"
    return vote_of(read_saved(path) if path.is_file() else {"turns": 2})


def vote_of(saved: Mapping[str, Any]) -> LocalVote:
    """The way to join that a training has chosen, as ``votes.pt`` has it."""
    judge = None if saved.get("judge") is None else Judge(saved["judge"])
    return LocalVote(saved.get("weighting", WEIGHTINGS[0]), saved.get("turns", 1), judge)


def _atlas(case: Mapping[str, str], preprocessing: Callable, ids: Sequence[int], device: torch.device | str) -> Atlas:
    """A labelled case on the networks' grid; each class of its label linearly, and the strongest wins."""
    refuse_partly_labeled(case)
    image = preprocess(preprocessing, case["image"], case["case"])
    classes = LabelsToClassesd(keys=["label"], label_ids=ids)({"label": load_volume(case["label"])})["label"]
    classes = lay_label(classes, load_volume(case["image"]), case["case"])
    affine = torch.as_tensor(image.affine, dtype=torch.float64)
    label = sample_label_at(classes.as_tensor(), classes.affine, voxel_points(image.shape[1:], affine))
    return Atlas(case["case"], image.as_tensor()[None].float().to(device), label[None].to(device))
