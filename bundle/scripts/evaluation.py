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
"""Both tasks on the test cases, measured on each file's own grid: what a user gets is what is scored."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from tqdm import tqdm

from scripts.cases import Cases
from scripts.files import write_json
from scripts.metrics import dice_per_structure, folding_percent, sdlogj, surface_distances
from scripts.pairs import ordered_pairs, read_pairs
from scripts.refinement import Refinement
from scripts.registration import Registered, Subject, load_subject, points_on_fixed_file, register_pair
from scripts.report import Report
from scripts.scores import OVERLAPS, format_table, mean, mean_std, summarise, write_csv, write_examples
from scripts.spatial import sample_label_at, spacing_of, voxel_points
from scripts.state import PairState
from scripts.warping import warp_label

logger = logging.getLogger(__name__)


class Evaluation:
    """Segments every test case and registers ordered test pairs, scores them, and writes the figures.

    Into ``output_dir``: ``metrics.json``, ``segmentation.csv``, ``registration.csv``, ``examples/`` (the worst, median
    and best case of each task, for pictures) and, on request, ``report.html``. Registration is scored against the fixed
    label on the fixed file's own grid, and so is doing nothing (centres aligned). Dice is 0..1; distances are in mm; a
    structure that is absent has no distance and is left out of the means, whose ``n`` says so.

    Args:
        cases: the test list, and the labels.
        output_dir: where the files go.
        preprocessing: as in training.
        postprocessing: brings ``pred``, logits on the networks' grid, to classes on the file's grid.
        networks: those of ``tasks``, with their weights.
        state: makes the state of a pair.
        tasks: ``segmentation``, ``registration``, or both.
        test_pairs: JSON file of pairs to register instead of pairs of the test list.
        max_pairs: at most this many ordered pairs, drawn by ``seed``; None is all n (n - 1).
        seed: of that draw.
        refinement: improves the field of each pair.
        report: also make ``report.html``.
        provenance: small facts to keep in ``metrics.json`` (weights, data set).
        device: where the networks are.
        amp: networks in bfloat16.
    """

    def __init__(
        self,
        cases: Cases,
        output_dir: str,
        preprocessing: Callable,
        postprocessing: Callable,
        networks: Mapping[str, torch.nn.Module],
        state: Callable[..., PairState],
        tasks: Collection[str] = ("segmentation", "registration"),
        test_pairs: str | None = None,
        max_pairs: int | None = None,
        seed: int = 0,
        refinement: Refinement | None = None,
        report: bool = False,
        provenance: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        amp: bool = False,
    ) -> None:
        self.cases, self.output_dir = cases, Path(output_dir)
        self.preprocessing, self.postprocessing = preprocessing, postprocessing
        self.networks, self.state, self.tasks = dict(networks), state, tuple(tasks)
        self.test_pairs, self.max_pairs, self.seed = test_pairs, max_pairs, seed
        self.report, self.provenance, self.refinement = report, dict(provenance or {}), refinement
        self.device, self.amp_dtype = device, torch.bfloat16 if amp else None

    def run(self) -> dict[str, Any]:
        """Evaluate, write and print.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            ValueError: when there is nothing to evaluate on.
        """
        pairs = self._pairs() if "registration" in self.tasks else []
        if not self.cases.test and not pairs:
            raise ValueError("nothing to evaluate: the data list has no `test` cases and no --test_pairs were given.")
        self._refuse_one_name_for_two(pairs)
        metrics: dict[str, Any] = {"structures": list(self.cases.structures), "config": self.provenance}
        rows, examples = {}, {}  # nothing is written before both tasks are done: no half of an older evaluation stays
        if "segmentation" in self.tasks and self.cases.test:
            rows["segmentation"], examples["segmentation"] = self._segment_all()
            metrics["segmentation"] = summarise(rows["segmentation"], ("case",), self.cases.structures)
        if pairs:
            rows["registration"], examples["registration"] = self._register_all(pairs)
            metrics |= self._summarise_registration(rows["registration"])
        for task in ("segmentation", "registration"):
            write_csv(self.output_dir / f"{task}.csv", rows.get(task, []))
            write_examples(self.output_dir, task, examples.get(task, []))
        write_json(self.output_dir / "metrics.json", metrics)
        logger.info("\n%s", format_table(metrics))
        logger.info("written to %s", self.output_dir.resolve())
        if self.report:
            Report(self.output_dir).run()
        return metrics

    def _pairs(self) -> list[tuple[dict, dict]]:
        if self.test_pairs is not None:
            return [(pair["moving"], pair["fixed"]) for pair in read_pairs(self.test_pairs)]
        test = self.cases.test
        return [(test[i], test[j]) for i, j in ordered_pairs(len(test), self.max_pairs, self.seed)]

    def _refuse_one_name_for_two(self, pairs: Sequence[tuple[dict, dict]]) -> None:
        images: dict[str, str] = {}
        for case in itertools.chain(self.cases.test, *pairs):
            if images.setdefault(case["case"], case["image"]) != case["image"]:
                raise ValueError(
                    f"two test images are called '{case['case']}', and their scores could not be told apart:\n"
                    f"  {images[case['case']]}\n  {case['image']}\n  Rename one, or give it a `case` in the data list."
                )

    def _summarise_registration(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        summary = summarise(rows, ("moving", "fixed"), self.cases.structures)
        pairs = rows[:: len(self.cases.structures)]
        for key in ("folding_percent", "sdlogj", "seconds"):
            summary[key] = mean_std([row[key] for row in pairs])
        identity = summarise(rows, ("moving", "fixed"), self.cases.structures, "identity_")
        return {"registration": summary, "identity": identity}

    def _load(self, case: Mapping[str, str]) -> Subject:
        if "label" not in case:
            raise ValueError(f"case '{case['case']}': a test case needs a label to be scored against, and has none.")
        return load_subject(case, self.preprocessing, self.cases.label_ids)

    # ---- segmentation

    def _segment_all(self) -> tuple[list[dict], list[dict]]:
        rows, ranking = [], []
        for case in tqdm(self.cases.test, desc="segmentation"):
            subject = self._load(case)
            scores = self._score(self._segment(subject), subject.label.as_tensor(), subject.spacing)
            rows += [{"case": subject.case, **row} for row in scores]
            ranking.append((mean([row["dice"] for row in scores]), case))
        return rows, [self._segmentation_example(*entry) for entry in _worst_median_best(ranking)]

    def _segmentation_example(self, dice: float, case: Mapping[str, str]) -> dict[str, Any]:
        subject = self._load(case)
        affine = np.asarray(subject.file.affine)
        volumes = {
            "image": _unit_range(subject.file[0]),
            "label": subject.label[0].numpy().astype(np.uint8),
            "pred": self._segment(subject)[0].numpy().astype(np.uint8),
        }
        # pictures name their planes by the axes of the body, so the file's own axes are brought to RAS
        to_ras = nibabel.io_orientation(affine)
        volumes = {name: nibabel.apply_orientation(volume, to_ras) for name, volume in volumes.items()}
        spacing = spacing_of(affine @ nibabel.orientations.inv_ornt_aff(to_ras, subject.file.shape[1:]))
        return {**volumes, "spacing": np.array(spacing), "case": subject.case, "dice": dice}

    @torch.no_grad()
    def _segment(self, subject: Subject) -> torch.Tensor:
        """Classes (1, X, Y, Z) on the file's grid, by the very transforms that `inferring` uses."""
        image = subject.network[None].to(self.device)
        device = torch.device(self.device).type
        with torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            pred = self.networks["segmentation"](image.as_tensor())[0]
        return self.postprocessing({"image": subject.network, "pred": pred.float().cpu()})["pred"].as_tensor()

    # ---- registration

    @torch.no_grad()
    def _register_all(self, pairs: Sequence[tuple[dict, dict]]) -> tuple[list[dict], list[dict]]:
        subjects: dict[str, Subject] = {}
        rows, ranking = [], []
        for moving_case, fixed_case in tqdm(pairs, desc="registration"):
            moving, fixed = (
                subjects.setdefault(case["image"], subjects.get(case["image"]) or self._load(case))
                for case in (moving_case, fixed_case)
            )
            result = self._register(moving, fixed)
            scores = self._score_field(result.ddf, moving, fixed)
            before = self._score_field(torch.zeros_like(result.ddf), moving, fixed)
            extra = {
                "folding_percent": float(folding_percent(result.ddf)),
                "sdlogj": float(sdlogj(result.ddf)),
                "seconds": result.seconds,
            }
            for row, nothing in zip(scores, before, strict=True):
                identity = {f"identity_{key}": nothing[key] for key in OVERLAPS}
                rows.append({"moving": moving.case, "fixed": fixed.case, **row, **identity, **extra})
            dice, identity = (mean([row["dice"] for row in table]) for table in (scores, before))
            ranking.append((dice, identity, moving, fixed))
        return rows, [self._pair_example(*entry) for entry in _worst_median_best(ranking)]

    def _register(self, moving: Subject, fixed: Subject) -> Registered:
        return register_pair(moving, fixed, self.networks, self.state, self.device, self.amp_dtype, self.refinement)

    def _score_field(self, ddf: torch.Tensor, moving: Subject, fixed: Subject) -> list[dict[str, Any]]:
        points = points_on_fixed_file(ddf, moving, fixed)
        warped = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)
        return self._score(warped, fixed.label.as_tensor(), fixed.spacing)

    def _pair_example(self, dice: float, identity_dice: float, moving: Subject, fixed: Subject) -> dict[str, Any]:
        """The pair on the networks' grid, for pictures."""
        result = self._register(moving, fixed)
        moving_label, fixed_label = (
            sample_label_at(
                subject.label.as_tensor(),
                subject.label.affine,
                voxel_points(subject.network.shape[1:], subject.network.affine),
            ).to(torch.uint8)
            for subject in (moving, fixed)
        )
        warped_label = warp_label(moving_label[None].to(self.device), result.ddf, self.cases.num_classes)
        volumes = {
            "moving": result.pair.moving_image[0, 0],
            "fixed": result.pair.fixed_image[0, 0],
            "warped": result.pair.warped_image[0, 0],
            "moving_label": moving_label[0],
            "fixed_label": fixed_label[0],
            "warped_label": warped_label[0, 0].to(torch.uint8),
            "ddf": result.ddf[0],
        }
        if "discriminator" in self.networks:
            volumes["confidence"] = result.pair.confidence[0, 0]
        return {
            **{name: volume.cpu().numpy() for name, volume in volumes.items()},
            "moving_case": moving.case,
            "fixed_case": fixed.case,
            "dice": dice,
            "identity_dice": identity_dice,
            "spacing": spacing_of(fixed.network.affine),
        }

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float]) -> list[dict[str, Any]]:
        """A row for each structure, from classes (1, X, Y, Z) on one grid."""
        classes = self.cases.num_classes
        dice = dice_per_structure(pred[None], truth[None], classes)[0].tolist()
        distances = surface_distances(pred[None], truth[None], classes, spacing)
        hd95, asd = (torch.as_tensor(distances[key]).tolist() for key in ("hd95", "asd"))
        names = self.cases.structures
        return [
            {"structure": n, "dice": d, "hd95": h, "asd": a} for n, d, h, a in zip(names, dice, hd95, asd, strict=True)
        ]


def _worst_median_best(ranking: Sequence[tuple]) -> list[tuple]:
    """Three entries of a list of (Dice, ...), which may be the same when there are fewer."""
    ranked = sorted((entry for entry in ranking if math.isfinite(entry[0])), key=lambda entry: entry[0])
    return [ranked[i] for i in (0, len(ranked) // 2, -1)] if ranked else []


def _unit_range(image: torch.Tensor) -> np.ndarray:
    """An image for pictures: its 1st to 99th percentile become 0 to 1."""
    array = np.asarray(image, dtype=np.float32)
    low, high = np.percentile(array, (1, 99))
    return np.clip((array - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
