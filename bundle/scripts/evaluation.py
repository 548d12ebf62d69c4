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

import csv
import io
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scripts.cases import Cases
from scripts.metrics import dice_per_structure, folding_percent, sdlogj, surface_distances
from scripts.pairs import ordered_pairs, read_pairs
from scripts.registration import Registered, Subject, load_subject, points_on_fixed_file, register_pair, write_json
from scripts.report import Report
from scripts.spatial import sample_label_at
from scripts.state import PairState
from scripts.warping import warp_label

logger = logging.getLogger(__name__)

OVERLAPS = ("dice", "hd95", "asd")


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
        report: bool = False,
        provenance: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        amp: bool = False,
    ) -> None:
        self.cases, self.output_dir = cases, Path(output_dir)
        self.preprocessing, self.postprocessing = preprocessing, postprocessing
        self.networks, self.state, self.tasks = dict(networks), state, tuple(tasks)
        self.test_pairs, self.max_pairs, self.seed = test_pairs, max_pairs, seed
        self.report, self.provenance = report, dict(provenance or {})
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
        metrics: dict[str, Any] = {"structures": list(self.cases.structures), "config": self.provenance}
        if "segmentation" in self.tasks and self.cases.test:
            rows = self._segment_all()
            write_csv(self.output_dir / "segmentation.csv", rows)
            metrics["segmentation"] = self._summary(rows, ("case",))
        if pairs:
            rows = self._register_all(pairs)
            write_csv(self.output_dir / "registration.csv", rows)
            metrics["registration"] = self._summary(rows, ("moving", "fixed"))
            metrics["registration"] |= {
                key: _mean_std([row[key] for row in rows[:: len(self.cases.structures)]])
                for key in ("folding_percent", "sdlogj", "seconds")
            }
            metrics["identity"] = self._summary(rows, ("moving", "fixed"), prefix="identity_")
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

    def _load(self, case: Mapping[str, str]) -> Subject:
        if "label" not in case:
            raise ValueError(f"case '{case['case']}': a test case needs a label to be scored against, and has none.")
        return load_subject(case, self.preprocessing, self.cases.label_ids)

    # ---- segmentation

    @torch.no_grad()
    def _segment_all(self) -> list[dict[str, Any]]:
        rows, examples = [], {}
        for case in tqdm(self.cases.test, desc="segmentation"):
            subject = self._load(case)
            pred = self._segment(subject)
            scores = self._score(pred, subject.label.as_tensor(), subject.spacing)
            rows += [{"case": subject.case, **row} for row in scores]
            examples[subject.case] = {
                "image": _unit_range(subject.file[0]),
                "label": subject.label[0].numpy().astype(np.uint8),
                "pred": pred[0].numpy().astype(np.uint8),
                "spacing": np.array(subject.spacing),
                "case": subject.case,
                "dice": _mean([row["dice"] for row in scores]),
            }
        self._write_examples("segmentation", list(examples.values()))
        return rows

    def _segment(self, subject: Subject) -> torch.Tensor:
        """Classes (1, X, Y, Z) on the file's grid, by the very transforms that `inferring` uses."""
        image = subject.network[None].to(self.device)
        device = torch.device(self.device).type
        with torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            pred = self.networks["segmentation"](image.as_tensor())[0]
        return self.postprocessing({"image": subject.network, "pred": pred.float().cpu()})["pred"].as_tensor()

    # ---- registration

    @torch.no_grad()
    def _register_all(self, pairs: Sequence[tuple[dict, dict]]) -> list[dict[str, Any]]:
        subjects: dict[str, Subject] = {}
        rows, scored = [], []
        for moving_case, fixed_case in tqdm(pairs, desc="registration"):
            moving, fixed = (
                subjects.setdefault(case["image"], subjects.get(case["image"]) or self._load(case))
                for case in (moving_case, fixed_case)
            )
            result = register_pair(moving, fixed, self.networks, self.state, self.device, self.amp_dtype)
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
            dices = [_mean([row["dice"] for row in table]) for table in (scores, before)]
            scored.append((dices, moving, fixed, result.ddf))
        ranked = sorted(scored, key=lambda entry: entry[0][0])
        chosen = [self._pair_example(*ranked[i]) for i in (0, len(ranked) // 2, len(ranked) - 1)]
        self._write_examples("registration", chosen)
        return rows

    def _score_field(self, ddf: torch.Tensor, moving: Subject, fixed: Subject) -> list[dict[str, Any]]:
        points = points_on_fixed_file(ddf, moving, fixed)
        warped = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)
        return self._score(warped, fixed.label.as_tensor(), fixed.spacing)

    @torch.no_grad()
    def _pair_example(self, dices: Sequence[float], moving: Subject, fixed: Subject, ddf: torch.Tensor) -> dict:
        """The pair on the networks' grid, for pictures."""
        result = Registered(self._pair_again(moving, fixed, ddf), ddf, 0.0)
        labels = {
            name: sample_label_at(
                subject.label.as_tensor(),
                subject.label.affine,
                moving_points(ddf * 0, subject.network.affine, subject.network.affine, subject.network.affine, ddf.shape[2:]),
            )
            for name, subject in (("moving", moving), ("fixed", fixed))
        }
        warped_label = warp_label(labels["moving"][None].to(ddf.device), ddf, self.cases.num_classes)
        example = {
            "moving": result.pair.moving_image[0, 0],
            "fixed": result.pair.fixed_image[0, 0],
            "warped": result.pair.warped_image[0, 0],
            "moving_label": labels["moving"][0].to(torch.uint8),
            "fixed_label": labels["fixed"][0].to(torch.uint8),
            "warped_label": warped_label[0, 0].to(torch.uint8),
            "ddf": ddf[0],
        }
        if "discriminator" in self.networks:
            example["confidence"] = result.pair.confidence[0, 0]
        example = {key: value.float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
                   for key, value in example.items()}
        spacing = np.linalg.norm(np.asarray(fixed.network.affine)[:3, :3], axis=0)
        return {**example, "moving_case": moving.case, "fixed_case": fixed.case, "dice": dices[0],
                "identity_dice": dices[1], "spacing": spacing}
