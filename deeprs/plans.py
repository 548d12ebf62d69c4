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

"""Which config files a call takes, in which order, and what is run: the thin part between ``deeprs`` and MONAI."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bundle.scripts.files.series import is_series
from .configs import CONFIGS, find_config, load
from .mistakes import Mistake
from .parse import Call, is_expression, read_value

__all__ = ["Plan", "absolute", "base", "overlays_of", "planning_before"]

#: the word for none
NO_MODEL = "none"
#: the weights that come with the bundle
SHIPPED = {"ckpt_dir": str(CONFIGS.parent / "models")}


#: entries of which one is enough for a training not to be planned
SIZED = {"spatial_size", "pixdim", "max_epochs", "iterations_per_epoch"}
#: entries of the planning that a training then begins with
BUDGET = {"memory", "minutes"}


@dataclass
class Plan:
    """What a call comes to: the same as ``python -m monai.bundle run RUN_ID --config_file FILES --ENTRY VALUE``.

    Args:
        run_id: the entry that is run.
        files: config files, the later over the earlier.
        entries: of the command line, that the command itself sets; those that were typed win.
        out: where results go, for messages.
        budget: typed entries of the planning that a training begins with.
        declared: that of the files of which only what it declares is taken, as it lies in the folder of a model.
    """

    run_id: str
    files: list[Path]
    entries: dict[str, Any] = field(default_factory=dict)
    out: str = "."
    budget: dict[str, list[str | None]] = field(default_factory=dict)
    declared: Path | None = None


def base(*names: str) -> list[Path]:
    """Config files of the bundle, by name."""
    return [CONFIGS / f"{name}.yaml" for name in names]


def plan_training(run_id: str) -> Callable[[Call, Sequence[Path]], Plan]:
    """``checking`` or ``training``: train.yaml, and over it what was given, in its order."""

    def plan(call: Call, overlays: Sequence[Path]) -> Plan:
        budget = BUDGET & call.options.keys() if run_id == "training" and _is_unsized(call) else ()
        return Plan(run_id, [*base("train"), *overlays], budget={name: call.options.pop(name) for name in budget})

    return plan


def _is_unsized(call: Call) -> bool:
    """Whether neither a config file nor an entry says how large or how long a training is to be."""
    return not any(option == "config" for option, _ in call.files) and not SIZED & call.options.keys()


def plan_planning(call: Call, overlays: Sequence[Path]) -> Plan:
    """train.yaml, plan.yaml, and over them what was given, which the plan keeps."""
    return Plan("planning", [*base("train", "plan"), *overlays])


def planning_before(plan: Plan, call: Call) -> Plan | None:
    """The planning that a training begins with, when nobody has said how large or how long it is to be.

    Args:
        plan: of the training, which then reads the ``plan.yaml`` of its folder first.
        call: what was typed.

    Returns:
        None where there is nothing to plan: as said, or because the folder holds a training, which goes on as it was.
    """
    written = Path(plan.out) / "plan.yaml"
    if plan.run_id != "training" or not _is_unsized(call):
        return None
    resumed = (written.parent / "train_state.pt").is_file()
    if resumed and not written.is_file():
        return None
    recipes = plan.files[1:]
    plan.files[1:] = [written, *recipes]
    budget = {name: read_value(texts[-1] or "") for name, texts in plan.budget.items()}
    return None if resumed else Plan("planning", [*base("train", "plan"), *recipes], budget, out=plan.out)


def plan_evaluation(call: Call, overlays: Sequence[Path]) -> Plan:
    """With the config that a training left, or with what the weights of the bundle are of."""
    if call.model is not None:
        given = Path(absolute(call.model))
        folder = given.parent if given.is_file() else model_file(call.model).parent
        if not (config := given if given.name == "config.yaml" else folder / "config.yaml").is_file():
            raise Mistake(
                f"--model {call.model}: no {config}, which says what the training left for the test.\n"
                "Copy it there from the folder of the training."
            )
        _refuse_a_datalist_of_other_data(call, config)
        files = [*base("train"), config, *base("evaluate"), *overlays]
        return Plan("evaluating", files, {"ckpt_dir": str(folder)}, declared=None if given.is_file() else config)
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
    files, entries, declared = with_model("inference", call.model)
    return Plan("inferring", [*files, *overlays], entries, declared=declared)


def plan_registration(call: Call, overlays: Sequence[Path]) -> Plan:
    """register.yaml with the model, and sequence.yaml where there are several pairs."""
    files, entries, declared = with_model("register", call.model)
    given = {name: call.options.get(name, []) for name in ("moving", "fixed", "pairs")}
    if not given["pairs"] and not (given["moving"] and given["fixed"]):
        raise Mistake(
            "what is missing: two images or folders, MOVING and FIXED, or a table of pairs: --pairs pairs.csv."
        )
    several = any(len(texts) > 1 for texts in given.values())
    folders = any(text and (text.startswith("[") or _is_folder(text)) for text in sum(given.values(), []))
    if given["pairs"] or several or folders:
        files += base("sequence")
    return Plan("registering", [*files, *overlays], entries, declared=declared)


def _is_folder(text: str) -> bool:
    """Whether it is a folder of images; that of a DICOM series is one image."""
    path = Path(text).expanduser()
    return path.is_dir() and not is_series(path)


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


def with_model(config: str, model: str | None) -> tuple[list[Path], dict[str, Any], Path | None]:
    """A config and what is set, with the model of a training, or with the weights that the config itself names.

    ``none`` is no model: images are registered by themselves.

    Last comes the file of the model where it was found in a folder, and nothing in it is to be run.
    """
    if model is None:
        return base(config), SHIPPED, None
    if model == NO_MODEL and not Path(absolute(model)).exists():
        if config != "register":
            raise Mistake(f"--model {NO_MODEL} is for `deeprs register`: nothing can be segmented without a model.")
        return base("register", "run/no_model"), {}, None
    file = model_file(model)
    weights = any(file.parent.glob("model*.pt"))  # else those that model.yaml names, which lie elsewhere
    declared = file if Path(absolute(model)).is_dir() else None
    return [*base(config), file], {"ckpt_dir": str(file.parent)} if weights else {}, declared


def model_file(model: str) -> Path:
    """The ``model.yaml`` of a training, from its path or its folder.

    Raises:
        Mistake: there is none.
    """
    path = Path(absolute(model))
    names = (name for name in ("model.yaml", "model.json") if (path / name).is_file())
    file = path / next(names, "model.yaml") if path.is_dir() else path
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
