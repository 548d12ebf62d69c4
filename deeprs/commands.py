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

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .configs import CONFIGS, find_config, load
from .mistakes import Mistake
from .parse import Call, is_expression

__all__ = ["COMMANDS", "Command", "Plan"]

#: the weights that come with the bundle
SHIPPED = {"ckpt_dir": str(CONFIGS.parent / "models")}
#: kinds of paths: a file or folder that has to be there, either of them, or what is written
FILE, FOLDER, ANY, NEW = "file", "folder", "file or folder", "new"


@dataclass
class Plan:
    """What a call comes to: the same as ``python -m monai.bundle run RUN_ID --config_file FILES --ENTRY VALUE``.

    Args:
        run_id: the entry that is run.
        files: config files, the later over the earlier.
        entries: of the command line, that the command itself sets; those that were typed win.
        out: where results go, for messages.
    """

    run_id: str
    files: list[Path]
    entries: dict[str, Any] = field(default_factory=dict)
    out: str = "."


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


def base(*names: str) -> list[Path]:
    """Config files of the bundle, by name."""
    return [CONFIGS / f"{name}.yaml" for name in names]


# ---- which config files


def plan_training(run_id: str) -> Callable[[Call, Sequence[Path]], Plan]:
    """``checking`` or ``training``: train.yaml, and over it what was given, in its order."""
    return lambda call, overlays: Plan(run_id, [*base("train"), *overlays])


def plan_evaluation(call: Call, overlays: Sequence[Path]) -> Plan:
    """With the config that a training left, or with what the weights of the bundle are of."""
    if call.model is not None:
        folder = model_file(call.model).parent
        if not (config := folder / "config.yaml").is_file():
            raise Mistake(
                f"--model {call.model}: no {config}, which says what the training left for the test.\n"
                "Copy it there from the folder of the training."
            )
        _refuse_a_datalist_of_other_data(call, config)
        files = [*base("train"), config, *base("evaluate"), *overlays]
        return Plan("evaluating", files, {"ckpt_dir": str(folder)})
    if "ckpt_dir" in call.options:
        return Plan("evaluating", [*base("train"), *overlays, *base("evaluate")])
    shipped = base("train", "data/hippocampus", "recipes/best", "evaluate")
    return Plan("evaluating", [*shipped, *overlays], SHIPPED)


def _refuse_a_datalist_of_other_data(call: Call, config: Path) -> None:
    trained = load(config)
    data, listed = call.options.get("dataset_dir"), trained.get("datalist")
    if not (data and listed) or is_expression(listed) or "datalist" in call.options:
        return
    if absolute(data[0]) != trained.get("dataset_dir"):
        raise Mistake(
            f"the training read its cases from {listed}, and these data are others: {data[0]}.\n"
            "Say with --datalist which of them are the test; `--datalist null`: whatever the folder says."
        )


def plan_segmentation(call: Call, overlays: Sequence[Path]) -> Plan:
    """inference.yaml with the model."""
    files, entries = with_model("inference", call.model)
    return Plan("inferring", [*files, *overlays], entries)


def plan_registration(call: Call, overlays: Sequence[Path]) -> Plan:
    """register.yaml with the model, and sequence.yaml where there are several pairs."""
    files, entries = with_model("register", call.model)
    given = {name: call.options.get(name, []) for name in ("moving", "fixed", "pairs")}
    if not given["pairs"] and not (given["moving"] and given["fixed"]):
        raise Mistake(
            "what is missing: two images or folders, MOVING and FIXED, or a table of pairs: --pairs pairs.csv."
        )
    several = any(len(texts) > 1 for texts in given.values())
    folders = any(
        text and (text.startswith("[") or Path(text).expanduser().is_dir()) for text in sum(given.values(), [])
    )
    if given["pairs"] or several or folders:
        files += base("sequence")
    return Plan("registering", [*files, *overlays], entries)


def _is_folder(text: str) -> bool:
    return Path(text).expanduser().is_dir()


def plan_application(call: Call, overlays: Sequence[Path]) -> Plan:
    """apply.yaml alone."""
    if "transform" not in call.options:
        raise Mistake("expected a TRANSFORM: a file such as a_to_b_transform.h5, or several, the first one first.")
    return Plan("applying", [*base("apply"), *overlays])


def plan_report(call: Call, overlays: Sequence[Path]) -> Plan:
    """Of one evaluation, or of several put together."""
    folders = call.options.pop("evaluations", [])
    if not folders:
        raise Mistake("expected the folder of an evaluation, or of several, which are put together into --out.")
    if len(folders) == 1 and not str(folders[0]).startswith("["):
        if "output_dir" in call.options:
            raise Mistake("--out is for several evaluations: the report of one goes into its folder.")
        call.options["output_dir"] = folders
        return Plan("reporting", [*base("report"), *overlays])
    call.options["evaluations"] = folders
    if "output_dir" not in call.options:
        raise Mistake("several evaluations are put together into a new folder: name it with --out.")
    return Plan("pooling", [*base("report"), *overlays])


def plan_preparation(call: Call, overlays: Sequence[Path]) -> Plan:
    """Of a data set, of pairs, or back again."""
    run_id = "preparing_pairs" if "pairs" in call.options else "preparing"
    run_id = "restoring" if "predictions" in call.options else run_id
    return Plan(run_id, [*base("prepare"), *overlays])


def plan_label(call: Call, overlays: Sequence[Path]) -> Plan:
    """train.yaml, what was given, and label.yaml, which goes last."""
    if "app_dir" not in call.options:
        raise Mistake("expected APP: the folder of the app `monaibundle` of MONAI Label, in which main.py lies.")
    return Plan("labeling", [*base("train"), *overlays, *base("label")])


def with_model(config: str, model: str | None) -> tuple[list[Path], dict[str, Any]]:
    """A config and what is set, with the model of a training, or with the weights that the config itself names."""
    if model is None:
        return base(config), SHIPPED
    file = model_file(model)
    weights = any(file.parent.glob("model*.pt"))  # else those that model.yaml names, which lie elsewhere
    return [*base(config), file], {"ckpt_dir": str(file.parent)} if weights else {}


def model_file(model: str) -> Path:
    """The ``model.yaml`` of a training, from its path or its folder.

    Raises:
        Mistake: there is none.
    """
    path = Path(absolute(model))
    file = path / "model.yaml" if path.is_dir() else path
    if not file.is_file():
        raise Mistake(
            f"--model {model}: no such file: {file}\n"
            "Expected the folder that `deeprs train --out` wrote, or the model.yaml in it."
        )
    return file


def absolute(path: str) -> str:
    """A path of the command line, whatever folder MONAI works in; ``~`` is the home."""
    return os.path.abspath(Path(path).expanduser())


def overlays_of(call: Call) -> list[Path]:
    """The files of ``--config`` and ``--recipe``, in the order in which they were given."""
    return [
        find_config(name, ("recipes",), "recipe") if option == "recipe" else find_config(name)
        for option, name in call.files
    ]


# ---- the commands

DATA = {"dataset_dir": FOLDER, "datalist": FILE, "output_dir": NEW}
TRAINING = {**DATA, "ckpt_dir": NEW, "test_pairs": FILE, "pretrained": FOLDER}
TRAIN_OPTIONS = (
    *("datalist", "resume", "labels", "num_labeled", "num_unlabeled", "fold", "tasks", "orientation", "pixdim", "crop"),
    *("spatial_size", "intensity", "intensity_range", "max_epochs", "iterations_per_epoch", "batch_size"),
    *("learning_rate", "val_interval", "seed", "amp", "num_workers", "log_interval"),
)
COMMANDS = {
    "check": Command(
        about="Read every case as training would, and tell all that is wrong with them.",
        usage="DATA [--config FILE] [--recipe NAME]",
        words=("dataset_dir",),
        base=("train",),
        common=tuple(name for name in TRAIN_OPTIONS[:13] if name != "resume"),
        paths=TRAINING,
        plan=plan_training("checking"),
    ),
    "train": Command(
        about="Train on DATA, a folder with images/ and labels/, or with a datalist.json.",
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
        common=("datalist", "report", "refine", "landmarks", "coordinates", "test_pairs", "max_pairs", "tasks", "amp"),
        paths={**DATA, "ckpt_dir": FOLDER, "test_pairs": FILE, "landmarks": FOLDER},
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
        common=("datalist", "amp"),
        paths={**DATA, "dataset_dir": ANY, "ckpt_dir": FOLDER},
        plan=plan_segmentation,
        out="output/segmentations",
        takes_model=True,
        keeps="*_seg.nii.gz",
        kept="Kept in {out}: the label maps that are done. The same call makes all of them again.",
    ),
    "register": Command(
        about="Register MOVING onto FIXED: warped image and label, field, transform for ITK, picture.",
        usage="MOVING FIXED | --pairs TABLE [--model DIR] [--out DIR]",
        words=("moving", "fixed"),
        base=("register", "sequence"),
        common=("moving_label", "pairs", "refine", "fill_value"),
        paths={"moving": ANY, "fixed": ANY, "moving_label": ANY, "pairs": FILE, "output_dir": NEW, "ckpt_dir": FOLDER},
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
        about="Make report.html of an evaluation; of several, figures of all of them, in --out.",
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
            *("datalist", "reference", "orientation", "pixdim", "size", "region", "margin", "align_region"),
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
