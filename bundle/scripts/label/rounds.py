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

"""Annotation rounds: an annotator labels some images, the networks learn from all, the next round goes on from there.

MONAI Label starts a round. It hands over the labelled images alone; the others, which this bundle lives on, are found
here. ``configs/label.yaml`` puts these parts into the training.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..data.cases import Cases
from ..data.pairs import PairDataset
from ..data.samplers import KINDS, PairSampler
from ..files import processes
from ..files.datalist import case_name, find_volumes
from ..files.writing import replacing
from ..networks.weights import FILES, read_saved

__all__ = ["AnnotationRound", "PossiblePairSampler", "check_labels", "datastore_cases", "load_fitting", "next_round"]

logger = logging.getLogger(__name__)

EVALUATED = re.compile(r"^[$@%]|#|[@%]::")  # what MONAI does not leave as it is


def check_labels(labels: Mapping[int | str, str] | None) -> dict[int, str]:
    """Refuse labels that an annotation program would mix up.

    3D Slicer numbers the segments that it submits 1, 2, ... in their order, whatever their ids; MONAI Label takes
    names in lower case.

    Args:
        labels: ids to names, with or without the background.

    Returns:
        Ids to names, ascending, without the background.

    Raises:
        ValueError: there are none, the ids are others than 1, 2, ..., two names differ in case only, or one would be
            taken for a program: the server reads names from ``metadata.json``, where nothing can be escaped.
    """
    names = {int(i): str(name) for i, name in (labels or {}).items() if int(i) != 0}
    if not names:
        raise ValueError(
            '`labels` is missing: name the structures in your config, `labels: {"1": liver, "2": spleen}`.'
        )
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError(
            f"`labels` has the ids {sorted(names)}, expected 1 to {len(names)}: 3D Slicer numbers what it submits in "
            "that way. Renumber `labels`, and label files that you have already."
        )
    lower = [name.lower() for name in names.values()]
    if len({*lower, "background"}) <= len(lower):
        raise ValueError(
            f"`labels` are told apart by their names in lower case, and none may be `background`: {names}. Rename one."
        )
    if evaluated := [name for name in names.values() if EVALUATED.search(name)]:
        raise ValueError(
            f"`labels`: rename {', '.join(map(repr, evaluated))}. MONAI Label hands names to MONAI's config "
            "parser, which acts upon `$`, `@` and `%` at the beginning and changes `#`."
        )
    return dict(sorted(names.items()))


def datastore_cases(
    labeled: Sequence[Mapping[str, str]], validation: Sequence[Mapping[str, str]], labels: Mapping[int, str]
) -> Cases:
    """The cases of a datastore: those with a label are given, the unlabelled ones lie beside them.

    A datastore of MONAI Label is a folder of images, in which ``labels/final/`` holds the submitted labels under the
    names of their images. What was segmented automatically lies in ``labels/original/`` and counts as unlabelled.

    Args:
        labeled: ``{"image": path, "label": path}`` of the images to learn from.
        validation: the same of the images that choose the best weights; may be empty.
        labels: ids to names.

    Returns:
        The cases; the images of ``validation`` are not among the unlabelled.

    Raises:
        ValueError: no image is labelled, or MONAI has changed a path.
    """
    if not labeled:
        raise ValueError(
            "no image of the datastore is labelled for training. Submit the label of at least one image"
            f"{', or lower `val_split`: ' + str(len(validation)) + ' went to validation' if validation else ''}."
        )
    lists = [tuple({"case": case_name(case["image"]), **case} for case in cases) for cases in (labeled, validation)]
    taken = [case for cases in lists for case in cases]
    for path in (case[key] for case in taken for key in ("image", "label")):
        if "::" in path and not Path(path).exists():
            raise ValueError(f"no such file: '{path}'. MONAI makes `::` of `#` in a path: rename what has a `#`.")
    names = {case["case"] for case in taken} | {case_name(case["label"]) for case in taken}
    files = {os.path.realpath(case["image"]) for case in taken}
    images = {
        str(path): name for folder in {_image_folder(c) for c in taken} for name, path in find_volumes(folder).items()
    }
    unlabeled = tuple(
        {"case": name, "image": path}
        for path, name in sorted(images.items())
        if name not in names and os.path.realpath(path) not in files
    )
    logger.info(
        "datastore: %d labelled, %d unlabelled, %d for validation", len(labeled), len(unlabeled), len(validation)
    )
    return Cases(labels, lists[0], unlabeled, lists[1])


def _image_folder(case: Mapping[str, str]) -> Path:
    """Where the images of the datastore lie: MONAI Label follows links, and an image may lie elsewhere than its own."""
    folder = Path(os.path.abspath(Path(case["label"]).parent / ".." / ".."))  # of DATASTORE/labels/final/NAME
    links = {os.path.realpath(path) for path in find_volumes(folder).values()}
    return folder if os.path.realpath(case["image"]) in links else Path(case["image"]).absolute().parent


class PossiblePairSampler(PairSampler):
    """A :class:`PairSampler` that passes over kinds of pairs for which the images are not there (yet).

    Where none of the kinds is left, because every image is labelled or a recipe asks for others, it takes any pair of
    two different images.

    Args:
        dataset: the subjects.
        kinds: as for the other, the weights that a recipe gives.
        options: as for the other.

    Raises:
        ValueError: there is only one image.
    """

    def __init__(self, dataset: PairDataset, kinds: Mapping[str, float], **options: Any) -> None:
        numbers = {"labeled": len(dataset.labeled_indices), "unlabeled": len(dataset.unlabeled_indices)}
        if sum(numbers.values()) < 2:
            raise ValueError(
                "the datastore holds one image, and the networks learn from pairs. Add another; it needs no label."
            )
        wanted = {kind: weight for kind, weight in kinds.items() if weight > 0}
        left = {kind: weight for kind, weight in wanted.items() if kind not in KINDS or _is_possible(kind, numbers)}
        if left != wanted:
            logger.warning("%(labeled)d labelled and %(unlabeled)d unlabelled images: not all kinds of pairs", numbers)
        super().__init__(dataset, left or {"any": 1.0}, **options)


def _is_possible(kind: str, numbers: Mapping[str, int]) -> bool:
    moving, fixed = KINDS[kind]
    return numbers[moving] > 0 and numbers[fixed] > (moving == fixed)  # no subject is paired with itself


def next_round(folder: str | Path) -> str:
    """Name the folder of a new round: 001, 002, ... in a folder; nothing is made."""
    numbers = [int(path.name) for path in Path(folder).glob("[0-9]*") if path.name.isdigit()]
    return str(Path(folder) / f"{max(numbers, default=0) + 1:03d}")


class AnnotationRound:
    """Begins a training with the weights that are in use, and puts the new ones in their place when it is over.

    The training itself writes into the folder of its round, as every training does into one of its own. So a round that
    fails or is stopped changes nothing, and the weights of every round stay at hand.

    Args:
        networks: name -> network.
        weights_dir: the weights in use, which the server reads.
        round_dir: the folder of this round.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module], weights_dir: str, round_dir: str) -> None:
        self.networks, self.weights_dir, self.round_dir = dict(networks), Path(weights_dir), Path(round_dir)

    def attach(self, engine: Engine) -> None:
        """Listen to the trainer; to be listed last. Of several processes the first one publishes."""
        engine.add_event_handler(Events.STARTED, self._begin)
        if processes.rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self._publish)

    def _begin(self) -> None:
        load_fitting(self.networks, self.weights_dir)

    def _publish(self) -> None:
        published = [name for name in FILES.values() if (self.round_dir / name).is_file()]
        for name in published:
            with replacing(self.weights_dir / name) as temporary:
                shutil.copyfile(self.round_dir / name, temporary)
        (self.round_dir / "train_state.pt").unlink(missing_ok=True)  # the round is over: nothing is left to resume
        logger.info("%s of %s are in use now, in %s", ", ".join(published), self.round_dir, self.weights_dir)


def load_fitting(networks: Mapping[str, torch.nn.Module], folder: str | Path) -> list[str]:
    """Give networks the weights of a folder where there are any and they fit; the others stay as they are.

    Args:
        networks: name -> network, changed in place.
        folder: that of ``model.pt``, ``model_registration.pt``, ``model_discriminator.pt``.

    Returns:
        The names of the networks that were loaded. For each other one the log says why it begins untrained.
    """
    loaded = []
    for name, network in networks.items():
        path = Path(folder) / FILES[name] if name in FILES else None
        if path is None or not path.is_file():
            logger.warning("%s begins untrained: there are no weights of it in %s", name, folder)
            continue
        weights = read_saved(path)
        if _shapes(weights) != _shapes(network.state_dict()):
            logger.warning("%s begins untrained: %s is of other structures, or of another network", name, path)
            continue
        network.load_state_dict(weights)
        loaded.append(name)
    logger.info("weights in %s: go on with %s", folder, ", ".join(loaded) or "none")
    return loaded


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
