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
"""Registration by well-kept packages, each as a function from two files to the field between them.

Affine and B-spline come from itk-elastix, SyN from antspyx, greedy from picsl-greedy (``requirements-classical.txt``).
Their requirements clash with those of DeepRS, and their copies of ITK with each other. So this module needs nothing but
NumPy and nibabel beside the one package, and classical.py runs it as a process, one tool at a time:

python -m benchmarks.tools.classical_tools --tool greedy --jobs jobs.json

All start with the centres of the two volumes on each other, and run with the settings their authors recommend; what is
set here is said here. A field is the displacement from fixed to moving on the grid of the fixed file, LPS mm, shape
(X, Y, Z, 3): what ITK keeps in files, and what ``scripts.spatial`` writes.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

# read by ITK when it is imported, inside of each of the packages: one thread, as every run of compare.py has, and one
# seed; itk-elastix has its own, which is fixed
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
os.environ.setdefault("ANTS_RANDOM_SEED", "1")

import nibabel
import numpy as np

from scripts.files.writing import replacing

logger = logging.getLogger("classical")

#: the tool that is of this project, and runs in its environment
OWN = "matching"
#: distance of the control points of the B-spline, in voxels of the fixed image
GRID_SPACING = 10.0
#: greedy: local NCC in windows of 5 voxels, iterations from coarse to fine. Of ten settings the best on 20 pairs of
#: validation cases of the hippocampus: Dice 0.775 with its weighted NCC, 0.760 with the best of NCC
GREEDY_METRIC = "-m WNCC 2x2x2 -threads 1"
GREEDY_AFFINE = "-n 100x100"
GREEDY_DEFORMABLE = "-n 100x100x50"


def no_registration(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Lay the centre of the moving volume on that of the fixed one: what every tool has to beat.

    Args:
        moving: NIfTI file of the image that is pulled.
        fixed: NIfTI file of the image that stays.
        folder: unused; the tools have files of their own to put somewhere.

    Returns:
        Displacement, shape (X, Y, Z, 3), LPS mm.
    """
    shape = nibabel.load(fixed).shape
    shift = (_center_lps(moving) - _center_lps(fixed)).astype(np.float32)
    return np.broadcast_to(shift, (*shape, 3)).copy()


def affine(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Register by elastix, affine; arguments and result as of ``no_registration``."""
    return _elastix(moving, fixed, ["affine"])


def bspline(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Register by elastix, affine and then B-splines; arguments and result as of ``no_registration``."""
    return _elastix(moving, fixed, ["affine", "bspline"])


def syn(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Register by ANTs, affine and then SyN with mutual information; arguments and result as of ``no_registration``."""
    import ants

    images = {name: ants.image_read(str(path)) for name, path in (("fixed", fixed), ("moving", moving))}
    found = ants.registration(**images, type_of_transform="SyN", outprefix=f"{folder}/syn_")
    return _read_field(
        ants.apply_transforms(**images, transformlist=found["fwdtransforms"], compose=f"{folder}/composed_")
    )


def greedy(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Register by greedy, affine and then deformable, by local NCC; arguments and result as of ``no_registration``."""
    from picsl_greedy import Greedy3D

    run, images = Greedy3D(), f"-i {fixed} {moving} {GREEDY_METRIC}"
    linear, warp, composed = (folder / name for name in ("affine.mat", "warp.nii.gz", "composed.nii.gz"))
    for command in (
        f"{images} -a -dof 12 -ia-image-centers {GREEDY_AFFINE} -o {linear}",
        f"{images} -it {linear} {GREEDY_DEFORMABLE} -o {warp}",
        f"-rf {fixed} -r {warp} {linear} -rc {composed} -threads 1",
    ):
        run.execute(command, out=io.StringIO())
    return _read_field(composed)


def matching(moving: Path, fixed: Path, folder: Path) -> np.ndarray:
    """Register as ``deeprs register --model none`` does; arguments and result as of ``no_registration``."""
    import deeprs

    return deeprs.register(moving, fixed, model="none", device="cpu").displacement.array


Tool = Callable[[Path, Path, Path], np.ndarray]
#: the tools by the name of their method, and the package that each needs
TOOLS: dict[str, Tool] = {
    **{"none": no_registration, "affine": affine, "bspline": bspline, "syn": syn, "greedy": greedy},
    "matching": matching,
}
PACKAGES = {
    **{"affine": "itk-elastix", "bspline": "itk-elastix", "syn": "antspyx", "greedy": "picsl-greedy"},
    OWN: "deeprs",
}
MODULES = {"itk-elastix": "itk", "antspyx": "ants", "picsl-greedy": "picsl_greedy", "deeprs": "deeprs"}


def _elastix(moving: Path, fixed: Path, stages: list[str]) -> np.ndarray:
    import itk

    fixed_image, moving_image = (itk.imread(str(path), itk.F) for path in (fixed, moving))
    spacing_mm = GRID_SPACING * float(np.mean(tuple(fixed_image.GetSpacing())))
    parameters = itk.ParameterObject.New()
    for stage in stages:
        settings = parameters.GetDefaultParameterMap(stage, 4, spacing_mm)
        if stage == "affine":
            settings["AutomaticTransformInitialization"] = ["true"]
            settings["AutomaticTransformInitializationMethod"] = ["GeometricalCenter"]
        parameters.AddParameterMap(settings)
    _, transform = itk.elastix_registration_method(
        fixed_image, moving_image, parameter_object=parameters, number_of_threads=1, log_to_console=False
    )
    field = itk.transformix_deformation_field(moving_image, transform, log_to_console=False)
    return np.ascontiguousarray(itk.array_from_image(field).transpose(2, 1, 0, 3))  # ITK's arrays are (Z, Y, X)


def _read_field(path: str | Path) -> np.ndarray:
    """A NIfTI displacement field (X, Y, Z, 1, 3) that ITK wrote: LPS mm, intent 1007."""
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)[:, :, :, 0]


def _center_lps(path: Path) -> np.ndarray:
    image = nibabel.load(path)
    center = nibabel.affines.apply_affine(image.affine, (np.array(image.shape[:3]) - 1) / 2)
    return center * (-1, -1, 1)


def register(tool: str, moving: Path, fixed: Path, field: Path) -> None:
    """Register a pair and write what came out.

    Args:
        tool: a key of ``TOOLS``.
        moving: NIfTI file of the image that is pulled.
        fixed: NIfTI file of the image that stays.
        field: the ``.npz`` file to write: ``displacement``, shape (X, Y, Z, 3), float32, LPS mm; ``seconds`` of the
            processor, which other work on the machine does not lengthen; ``version`` of the package.
    """
    package = PACKAGES.get(tool)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        displacement = TOOLS[tool](moving, fixed, Path(folder))
    seconds = time.process_time() - start
    with replacing(field) as temporary:
        np.savez(
            temporary,
            displacement=displacement.astype(np.float32),
            seconds=seconds,
            version=version(package) if package else "",
        )
    logger.info("%s: %s onto %s, %.1f s", tool, moving.name, fixed.name, seconds)


def main() -> None:
    """Register every pair of a list whose field is not there yet: a list that was cut off goes on where it ended."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tool", required=True, choices=TOOLS)
    parser.add_argument("--jobs", required=True, type=Path, help="JSON list of {moving, fixed, field}: paths")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    if package := PACKAGES.get(arguments.tool):
        version(package)  # raises PackageNotFoundError; the module of itk-elastix is there without it
        importlib.import_module(MODULES[package])  # so that no pair pays for it
    for job in json.loads(arguments.jobs.read_text()):
        paths = {name: Path(path) for name, path in job.items()}
        if not paths["field"].is_file():
            register(arguments.tool, **paths)


if __name__ == "__main__":
    main()
