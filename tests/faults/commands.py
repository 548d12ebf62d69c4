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
"""The commands that faults are tried on, each with two variants whose results differ in every file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from aligned_phantoms import AFFINE as GRID
from aligned_phantoms import known, write_dataset
from bundle_runs import TINY, tiny, workflow
from monai_label import write_bundle
from synthetic_evaluation import write_evaluation

from scripts.alignment.prepare import Prepare
from scripts.alignment.prepare_pairs import PreparePairs
from scripts.data.cases import load_cases
from scripts.evaluation.pooling import Pool
from scripts.fields.points import PointSet, write_points
from scripts.fields.transform_files import write_field_transform
from scripts.fields.volumes import write_volume
from scripts.phantom.volumes import make_phantoms
from scripts.registration.apply import ApplyTransform
from scripts.registration.restore import Restore
from scripts.report.write import Report

COUNTS = {"num_labeled": 2, "num_unlabeled": 2, "num_validation": 2, "num_test": 2}
AFFINE = np.diag([9.0, 9.0, 9.0, 1])


def make_world(folder: Path) -> None:
    """Write what the commands read: ``a`` and ``b`` of everything."""
    make_phantoms(folder / "phantoms", **COUNTS, size=16)
    train(folder, folder / "a" / "weights", max_epochs=1)
    shutil.copytree(folder / "a" / "weights", folder / "b" / "weights")
    for path in (folder / "b" / "weights").glob("model*.pt"):
        torch.save({k: v * 1.5 + 0.01 for k, v in torch.load(path, weights_only=True).items()}, path)
    for variant, shift in (("a", 0.0), ("b", 1.0)):
        here = folder / variant
        write_dataset(here / "aligned")
        for path in (here / "aligned" / "images").iterdir():
            volume = nib.load(path)
            write_volume(path, np.asarray(volume.dataobj) + np.float32(shift), volume.affine)
        write_field_transform(here / "field.h5", torch.full((6, 6, 6, 3), 2 + shift), torch.from_numpy(AFFINE))
        for name, structures in (("first", ("front", "back")), ("second", ("front", "back"))):
            write_evaluation(here / name, structures, cases=("c", "d", "e", "f") if shift else ("a", "b", "c"))
    Prepare(load_cases(folder / "a" / "aligned"), folder / "prepared", known).run()
    for number, variant in enumerate("ab"):
        for case in ("here", "moved"):
            label = np.zeros((32, 36, 28), np.int16)
            label[10 + number : 20, 10:20, 10:20] = 205
            write_volume(folder / variant / "predicted" / f"{case}.nii.gz", label, GRID)
    image = np.random.default_rng(0).normal(100, 20, (6, 6, 6)).astype(np.float32)
    write_volume(folder / "image.nii.gz", image, AFFINE)
    write_volume(folder / "label.nii.gz", (image > 100).astype(np.uint8), AFFINE)
    write_points(folder / "points.csv", PointSet(np.full((2, 3), 20.0), ("p", "q"), "LPS"))


def train(world: Path, out: Path, **entries: object) -> None:
    """A training of two iterations an epoch."""
    options = tiny(["train.yaml"]) | {"seed": 3, "output_dir": str(out), "dataset_dir": str(world / "phantoms")}
    with workflow(["train.yaml"], **options | entries) as training:
        training.run()


def _run(configs: list[str], run_id: str, **entries: object) -> None:
    with workflow(configs, "infer", run_id=run_id, properties_path=None, **entries) as command:
        command.run()


def _weights(world: Path, variant: str) -> tuple[str, dict[str, str]]:
    folder = world / variant / "weights"
    return str(folder / "model.yaml"), {"ckpt_dir": str(folder), "inferer::copies": 0}


def infer(world: Path, out: Path, variant: str) -> None:
    model, weights = _weights(world, variant)
    images = sorted((world / "phantoms" / "images").glob("*.nii.gz"))[:2]
    folder = out.parent.parent / "images"
    for image in images:
        folder.mkdir(exist_ok=True)
        if not (folder / image.name).exists():
            (folder / image.name).symlink_to(image)
    weights["inferer"] = {"_target_": "SimpleInferer"}
    del weights["inferer::copies"]
    _run(["inference.yaml", model], "inferring", dataset_dir=str(folder), output_dir=str(out), **weights)


def register(world: Path, out: Path, variant: str) -> None:
    model, weights = _weights(world, variant)
    del weights["inferer::copies"]
    moving, fixed = sorted((world / "phantoms" / "images").glob("*.nii.gz"))[:2]
    label = world / "phantoms" / "labels" / moving.name
    paths = {"moving": str(moving), "fixed": str(fixed), "moving_label": str(label), "output_dir": str(out)}
    _run(["register.yaml", model], "registering", **paths, **weights)


def register_many(world: Path, out: Path, variant: str) -> None:
    model, weights = _weights(world, variant)
    del weights["inferer::copies"]
    moving, *fixed = map(str, sorted((world / "phantoms" / "images").glob("*.nii.gz"))[:3])
    paths = {"moving": moving, "fixed": fixed, "output_dir": str(out)}
    _run(["register.yaml", model, "sequence.yaml"], "registering", **paths, **weights)


def evaluate(world: Path, out: Path, variant: str) -> None:
    folder = world / variant / "weights"
    entries = TINY | {"dataset_dir": str(world / "phantoms"), "output_dir": str(out), "ckpt_dir": str(folder)}
    entries |= {"report": True, "max_pairs": 1}
    with workflow(["train.yaml", "evaluate.yaml"], run_id="evaluating", **entries) as command:
        command.run()


def apply(world: Path, out: Path, variant: str) -> None:
    ApplyTransform(
        world / variant / "field.h5",
        out,
        reference=world / "image.nii.gz",
        image=world / "image.nii.gz",
        label=world / "label.nii.gz",
        points=world / "points.csv",
        coordinates="LPS",
        combined=out.parent / "elsewhere" / "chain.h5",
    ).run()


def prepare(world: Path, out: Path, variant: str) -> None:
    Prepare(load_cases(world / variant / "aligned"), out, known, settings={"by": "tests"}).run()


def prepare_pairs(world: Path, out: Path, variant: str) -> None:
    images = world / variant / "aligned" / "images"
    table = world / variant / "pairs.csv"
    if not table.exists():
        table.write_text(f"moving,fixed\n{images / 'moved.nii.gz'},{images / 'here.nii.gz'}\n")
    PreparePairs(table, out, known).run()


def restore(world: Path, out: Path, variant: str) -> None:
    Restore(world / "prepared", world / variant / "predicted", out).run()


def pool(world: Path, out: Path, variant: str) -> None:
    Pool([world / variant / "first", world / variant / "second"], out, title=variant).run()


def report(world: Path, out: Path, variant: str) -> None:
    if not (out / "metrics.json").exists():
        write_evaluation(out)
    Report(out, title=f"variant {variant}").run()


def draw(world: Path, out: Path, variant: str) -> None:
    make_phantoms(out, 1, 1, 0, 1, size=8, seed="ab".index(variant))


def label(world: Path, out: Path, variant: str) -> None:
    if not (out / "model" / "phantoms").exists():
        write_bundle(out, out.parent.parent / f"{variant}.yaml", 16)


@dataclass(frozen=True)
class Command:
    """A command; ``replaces`` says that its results may replace those of an earlier run."""

    run: Callable[[Path, Path, str], None]
    replaces: bool = True


COMMANDS = {
    "inferring": Command(infer),
    "registering": Command(register),
    "a sequence": Command(register_many),
    "evaluating": Command(evaluate),
    "applying": Command(apply),
    "preparing": Command(prepare),
    "preparing_pairs": Command(prepare_pairs),
    "restoring": Command(restore),
    "pooling": Command(pool),
    "reporting": Command(report),
    "phantoms": Command(draw),
    "labeling": Command(label, replaces=False),
}


def job(name: str, world: Path, root: Path, variant: str) -> Callable[[], None]:
    """A command as a function without arguments; its results go to ``root/out``."""
    return partial(COMMANDS[name].run, world, root / "out", variant)
