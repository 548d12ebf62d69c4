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
"""The main job end to end on phantoms: make data, train, evaluate, segment, register, and a report to look at.

``make demo`` runs it. Every step is the command that a user would type, run as a process of its own and shown first.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import fire

from ..files.output_folder import OutputFolder
from ..files.writing import temporary_name, write_json
from ..networks.weights import bundle_root
from .volumes import make_phantoms

logger = logging.getLogger(__name__)

# An empty file that tells a training of the demo, which is made anew, from one that somebody wants to keep.
MARKER = ".deeprs_demo"


def run_bundle(run_id: str, configs: list[str], **overrides: object) -> None:
    """Run ``python -m monai.bundle run`` and show the command.

    Args:
        run_id: such as ``training``.
        configs: config files, the later over the earlier.
        overrides: entries of the config.

    Raises:
        RuntimeError: when the command fails, with the command.
    """
    files = "[" + ",".join(f"'{config}'" for config in configs) + "]"
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", files]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    # a list of config files is full of single quotes: double ones around it are easier to read and to type
    shown = " ".join(f'"{part}"' if "'" in part else shlex.quote(part) for part in command)
    logger.info("\n$ %s\n", shown)
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"the step '{run_id}' failed; its message is above. The command was:\n  {shown}")


def clear_earlier(folder: Path) -> None:
    """Make room for the training of this demo, where an earlier demo was; anyone else's training stays.

    Args:
        folder: of the training. One that is neither empty nor a demo's is left alone, and the training refuses it.
    """
    if (folder / MARKER).is_file():
        aside = temporary_name(folder)  # killed meanwhile, it would lack its mark and still hold weights
        os.replace(folder, aside)
        shutil.rmtree(aside)
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()


def demo(output_dir: str = "output/demo", seed: int = 0, max_epochs: int | None = None) -> None:
    """Run the whole job; minutes on two cores.

    Args:
        output_dir: everything goes here: ``data/``, ``train/``, ``evaluation/``, ``segmentations/``, ``registration/``.
            A demo that is there is made anew.
        seed: of the phantoms and the training.
        max_epochs: of the training; as many as ``configs/data/phantom.yaml`` says when none are given.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with OutputFolder(Path(output_dir).resolve()) as output:
        _demo(output.path, seed, max_epochs)


def _demo(out: Path, seed: int, max_epochs: int | None) -> None:
    configs = Path(bundle_root()) / "configs"
    data, train = out / "data", out / "train"
    make_phantoms(str(data), seed=seed)
    clear_earlier(train)
    trained = [configs / "train.yaml", configs / "data" / "phantom.yaml"]
    common = {"dataset_dir": data}
    epochs = {} if max_epochs is None else {"max_epochs": max_epochs}
    run_bundle("training", trained, **common, output_dir=train, seed=seed, **epochs)
    evaluation = out / "evaluation"
    run_bundle(
        "evaluating",
        [*trained, configs / "evaluate.yaml"],
        **common,
        ckpt_dir=train,
        output_dir=evaluation,
        report=True,
    )
    model = train / "model.yaml"
    segmentations, registration = out / "segmentations", out / "registration"
    run_bundle("inferring", [configs / "inference.yaml", model], **common, output_dir=segmentations)
    images, labels = sorted((data / "images").glob("*.nii.gz")), data / "labels"
    moving = next(image for image in images if (labels / image.name).is_file())
    fixed = next(image for image in images if not (labels / image.name).is_file())
    run_bundle(
        "registering",
        [configs / "register.yaml", model],
        moving=moving,
        fixed=fixed,
        moving_label=labels / moving.name,
        output_dir=registration,
    )
    made = {
        "report": str(evaluation / "report.html"),
        "weights and curves": str(train),
        "segmentations of all images": str(segmentations),
        "a registered pair": str(registration),
    }
    write_json(out / "made.json", made)
    logger.info("\nThe demo is done. Open\n  %s\n", made["report"])
    for what, where in made.items():
        logger.info("%-28s %s", what, where)


if __name__ == "__main__":
    fire.Fire(demo)
