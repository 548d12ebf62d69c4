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
"""What a discriminator has to be taught so that its map tells right from wrong voxels of a warped label.

python -m benchmarks.studies.lessons run RUN_FOLDER ... --dataset hippocampus --dataset_dir DIR
python -m benchmarks.studies.lessons table --dataset hippocampus

R and S of a finished training stand still; D learns beside them, from nothing, by one lesson after the other, and is
asked on the validation pairs as ``confidence.py`` asks. Every lesson that has its row in ``lessons.csv`` is skipped.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from benchmarks.runs.records import RESULTS, provenance, read_rows, write_rows
from benchmarks.studies.confidence import areas
from benchmarks.studies.trained import open_run
from scripts.fields.warping import warp
from scripts.joint.state import PairState

logger = logging.getLogger("lessons")

#: name -> what is called aligned and what is not, or a target for each voxel; whether D is shown S's probabilities, and
#: how this D differs
LESSONS: dict[str, dict[str, Any]] = {
    "paper": {"quantities": ["reference_logits", "alignment_logits"]},
    "interpolated": {"quantities": ["jittered_logits", "alignment_logits"]},
    "interpolated, small D": {
        "quantities": ["jittered_logits", "alignment_logits"],
        "discriminator": {"network::channels": [8, 16], "network::strides": [2]},
    },
    "interpolated, pooling and noise": {
        "quantities": ["jittered_logits", "alignment_logits"],
        "discriminator": {"pool": 2, "noise_std": 0.1},
    },
    "subjects": {"quantities": ["jittered_logits", "unregistered_logits"]},
    "known": {"quantities": ["known_logits", "known_alignment"]},
    "known, S's eyes": {"quantities": ["known_logits", "known_alignment"], "eyes": True},
    "labels": {"quantities": ["alignment_logits", "label_alignment"], "labeled": True},
    "labels, S's eyes": {"quantities": ["alignment_logits", "label_alignment"], "labeled": True, "eyes": True},
}
COLUMNS = ["lesson", "run", "seed", "iterations", "loss_first", "loss_last", "auc", "auc_agreement", "commit"]


def random_field(image: torch.Tensor, length: float, cells: int = 5) -> torch.Tensor:
    """A smooth random displacement (B, 3, D, H, W) in voxels, whose longest vector has a random part of ``length``."""
    coarse = torch.randn(len(image), 3, cells, cells, cells, device=image.device)
    field = F.interpolate(coarse, size=image.shape[2:], mode="trilinear", align_corners=True)
    longest = field.norm(dim=1).flatten(1).max(dim=1).values
    return field * (length * torch.rand_like(longest) / longest).view(-1, 1, 1, 1, 1)


def restyled(image: torch.Tensor) -> torch.Tensor:
    """The image (B, 1, D, H, W) with another contrast and a smooth bias of brightness."""
    gamma = torch.empty(len(image), 1, 1, 1, 1, device=image.device).uniform_(0.7, 1.5)
    bias = 1 + 0.05 * F.interpolate(
        torch.randn(len(image), 1, 3, 3, 3, device=image.device), size=image.shape[2:], mode="trilinear"
    )
    return image.clamp(0, 1) ** gamma * bias


class LessonState(PairState):
    """The quantities of the lessons, beside those of a pair.

    Args:
        eyes: D is shown S's probabilities of both sides beside the images; these of the candidate are S's of the moving
            image, warped, or S's of an image made for the lesson.
        arguments, options: as for :class:`scripts.state.PairState`.
    """

    def __init__(self, *arguments: Any, eyes: bool = False, **options: Any) -> None:
        self.eyes = eyes
        super().__init__(*arguments, **options)

    @cached_property
    def jittered_logits(self) -> torch.Tensor:
        """D of the fixed image, moved by less than a voxel: aligned, and interpolated as a warped image is."""
        return self._judge(warp(self.fixed_image, random_field(self.fixed_image, 0.5)))

    @cached_property
    def unregistered_logits(self) -> torch.Tensor:
        """D of another subject as it lies, interpolated likewise."""
        return self._judge(warp(self.moving_image, random_field(self.moving_image, 0.5)))

    @cached_property
    def known_field(self) -> torch.Tensor:
        """A random field of up to four voxels."""
        return random_field(self.fixed_image, 4.0)

    @cached_property
    def known_logits(self) -> torch.Tensor:
        """D of the fixed image in another style, moved by that field."""
        return self._judge(warp(restyled(self.fixed_image), self.known_field))

    @cached_property
    def known_alignment(self) -> torch.Tensor:
        """1 where that field is 0, and exp(-1) where it has 1.5 voxels."""
        return torch.exp(-(self.known_field.square().sum(dim=1, keepdim=True) / 1.5**2))

    @cached_property
    def label_alignment(self) -> torch.Tensor:
        """1 where the warped label is that of the fixed image, for pairs of two labelled ones."""
        return (self.warped_label * self.fixed_label).sum(dim=1, keepdim=True)

    @cached_property
    def alignment_logits(self) -> torch.Tensor:
        """D of the warped moving image."""
        return self._judge(self.warped_image, self.warped_moving_prob if self.eyes else None)

    @cached_property
    def reference_logits(self) -> torch.Tensor:
        """D of the paper's reference image."""
        return self._judge(self.reference_image)

    def _judge(self, candidate: torch.Tensor, prob: torch.Tensor | None = None) -> torch.Tensor:
        if not self.eyes:
            return self._forward("discriminator", candidate, self.fixed_image)
        if prob is None:
            prob = self._forward("segmentation", candidate).softmax(dim=1)
        seen = torch.cat([candidate, prob.detach()], dim=1)
        return self._forward("discriminator", seen, torch.cat([self.fixed_image, self.fixed_prob.detach()], dim=1))


def run(
    *run_folders: str,
    dataset: str,
    dataset_dir: str,
    lessons: str | Sequence[str] = "",
    seed: int = 0,
    max_epochs: int = 10,
    **arguments: Any,
) -> None:
    """Teach a discriminator by every lesson beside every run, and write what its map knows then.

    Args:
        run_folders: what trainings wrote: weights of S and R, and model.json.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
        lessons: of ``LESSONS``, a list, or with semicolons between them; all when empty.
        seed: of D, the pairs and the random fields.
        max_epochs: of 160 iterations each, unless the data set has others.
        arguments: further entries of the config.

    Raises:
        ValueError: there is no such lesson.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    listed = lessons.split(";") if isinstance(lessons, str) else list(lessons)  # Fire makes a tuple of a,b
    chosen = listed if lessons else list(LESSONS)
    if unknown := set(chosen) - LESSONS.keys():
        raise ValueError(f"no lesson {sorted(unknown)}: expected some of {list(LESSONS)}.")
    path = RESULTS / dataset / "lessons.csv"
    entries = {"max_epochs": max_epochs, "seed": seed, **arguments}
    for folder in run_folders:
        for lesson in chosen:
            key = {"lesson": lesson, "run": Path(folder).resolve().name, "seed": str(seed)}
            if any(key.items() <= row.items() for row in read_rows(path)):
                continue
            row = key | teach(folder, dataset, dataset_dir, lesson, entries) | {"commit": provenance()["commit"]}
            logger.info(row)
            write_rows(path, COLUMNS, [*read_rows(path), row])


def teach(run_folder: str, dataset: str, dataset_dir: str, lesson: str, entries: dict[str, Any]) -> dict[str, float]:
    """Teach a new discriminator by one lesson; S and R of the run stay as they are.

    Args:
        run_folder: what a training wrote.
        dataset: a file of ``configs/data``.
        dataset_dir: where the data lie.
        lesson: of ``LESSONS``.
        entries: of the config.

    Returns:
        ``iterations``; the loss at the first and, averaged over the last epoch, at the end; ``auc`` of D's map on the
        validation pairs, and that of the agreement of S there.
    """
    set_determinism(entries["seed"])
    parser, trained = open_run(run_folder, dataset, dataset_dir)
    _set_lesson(parser, lesson, entries)
    trainer = parser.get_parsed_content("train::trainer")
    for name in ("registration", "segmentation"):
        trainer.networks[name].load_state_dict(trained[name].state_dict())
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.extend(_loss(engine)))
    trainer.run()
    set_determinism(None)
    for network in trainer.networks.values():
        network.eval()
    pairs = parser.get_parsed_content("validate::dataloader")
    known = areas(trainer.make_state, trainer.networks, pairs, ["confidence", "agreement"])
    tenth = max(1, len(losses) // 10)
    return {
        "iterations": len(losses),
        "loss_first": round(float(np.mean(losses[:tenth])), 4),
        "loss_last": round(float(np.mean(losses[-tenth:])), 4),
        "auc": known["confidence"],
        "auc_agreement": known["agreement"],
    }


def _loss(engine: Any) -> list[float]:
    return [float(value) for value, _ in engine.state.losses.values()]


def _set_lesson(parser: ConfigParser, lesson: str, entries: dict[str, Any]) -> None:
    """Leave D alone in the schedule, with the loss, the images and the pairs of a lesson."""
    about = LESSONS[lesson]
    eyes = about.get("eyes", False)
    with_target = about["quantities"][1].endswith("_alignment")
    loss = "torch.nn.BCEWithLogitsLoss" if with_target else "scripts.losses.DiscriminatorLoss"
    term = {"_target_": "scripts.joint.Term", "loss": {"_target_": loss}, "quantities": about["quantities"]}
    update = parser["updates"]["discriminator"] | {"terms": {"lesson": term}}
    # nobody plays against D here: it needs none of the handicaps that train.yaml has for it
    update["optimizer"] = update["optimizer"] | {"lr": 1e-3}
    changes = {
        **entries,
        "updates": {"discriminator": update},
        "schedule": [["discriminator"]],
        "networks": {name: f"@{name}" for name in ("registration", "discriminator")} | {"segmentation": "@network"},
        "discriminator_def::pool": 1,
        "discriminator_def::noise_std": 0.0,
        **{f"discriminator_def::{key}": value for key, value in about.get("discriminator", {}).items()},
        "discriminator_def::network::in_channels": "$2 * (1 + @num_classes)" if eyes else 2,
        "state": {
            "_target_": "benchmarks.studies.lessons.LessonState",
            "_mode_": "callable",
            "num_classes": "@num_classes",
            "eyes": eyes,
        },
        "train::handlers": [],
        "train::trainer::output": {},
        "train::sampler::kinds": {"labeled_labeled": 1.0} if about.get("labeled") else {"unlabeled_unlabeled": 1.0},
    }
    for key, value in changes.items():
        parser[key] = value


def table(dataset: str) -> str:
    """The lessons of a data set as Markdown, runs averaged, with their range."""
    groups = defaultdict(list)
    for row in read_rows(RESULTS / dataset / "lessons.csv"):
        groups[row["lesson"]].append([float(row[name]) for name in ("loss_first", "loss_last", "auc", "auc_agreement")])
    lines = [
        "| lesson | loss, first to last tenth | AUC of D (range over runs) | AUC of the agreement of S | runs |",
        "|---|---|---|---|---|",
    ]
    for lesson in [name for name in LESSONS if name in groups]:
        rows = groups[lesson]
        first, last, auc, agreement = np.mean(rows, axis=0)
        low, high = (bound(row[2] for row in rows) for bound in (min, max))
        cells = [lesson, f"{first:.2f} to {last:.2f}", f"{auc:.3f} ({low:.3f}..{high:.3f})", f"{agreement:.3f}"]
        lines.append(f"| {' | '.join(cells)} | {len(rows)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
