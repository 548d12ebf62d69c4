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

"""The commands: which config files each takes, which of their entries it names in its help, and which are paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .parse import Call
from .plans import (
    Plan,
    plan_application,
    plan_evaluation,
    plan_label,
    plan_planning,
    plan_preparation,
    plan_registration,
    plan_report,
    plan_segmentation,
    plan_training,
)

__all__ = ["ANY", "COMMANDS", "FILE", "FOLDER", "NEW", "Command"]

#: kinds of paths: a file or folder that has to be there, either of them, or what is written
FILE, FOLDER, ANY, NEW = "file", "folder", "file or folder", "new"


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        about: what it does, in a sentence.
        usage: what stands behind its name.
        words: entries that the words without an option go to; a last one with a star takes all that are left.
        base: config files, the later over the earlier, whose entries and comments the help shows.
        common: entries that the help names.
        paths: entry -> kind, of the entries that are paths.
        plan: makes the plan of a call.
        texts: entries that are texts even where they look like numbers.
        several: entries that may be given several times, and are lists then.
        sets: entries that have another default here than in the config files.
        out: where results go when neither ``--out`` nor a config file says it.
        takes_model: whether there is ``--model``.
        keeps: files in ``out`` that are there once there is anything to keep.
        kept: what is said when it was stopped and there are any, with {out} and {call}.
    """

    about: str
    usage: str
    words: tuple[str, ...]
    base: tuple[str, ...]
    common: tuple[str, ...]
    paths: Mapping[str, str]
    plan: Callable[[Call, Sequence[Path]], Plan]
    texts: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    sets: Mapping[str, Any] = field(default_factory=dict)
    out: str | None = None
    takes_model: bool = False
    keeps: str = "*"
    kept: str = "Kept in {out}: what was there before."


DATA = {"dataset_dir": FOLDER, "datalist": FILE, "output_dir": NEW}
TRAINING = {**DATA, "ckpt_dir": NEW, "test_pairs": FILE, "pretrained": FOLDER}
TRAIN_OPTIONS = (
    *("datalist", "image_name", "label_name", "resume", "labels", "num_labeled", "num_unlabeled", "fold", "tasks"),
    *("orientation", "pixdim", "crop"),
    *("spatial_size", "intensity", "intensity_range", "max_epochs", "iterations_per_epoch", "batch_size"),
    *("learning_rate", "val_interval", "seed", "amp", "num_workers", "log_interval"),
)
COMMANDS = {
    "check": Command(
        about="Read every case as training would, and tell all that is wrong with them.",
        usage="DATA [--config FILE] [--recipe NAME]",
        words=("dataset_dir",),
        base=("train",),
        common=tuple(name for name in TRAIN_OPTIONS[:15] if name != "resume"),
        paths=TRAINING,
        plan=plan_training("checking"),
    ),
    "plan": Command(
        about="Plan a training: plan.yaml, a config for train, from the data and what it may take.",
        usage="DATA [--memory GIB] [--minutes N] [--recipe NAME] [--out DIR]",
        words=("dataset_dir",),
        base=("train", "plan"),
        common=("memory", "minutes", *(name for name in TRAIN_OPTIONS[:15] if name != "resume")),
        paths=TRAINING,
        plan=plan_planning,
        out="output/plan",
    ),
    "train": Command(
        about="Train on DATA: images/ and labels/, datalist.json, nnU-Net, BIDS. No --config: it plans.",
        usage="DATA [--config FILE] [--recipe NAME] [--out DIR]",
        words=("dataset_dir",),
        base=("train",),
        common=TRAIN_OPTIONS,
        paths=TRAINING,
        plan=plan_training("training"),
        out="output/train",
        keeps="train_state.pt",
        kept="Kept in {out}: the training up to its last whole epoch. Go on: {call} --resume",
    ),
    "evaluate": Command(
        about="Score a training on its test cases; without --model, the weights of the bundle on DATA.",
        usage="[DATA] [--model DIR] [--out DIR]",
        words=("dataset_dir",),
        base=("train", "evaluate"),
        sets={"report": True},
        common=(
            "datalist",
            "image_name",
            "label_name",
            "report",
            "vote",
            "refine",
            "landmarks",
            "coordinates",
            "test_pairs",
            "max_pairs",
            "tasks",
            "amp",
        ),
        paths={**DATA, "ckpt_dir": FOLDER, "test_pairs": FILE, "landmarks": FOLDER, "vote": ANY},
        plan=plan_evaluation,
        out="output/evaluation",
        takes_model=True,
        kept="Figures are written at the end: {out} is as it was.",
    ),
    "segment": Command(
        about="Segment new images: a label map each, NAME_seg.nii.gz, on the image's own grid.",
        usage="IMAGES [--model DIR] [--out DIR]",
        words=("dataset_dir",),
        base=("inference",),
        common=("datalist", "image_name", "label_name", "vote", "confidence", "probabilities", "amp"),
        paths={**DATA, "dataset_dir": ANY, "ckpt_dir": FOLDER, "vote": ANY},
        plan=plan_segmentation,
        out="output/segmentations",
        takes_model=True,
        keeps="*_seg.nii.gz",
        kept="Kept in {out}: the label maps that are done. The same call makes all of them again.",
    ),
    "register": Command(
        about="Register MOVING onto FIXED: warped image and label, field, transform for ITK, picture.",
        usage="MOVING FIXED | --pairs TABLE [--model DIR | none] [--out DIR]",
        words=("moving", "fixed"),
        base=("register", "sequence"),
        common=("moving_label", "pairs", "vote", "image_name", "label_name", "refine", "fill_value", "inverse"),
        paths={
            **{"moving": ANY, "fixed": ANY, "moving_label": ANY, "vote": ANY},
            **{"pairs": FILE, "output_dir": NEW, "ckpt_dir": FOLDER},
        },
        plan=plan_registration,
        several=("moving", "fixed"),
        out="output/registration",
        takes_model=True,
        keeps="*/summary.json",
        kept="Kept in {out}: the pairs that are done. The same call does all of them again.",
    ),
    "apply": Command(
        about="Carry images, labels and points through a transform, or through several.",
        usage="TRANSFORM ... [--image FILE] [--label FILE] [--points FILE] [--out DIR]",
        words=("transform*",),
        base=("apply",),
        common=("reference", "image", "label", "points", "coordinates", "inverse", "fill_value", "combined"),
        paths=dict.fromkeys(("transform", "reference", "image", "label", "points"), FILE)
        | {"combined": NEW, "output_dir": NEW},
        plan=plan_application,
        several=("transform", "image", "label", "points"),
        out="output/applied",
        kept="Kept in {out}: the files that are done.",
    ),
    "report": Command(
        about="Make report.html of an evaluation or of segmentations; of several evaluations in --out.",
        usage="EVALUATION ... [--compare_with OTHER] [--out DIR]",
        words=("evaluations*",),
        base=("report",),
        common=("title", "compare_with"),
        paths={"evaluations": FOLDER, "compare_with": FOLDER, "output_dir": NEW},
        plan=plan_report,
        texts=("title",),
        several=("evaluations",),
    ),
    "prepare": Command(
        about="Align the cases of DATA on one grid (--pairs: each pair); --predictions: back again.",
        usage="DATA [--out DIR] | --pairs TABLE | --predictions DIR --prepared_dir DIR",
        words=("dataset_dir",),
        base=("prepare",),
        common=(
            *("datalist", "image_name", "label_name"),
            *("reference", "orientation", "pixdim", "size", "region", "margin", "align_region"),
            *("fill_value", "corrections", "folds", "initialization", "align_with", "elastix_python"),
            *("pairs", "prepared_dir", "predictions", "labels", "num_labeled", "num_unlabeled", "fold", "seed"),
        ),
        paths={**DATA, "pairs": FILE, "prepared_dir": FOLDER, "predictions": ANY, "elastix_python": FILE},
        plan=plan_preparation,
        texts=("reference",),
        out="output/prepared",
        kept="Kept in {out}: the cases that are done. The same call goes on from there.",
    ),
    "label": Command(
        about="Write a bundle into APP, the app of MONAI Label, which serves it to Slicer and trains it.",
        usage="APP --name NAME [--config FILE] [--recipe NAME]",
        words=("app_dir",),
        base=("train", "label"),
        common=("name", "start_from", "labels", "spatial_size", "pixdim", "intensity", "intensity_range"),
        paths={"app_dir": FOLDER, "start_from": FOLDER},
        plan=plan_label,
        texts=("name",),
    ),
}
