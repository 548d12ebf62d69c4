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
from functools import lru_cache, partial
from typing import Any

import torch
from monai.inferers import Inferer

from ..data.cases import Cases
from ..data.image_checks import check_cases
from ..data.pairs import read_pairs
from ..data.partly_labeled import resolve_missing
from ..data.samplers import ordered_pairs
from ..fields.metrics import folding_percent, sdlogj
from ..fields.world import sample_label_at
from ..files import processes
from ..files.each_case import for_each
from ..files.marks import KEY, written_by
from ..files.output_folder import OutputFolder
from ..files.tables import write_csv
from ..files.writing import write_json
from ..joint.state import PairState
from ..networks.memory import remembering
from ..pictures.orientation import VIEWS, checked_view
from ..registration.pair import (
    Registered,
    Subject,
    describe_worse,
    load_subject,
    points_on_fixed_file,
    points_without_field,
    register_pair,
    similarity_of,
)
from ..registration.refinement import Refinement
from ..report.evaluation_folder import RESULTS
from ..report.scores import OVERLAPS, format_table, mean, summarise, summarise_registration, write_examples
from ..report.write import Report
from ..training.options import TASKS, checked_tasks
from .examples import pair_example, segmentation_example, worst_median_best
from .landmarks import Landmarks
from .structures import score_structures

logger = logging.getLogger(__name__)

SUBJECTS_IN_MEMORY = 2**32  # bytes that the subjects of pairs may take, which come again and again
BYTES_OF_VOXEL = 5  # an image in float32, and a label
RESULTS_IN_MEMORY = 2**30  # bytes of segmentations and fields, of which a few are shown in the end


class Evaluation:
    """Segments every test case and registers ordered test pairs, scores them, and writes the figures.

    Into ``output_dir``: ``metrics.json``, ``segmentation.csv``, ``registration.csv``, ``examples/`` (the worst, median
    and best case of each task, for pictures) and, on request, ``report.html``. Registration is scored against the fixed
    label on the fixed file's own grid, and so is doing nothing (centres aligned). Dice is 0..1; distances are in mm; a
    structure that is absent, or not drawn in a case, is left out of the means, whose ``n`` says so. With landmarks,
    their errors (TRE) are in ``landmarks.csv`` and, as ``tre``, among the figures; a pair that has them needs no
    labels, and without has no overlaps. Several processes share the cases and the pairs, and the first one writes.

    Args:
        cases: the test list, and the labels.
        output_dir: where the files go.
        preprocessing: as in training.
        postprocessing: brings ``pred``, logits on the networks' grid, to classes on the file's grid.
        networks: those of ``tasks``, with their weights.
        state: makes the state of a pair.
        inferer: how the segmentation network is applied to an image.
        tasks: ``segmentation``, ``registration``, or both.
        test_pairs: JSON file of pairs to register instead of pairs of the test list.
        max_pairs: at most this many ordered pairs, drawn by ``seed``; None is all n (n - 1).
        seed: of that draw.
        refinement: improves the field of each pair.
        landmarks: folder with a file of landmarks for each case that has any: :class:`Landmarks`.
        coordinates: ``LPS`` or ``RAS``, of landmarks whose files do not say it.
        report: also make ``report.html``.
        view: of its pictures: ``radiological`` (the patient's right on the left) or ``neurological``.
        provenance: small facts to keep in ``metrics.json`` (weights, data set).
        device: where the networks are.
        amp: networks in bfloat16.
        overwrite: also replace files in ``output_dir`` that this product did not write.
    """

    def __init__(
        self,
        cases: Cases,
        output_dir: str,
        preprocessing: Callable,
        postprocessing: Callable,
        networks: Mapping[str, torch.nn.Module],
        state: Callable[..., PairState],
        inferer: Inferer,
        tasks: str | Collection[str] = TASKS,
        test_pairs: str | None = None,
        max_pairs: int | None = None,
        seed: int = 0,
        refinement: Refinement | None = None,
        landmarks: str | None = None,
        coordinates: str | None = None,
        report: bool = False,
        view: str = VIEWS[0],
        provenance: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        amp: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.cases, self.output = cases, OutputFolder(output_dir, overwrite)
        self.preprocessing, self.postprocessing = preprocessing, postprocessing
        self.networks, self.state, self.inferer, self.tasks = dict(networks), state, inferer, checked_tasks(tasks)
        self.remembering = remembering(self.networks)  # for pairs: copies that an inferer moves do not come again
        self.test_pairs, self.max_pairs, self.seed = test_pairs, max_pairs, seed
        self.view = checked_view(view)
        self.report, self.provenance, self.refinement = report, dict(provenance or {}), refinement
        self.landmarks = None if landmarks is None else Landmarks(landmarks, coordinates)
        self.kept: dict[Any, torch.Tensor] = {}
        self.missing: dict[str, Collection[int]] = {}  # case -> classes that were not drawn in it
        self.device, self.amp_dtype = device, torch.bfloat16 if amp else None

    def run(self) -> dict[str, Any]:
        """Evaluate, write and print.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            ValueError: when there is nothing to evaluate on, nothing to score a pair by, or a file that cannot be used.
            FileExistsError: when a result would replace somebody else's file, or another process writes there.
        """
        with self.output:
            self.output.refuse_foreign(RESULTS)
            return self._evaluate()

    def _evaluate(self) -> dict[str, Any]:
        pairs = self._pairs() if "registration" in self.tasks else []
        if not self.cases.test and not pairs:
            raise ValueError(
                "nothing to evaluate: the data have no `test` cases, and no --test_pairs were given.\n"
                "  Label more cases (of a folder, half of those beyond `num_labeled` become the test), list some under "
                "`test` in a datalist.json, or name labelled pairs by --test_pairs."
            )
        if "registration" in self.tasks and not pairs:
            logger.warning("one test case makes no pair: registration is not scored")
        self._refuse_one_name_for_two(pairs)
        self.missing = {case["case"]: case.get("missing", ()) for case in itertools.chain(*pairs, self.cases.test)}
        if self.landmarks is not None:
            self.landmarks.check(pairs)
        self._refuse_what_cannot_be_scored(pairs)
        largest = check_cases(itertools.chain(self.cases.test, *pairs), self.cases.label_ids, self.preprocessing)
        if pairs:  # whose images come again and again
            self._read = lru_cache(max(2, SUBJECTS_IN_MEMORY // (BYTES_OF_VOXEL * largest)))(self._read)
        names = list(self.cases.structures)
        metrics: dict[str, Any] = {KEY: written_by(), "structures": names, "config": self.provenance}
        rows, examples = {}, {}
        if "segmentation" in self.tasks and self.cases.test:
            rows["segmentation"], examples["segmentation"] = self._segment_all()
            metrics["segmentation"] = summarise(rows["segmentation"], ("case",), self.cases.structures)
        if pairs:
            rows["registration"], rows["landmarks"], examples["registration"] = self._register_all(pairs)
            metrics |= summarise_registration(rows["registration"], rows["landmarks"], self.cases.structures)
        if processes.rank() == 0:
            self._write(metrics, rows, examples)
        return metrics

    def _write(self, metrics: dict[str, Any], rows: Mapping[str, list], examples: Mapping[str, list]) -> None:
        with self.output.replacing(RESULTS) as folder:
            for table in ("segmentation", "registration", "landmarks"):
                write_csv(folder / f"{table}.csv", rows.get(table, []))
            for task in ("segmentation", "registration"):
                write_examples(folder, task, examples.get(task, []))
            write_json(folder / "metrics.json", metrics)
            if self.report:
                Report(folder, view=self.view, name=self.output.path.resolve().name).write(folder)
        logger.info("\n%s", format_table(metrics))
        logger.info("written to %s", self.output.path.resolve())

    def _pairs(self) -> list[tuple[dict, dict]]:
        if self.test_pairs is not None:
            resolve = partial(resolve_missing, labels=self.cases.labels, source=self.test_pairs)
            return [(resolve(pair["moving"]), resolve(pair["fixed"])) for pair in read_pairs(self.test_pairs)]
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

    def _refuse_what_cannot_be_scored(self, pairs: Sequence[tuple[dict, dict]]) -> None:
        for pair in pairs:
            names = [case["case"] for case in pair]
            if self.landmarks is not None and self.landmarks.of_pair(*names) is not None:
                continue
            for case in pair:
                if "label" not in case:
                    raise ValueError(
                        f"case '{case['case']}': a test case needs a label to be scored against, and has none.\n"
                        f"  Add it to the pair of '{names[0]}' and '{names[1]}', or give both landmarks (--landmarks)."
                    )

    def _load(self, case: Mapping[str, str]) -> Subject:
        return self._read(tuple((key, case[key]) for key in ("case", "image", "label") if key in case))

    def _read(self, case: tuple[tuple[str, str], ...]) -> Subject:
        return load_subject(dict(case), self.preprocessing, self.cases.label_ids)

    def _segment_all(self) -> tuple[list[dict], list[dict]]:
        tables = for_each(self.cases.test, self._score_segmentation, "Segmenting")
        ranking = [
            (mean([row["dice"] for row in table]), case) for table, case in zip(tables, self.cases.test, strict=True)
        ]
        examples = [self._segmentation_example(*entry) for entry in worst_median_best(ranking)]
        return list(itertools.chain(*tables)), examples

    def _score_segmentation(self, case: Mapping[str, str]) -> list[dict[str, Any]]:
        subject = self._load(case)
        pred = self._segment(subject)
        self._keep(subject.case, pred.to(torch.uint8))
        scores = self._score(pred, subject)
        return [{"case": subject.case, **row} for row in scores]

    def _segmentation_example(self, dice: float, case: Mapping[str, str]) -> dict[str, Any]:
        subject = self._load(case)
        pred = self._segment(subject) if subject.case not in self.kept else self.kept[subject.case]
        return segmentation_example(subject, pred, dice, self.cases.num_classes)

    @torch.no_grad()
    def _segment(self, subject: Subject) -> torch.Tensor:
        """Classes (1, X, Y, Z) on the file's grid, by the very transforms that `inferring` uses."""
        image = subject.network[None].to(self.device)
        device = torch.device(self.device).type
        with torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            pred = self.inferer(image.as_tensor(), self.networks["segmentation"])[0]
        return self.postprocessing({"image": subject.network, "pred": pred.float().cpu()})["pred"].as_tensor()

    @torch.no_grad()
    def _register_all(self, pairs: Sequence[tuple[dict, dict]]) -> tuple[list[dict], list[dict], list[dict]]:
        """Rows of structures, rows of landmarks, and examples."""
        # an image may be in several pairs, and in only some of them with its label
        cases = {case["image"]: case for case in sorted(itertools.chain(*pairs), key=lambda case: "label" in case)}
        pairs = [tuple(cases[case["image"]] for case in pair) for pair in pairs]

        def score(pair: tuple[dict, dict]) -> tuple[list[dict], list[dict]]:
            return self._score_registration(*map(self._load, pair))

        tables = for_each(pairs, score, "Registering")
        if self.landmarks is not None:
            self.landmarks.warn_of_points_outside()
        names = [" to ".join(case["case"] for case in pair) for pair in pairs]
        first_rows = [(name, table[0]) for name, (table, _) in zip(names, tables, strict=True)]
        if processes.rank() == 0 and (told := describe_worse(first_rows, len(pairs))):
            logger.warning("%s", told)
        ranking = [
            (*(mean([row[key] for row in table]) for key in ("dice", "identity_dice")), *pair)
            for (table, _), pair in zip(tables, pairs, strict=True)
        ]
        examples = [self._pair_example(*entry) for entry in worst_median_best(ranking)]
        structures, landmarks = (list(itertools.chain(*kind)) for kind in zip(*tables, strict=True))
        return structures, landmarks, examples

    def _score_registration(self, moving: Subject, fixed: Subject) -> tuple[list[dict], list[dict]]:
        """A row for each structure of a pair, and one for each of its landmarks."""
        result = self._register(moving, fixed)
        self._keep((moving.case, fixed.case), result.ddf)
        scores = self._score_points(points_on_fixed_file(result.ddf, moving, fixed, result.match), moving, fixed)
        before = self._score_points(points_without_field(moving, fixed), moving, fixed)
        extra = {
            "folding_percent": float(folding_percent(result.ddf)),
            "sdlogj": float(sdlogj(result.ddf)),
            "seconds": result.seconds,
            **{key: float(value) for key, value in similarity_of(result).items()},
        }
        identity = [{f"identity_{key}": row[key] for key in OVERLAPS} for row in before]
        names = {"moving": moving.case, "fixed": fixed.case}
        rows = [{**names, **row, **nothing, **extra} for row, nothing in zip(scores, identity, strict=True)]
        return rows, [] if self.landmarks is None else self.landmarks.score(result, moving, fixed)

    def _register(self, moving: Subject, fixed: Subject, ddf: torch.Tensor | None = None) -> Registered:
        settings = self.remembering, self.state, self.device, self.amp_dtype, self.refinement
        return register_pair(moving, fixed, *settings, ddf=ddf)

    def _keep(self, key: Any, result: torch.Tensor) -> None:
        if sum(kept.nbytes for kept in self.kept.values()) + result.nbytes <= RESULTS_IN_MEMORY:
            self.kept[key] = result

    def _score_points(self, points: torch.Tensor, moving: Subject, fixed: Subject) -> list[dict[str, Any]]:
        if moving.label is None or fixed.label is None:  # there are landmarks, else it would have been refused
            return [{"structure": name} | dict.fromkeys(OVERLAPS, math.nan) for name in self.cases.structures]
        warped = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)
        return self._score(warped, fixed, moving)

    def _pair_example(self, dice: float, identity_dice: float, moving_case: dict, fixed_case: dict) -> dict[str, Any]:
        moving, fixed = self._load(moving_case), self._load(fixed_case)
        result = self._register(moving, fixed, self.kept.get((moving.case, fixed.case)))
        return pair_example(result, moving, fixed, self.cases.num_classes, dice, identity_dice)

    def _score(self, pred: torch.Tensor, subject: Subject, *others: Subject) -> list[dict[str, Any]]:
        missing = {number for one in (subject, *others) for number in self.missing.get(one.case, ())}
        return score_structures(pred, subject.label.as_tensor(), self.cases.structures, subject.spacing, missing)
