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
"""Classical methods on the test cases and pairs, scored as DeepRS is: a JSON file for each, beside those of compare.py.

make classical-env
python -m benchmarks.tools.classical --dataset hippocampus --dataset_dir DIR \
    --methods none,affine,bspline,syn,greedy,greedy_majority,greedy_weighted

A method is a tool (see classical_tools.py), which registers the test pairs; or a tool and a vote (see label_fusion.py):
multi-atlas segmentation, for which the tool registers the labelled cases to every test case. Labels are warped, and
scored, on the grid of each file by the functions that ``evaluating`` uses. What has its JSON file is skipped; fields
are kept in ``output/classical``, so that what was cut off goes on, and votes share them: delete the folder of a tool
there when its settings change.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.runs.records import RESULTS, dice_by_case, provenance, run_all, write_record
from benchmarks.tools.classical_tools import OWN, PACKAGES, TOOLS
from benchmarks.tools.label_fusion import VOTES, majority_vote
from scripts.data.cases import Cases, load_cases
from scripts.data.pairs import read_pairs
from scripts.data.samplers import ordered_pairs
from scripts.evaluation.structures import score_structures
from scripts.fields.grids import lps_to_ras, voxel_points
from scripts.fields.metrics import folding_percent, sdlogj
from scripts.fields.world import sample_at, sample_label_at
from scripts.files.writing import write_json
from scripts.registration.pair import Subject, load_subject
from scripts.report.scores import mean_std, summarise

logger = logging.getLogger("classical")

OUTPUT = ROOT / "output" / "classical"
ENVIRONMENT = ROOT / ".venv-classical" / "bin" / "python"


class Fields:
    """The fields of one tool between files, which a process of its own computes and keeps.

    Args:
        tool: its name.
        folder: where the fields are kept, one file for a pair.
        python: the interpreter that has the tool's package.
    """

    def __init__(self, tool: str, folder: Path, python: Path) -> None:
        self.tool, self.folder, self.python = tool, folder / tool, python
        self.seconds: list[float] = []
        self.version = ""

    def compute(self, pairs: Iterable[tuple[dict, dict]]) -> None:
        """Register the pairs of (moving, fixed) cases that have no field yet.

        Raises:
            RuntimeError: when the process fails; names its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        jobs, log = self.folder / "jobs.json", self.folder / "log.txt"
        paths = [{"moving": m["image"], "fixed": f["image"], "field": str(self._path(m, f))} for m, f in pairs]
        write_json(jobs, paths)
        with log.open("a") as file:
            command = [self.python, "-m", "benchmarks.tools.classical_tools", "--tool", self.tool, "--jobs", jobs]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
        if code:
            package = PACKAGES.get(self.tool)
            raise RuntimeError(f"'{self.tool}' ended with {code}; see {log}. It needs {package}: `make classical-env`.")

    def read(self, moving: Subject, fixed: Subject) -> torch.Tensor:
        """The displacement from fixed to moving, (X, Y, Z, 3) on the grid of the fixed file, RAS mm."""
        with np.load(self._path({"case": moving.case}, {"case": fixed.case})) as field:
            self.seconds.append(float(field["seconds"]))
            self.version = str(field["version"])
            return lps_to_ras(torch.from_numpy(field["displacement"]).double())

    def _path(self, moving: dict, fixed: dict) -> Path:
        return self.folder / f"{moving['case']}_to_{fixed['case']}.npz"


def register_pairs(pairs: Sequence[tuple[dict, dict]], cases: Cases, fields: Fields) -> list[dict[str, Any]]:
    """Warp the moving labels of pairs by their fields, and score them: a row for each pair and structure."""
    fields.compute(pairs)
    rows = []
    for moving, fixed in tqdm(pairs, desc=fields.tool):
        moving, fixed = (load_subject(case, dict, cases.label_ids) for case in (moving, fixed))
        displacement = fields.read(moving, fixed)
        points = voxel_points(fixed.file.shape[1:], fixed.file.affine) + displacement
        warped = sample_label_at(moving.label.as_tensor(), moving.label.affine, points)
        ddf = in_voxels(displacement, fixed.file.affine)
        pair = {"moving": moving.case, "fixed": fixed.case, "seconds": fields.seconds[-1]}
        pair |= {"folding_percent": float(folding_percent(ddf)), "sdlogj": float(sdlogj(ddf))}
        rows += [{**pair, **row} for row in score(warped, fixed, cases.structures)]
    return rows


def segment_cases(cases: Cases, fields: Fields, vote: str) -> list[dict[str, Any]]:
    """Segment the test cases by the labelled cases, and score them: a row for each case and structure."""
    fields.compute(itertools.product(cases.labeled, cases.test))
    atlases = [load_subject(case, dict, cases.label_ids) for case in cases.labeled]
    rows = []
    for case in tqdm(cases.test, desc=f"{fields.tool}, {vote}"):
        fixed = load_subject(case, dict, cases.label_ids)
        here = voxel_points(fixed.file.shape[1:], fixed.file.affine)
        points = [here + fields.read(atlas, fixed) for atlas in atlases]
        shares = np.stack([warped_shares(*entry, cases.num_classes) for entry in zip(atlases, points, strict=True)])
        if vote == "majority":
            classes = majority_vote(shares)
        else:
            images = [sample_at(a.file.as_tensor(), a.file.affine, p)[0] for a, p in zip(atlases, points, strict=True)]
            classes = VOTES[vote](fixed.file[0].numpy(), np.stack(images), shares)
        rows += [{"case": fixed.case, **row} for row in score(torch.from_numpy(classes)[None], fixed, cases.structures)]
    return rows


def warped_shares(atlas: Subject, points: torch.Tensor, num_classes: int) -> np.ndarray:
    """What the label of an atlas has of each class at points of the world (X, Y, Z, 3): (classes, X, Y, Z), sum 1."""
    label = atlas.label.as_tensor()
    shares = [sample_at(label == c, atlas.label.affine, points)[0].numpy() for c in range(1, num_classes)]
    return np.stack([1 - sum(shares), *shares])  # outside of the atlas is background


def score(pred: torch.Tensor, fixed: Subject, structures: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each structure, from classes (1, X, Y, Z) on the grid of the fixed file."""
    return score_structures(pred, fixed.label.as_tensor(), structures, fixed.spacing)


def in_voxels(displacement_ras: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """A displacement (X, Y, Z, 3) in RAS mm as a field (1, 3, X, Y, Z) in voxels of the grid with that affine."""
    to_voxels = torch.linalg.inv(torch.as_tensor(affine, dtype=torch.float64)[:3, :3])
    return (displacement_ras @ to_voxels.T).permute(3, 0, 1, 2)[None]


def measure(
    method: str, cases: Cases, pairs: Sequence[tuple[dict, dict]], folder: Path, python: Path
) -> dict[str, Any]:
    """Run a method.

    Args:
        method: a tool, or a tool and a vote: ``greedy``, ``greedy_majority``.
        cases: atlases and test cases.
        pairs: test pairs, (moving, fixed).
        folder: where fields are kept.
        python: the interpreter that has the tool's package.

    Returns:
        The record of the run.
    """
    tool, _, vote = method.partition("_")
    if tool not in TOOLS or (vote and vote not in VOTES):
        raise ValueError(f"no method '{method}': expected a tool of {[*TOOLS]}, alone or with a vote of {[*VOTES]}.")
    fields = Fields(tool, folder, Path(sys.executable) if tool == OWN else python)
    task = "segmentation" if vote else "registration"
    names = ("case",) if vote else ("moving", "fixed")
    rows = segment_cases(cases, fields, vote) if vote else register_pairs(pairs, cases, fields)
    summary = summarise(rows, names, cases.structures)
    if not vote:
        for key in ("folding_percent", "sdlogj", "seconds"):
            summary[key] = mean_std([row[key] for row in rows[:: len(cases.structures)]])
    record = {"method": method, "augmented": None, "num_labeled": len(cases.labeled) if vote else 0, "seed": None}
    record |= provenance()
    if tool in PACKAGES:
        record["versions"][PACKAGES[tool]] = fields.version
    record["register_seconds"] = sum(fields.seconds)
    metrics = {"structures": list(cases.structures), task: summary}
    return {**record, "metrics": metrics, "cases": {task: dice_by_case(task, rows)}}


def run(
    dataset: str,
    dataset_dir: str,
    methods: str = "none,affine,bspline,syn,greedy,greedy_majority,greedy_weighted",
    num_labeled: int = 4,
    max_pairs: int = 40,
    python: str | None = None,
) -> None:
    """Measure every method that has no result yet.

    Args:
        dataset: name of the folder of results.
        dataset_dir: where the data lie; its ``test_pairs.json`` is used when there is one.
        methods: tools (none, affine, bspline, syn, greedy; matching, of DeepRS itself), and tools with votes
            (greedy_majority, greedy_weighted).
        num_labeled: atlases of a vote, the first labelled cases.
        max_pairs: without ``test_pairs.json``, so many of the pairs of test cases are drawn, as ``evaluating`` does.
        python: interpreter that has the packages; else that of ``make classical-env``, else this one.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    folder = Path(dataset_dir).resolve()
    cases = load_cases(folder, num_labeled=num_labeled)
    if (file := folder / "test_pairs.json").is_file():
        pairs = [(pair["moving"], pair["fixed"]) for pair in read_pairs(file)]
    else:
        pairs = [(cases.test[i], cases.test[j]) for i, j in ordered_pairs(len(cases.test), max_pairs)]
    interpreter = Path(python or (ENVIRONMENT if ENVIRONMENT.is_file() else sys.executable))

    def one(method: str) -> None:
        labels = f"_n{num_labeled}" if "_" in method and num_labeled != 4 else ""
        if (path := RESULTS / dataset / f"{method}{labels}.json").is_file():
            logger.info("%s is done", path.stem)
            return
        record = measure(method, cases, pairs, OUTPUT / dataset, interpreter)
        write_record(path, record)
        task = "segmentation" if "segmentation" in record["metrics"] else "registration"
        logger.info("%s: Dice %s", path.stem, json.dumps(record["metrics"][task]["dice"]["mean"]))

    names = methods if isinstance(methods, (list, tuple)) else str(methods).split(",")
    run_all({name: partial(one, name) for name in names})


if __name__ == "__main__":
    fire.Fire(run)
