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

"""MM-WHS as it is handed out: ``ct_train_1001_image.nii.gz`` and its like become cases.

The challenge has twenty labelled and forty unlabelled volumes of CT, and as many of MR. The labels of the forty were
never published in the open: whatever lies beside them is not opened here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .anatomy import STRUCTURES
from .cases import Cases

__all__ = ["load_mmwhs"]

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<case>(?P<modality>ct|mr)_(?P<set>train|test)_\d+)_(?P<kind>image|label)\.nii(\.gz)?")
PUBLISHED = {"train": 20, "test": 40}


def load_mmwhs(dataset_dir: str | Path, modality: str = "ct", num_unlabeled: int | None = None, seed: int = 0) -> Cases:
    """List the cases of one modality: those of the training set as labelled ones, those of the test set as unlabelled.

    The labelled ones are shuffled, since the paper parts them at random: folds are consecutive parts of this order.

    Args:
        dataset_dir: the folder that the archives were unpacked in; files are looked for in all of its folders.
        modality: ``ct`` or ``mr``.
        num_unlabeled: how many of the unlabelled ones to take; None takes all.
        seed: of the shuffle.

    Returns:
        The cases, with the seven structures and their ids. Files are not opened.

    Raises:
        FileNotFoundError: there are no files of such names.
        ValueError: there is no such modality, a file is there twice, or a training case lacks its image or its label.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    if modality not in ("ct", "mr"):
        raise ValueError(f"`modality` should be ct or mr, found {modality!r}.")
    found = _find_files(folder, modality)
    if not found["train"]:
        raise FileNotFoundError(
            f"no training case of MM-WHS in {folder}: expected files such as {modality}_train_1001_image.nii.gz and "
            f"{modality}_train_1001_label.nii.gz, in it or in folders of it.\n  Unpack the archives there, or set "
            "`dataset_dir` to where they are."
        )
    for name, files in found["train"].items():
        if missing := {"image", "label"} - files.keys():
            raise ValueError(f"case '{name}' of {folder} lacks its {missing.pop()}. Unpack the archive again.")
    images = {name: files["image"] for name, files in found["test"].items() if "image" in files}
    for which, count in (("train", len(found["train"])), ("test", len(images))):
        if count != PUBLISHED[which]:
            logger.warning("%s_%s: found %d cases of %d", modality, which, count, PUBLISHED[which])
    names = list(found["train"])
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    return Cases(
        labels=dict(STRUCTURES),
        labeled=tuple({"case": name, **found["train"][name]} for name in names),
        unlabeled=tuple({"case": name, "image": image} for name, image in images.items())[:num_unlabeled],
    )


def _find_files(folder: Path, modality: str) -> dict[str, Mapping[str, dict[str, str]]]:
    """The files of a modality: by set, case, and kind, in the order of their names."""
    found: dict[str, dict[str, dict[str, str]]] = {"train": {}, "test": {}}
    for path in sorted(folder.rglob(f"{modality}_*"), key=lambda path: path.name):
        match = NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        files = found[match["set"]].setdefault(match["case"], {})
        if match["kind"] in files:
            raise ValueError(f"case '{match['case']}' has two {match['kind']}s: {files[match['kind']]} and {path}.")
        files[match["kind"]] = str(path)
    return found
