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

"""Affine registration of two files: by elastix, in a process of its own, or by SimpleITK where there is no elastix.

itk-elastix is optional, and may live in another environment than DeepRS: the process needs nothing else, which is why
this module imports neither torch nor MONAI. With one thread, a pair of files always gives the same matrix.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

INITIALIZATIONS = ("GeometricalCenter", "CenterOfGravity")
RESOLUTIONS = 4  # levels of the pyramid, the default of elastix
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MISSING = (
    "affine alignment needs the optional package itk-elastix, which {python} does not have.\n"
    "  Install it there (`python -m pip install itk-elastix`), or set `elastix_python` to the interpreter of an "
    "environment that has it."
)

# Of SimpleITK. A number of samples, not a share, so that a whole CT takes no longer; blurring without shrinking, so
# that thick slices stay. Steps are a voxel at first. Halving them where the search turns around, which is the default,
# ends it too early: 1 mm from the truth on the phantom of the tests, where this way half a millimetre is left.
SAMPLES = 20000
SMOOTHING_VOXELS = (4.0, 2.0, 1.0, 0.0)
STEPS = {"learningRate": 1.0, "minStep": 1e-3, "numberOfIterations": 200, "relaxationFactor": 0.9}


def choose_aligner(
    tool: str | None = None, initialization: str = "GeometricalCenter", elastix_python: str | Path | None = None
) -> Elastix | SimpleITKAligner:
    """The aligner that was asked for; else elastix where there is one, and SimpleITK where not, as the log says.

    Args:
        tool: ``elastix``, ``SimpleITK``, or None.
        initialization: see :class:`Elastix`.
        elastix_python: see :class:`Elastix`; whoever names an interpreter wants elastix.

    Raises:
        ModuleNotFoundError: elastix was asked for, and is not there.
        ValueError: there is no such tool or initialization.
    """
    tools = {"elastix": partial(Elastix, python=elastix_python), "SimpleITK": SimpleITKAligner}
    if tool is not None and tool not in tools:
        raise ValueError(f"`align_with` should be elastix, SimpleITK or null, found '{tool}'.")
    if tool is not None or elastix_python is not None:
        return tools[tool or "elastix"](initialization)
    try:
        return tools["elastix"](initialization)
    except ModuleNotFoundError:
        logger.warning("itk-elastix is not installed: SimpleITK aligns instead. docs/data.md says how well each does.")
        return tools["SimpleITK"](initialization)


class Elastix:
    """Finds the affine transform that brings one image onto another, by their correlation in four resolutions.

    Args:
        initialization: what is laid on each other first: ``GeometricalCenter``, the centres of the two volumes, or
            ``CenterOfGravity``, of what is bright in them.
        python: the interpreter that has itk-elastix; this one when it is None.

    Raises:
        ModuleNotFoundError: there is no itk-elastix; says how to install it.
        FileNotFoundError: there is no such interpreter.
        ValueError: there is no such initialization.
    """

    tool = "elastix"

    def __init__(self, initialization: str = "GeometricalCenter", python: str | Path | None = None) -> None:
        # elastix runs in another folder; not resolve(): an environment's interpreter is a link that must stay one
        self.initialization, self.python = _known(initialization), os.path.abspath(python or sys.executable)
        if not Path(self.python).is_file():
            raise FileNotFoundError(f"`elastix_python`: there is no interpreter '{python}'.")
        # the module is itk, which is there without elastix, too: so ask for the package
        question = "from importlib.metadata import version; version('itk-elastix')"
        if subprocess.run([self.python, "-c", question], capture_output=True, check=False).returncode:
            raise ModuleNotFoundError(MISSING.format(python=self.python))

    def __call__(self, moving: str | Path, fixed: str | Path) -> np.ndarray:
        """Align two files.

        Args:
            moving: the image that is pulled; any format and type that ITK reads.
            fixed: the image that stays.

        Returns:
            Matrix (4, 4) from points of the fixed image to those of the moving one, RAS mm; for an image and itself the
            identity, up to the accuracy of the search.

        Raises:
            RuntimeError: elastix failed; its last words are in the message.
        """
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "matrix.json"
            paths = [str(Path(path).resolve()) for path in (moving, fixed, result)]
            done = subprocess.run(
                [self.python, "-m", "scripts.alignment.affine", *paths, self.initialization],
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode or not result.is_file():
                said = "\n  ".join(done.stdout.strip().splitlines()[-5:])
                raise RuntimeError(f"elastix could not align '{moving}' with '{fixed}':\n  {said}")
            lps = np.array(json.loads(result.read_text()))
        return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


class SimpleITKAligner:
    """Finds the affine transform as :class:`Elastix` does, by the registration that comes with SimpleITK.

    Correlation of random points, drawn by a fixed seed, on images that are blurred less from level to level; gradient
    descent by steps of a length that shrinks where the search turns around (Avants et al., "The Insight ToolKit image
    registration framework", Frontiers in Neuroinformatics 2014).

    Args:
        initialization: as for :class:`Elastix`.

    Raises:
        ValueError: there is no such initialization.
    """

    tool = "SimpleITK"

    def __init__(self, initialization: str = "GeometricalCenter") -> None:
        self.initialization = _known(initialization)

    def __call__(self, moving: str | Path, fixed: str | Path) -> np.ndarray:
        """Align two files; arguments and result as of :class:`Elastix`.

        Raises:
            RuntimeError: SimpleITK failed; its last words are in the message.
        """
        import SimpleITK as sitk  # the environment of elastix needs none

        start = sitk.CenteredTransformInitializerFilter
        starts = dict(zip(INITIALIZATIONS, (start.GEOMETRY, start.MOMENTS), strict=True))
        try:
            images = [sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (fixed, moving)]
            affine = sitk.CenteredTransformInitializer(*images, sitk.AffineTransform(3), starts[self.initialization])
            method = sitk.ImageRegistrationMethod()
            method.SetNumberOfThreads(1)
            method.SetInitialTransform(affine, inPlace=True)
            method.SetMetricAsCorrelation()
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(min(1.0, SAMPLES / images[0].GetNumberOfPixels()), seed=1)
            method.SetShrinkFactorsPerLevel([1] * len(SMOOTHING_VOXELS))
            method.SetSmoothingSigmasPerLevel(SMOOTHING_VOXELS)
            method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
            method.SetOptimizerScalesFromPhysicalShift()
            method.SetOptimizerAsRegularStepGradientDescent(**STEPS, estimateLearningRate=method.Once)
            method.Execute(*images)
        except RuntimeError as error:
            said = "\n  ".join(str(error).strip().splitlines()[-5:])
            raise RuntimeError(f"SimpleITK could not align '{moving}' with '{fixed}':\n  {said}") from error
        lps = matrix_of(np.array(affine.GetParameters()), np.array(affine.GetCenter()))
        return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


def _known(initialization: str) -> str:
    if initialization not in INITIALIZATIONS:
        known = ", ".join(INITIALIZATIONS)
        raise ValueError(f"`initialization` should be one of {known}, found {initialization!r}.")
    return initialization


def write_itk_transform(path: str | Path, matrix_ras: np.ndarray) -> None:
    """Write a matrix as an affine transform that ITK, SimpleITK, ANTs and Slicer read.

    Args:
        path: ends in ``.tfm`` (text) or ``.h5``.
        matrix_ras: (4, 4), RAS mm, from points of the fixed image to those of the moving one, which is the direction
            in which ITK resamples.
    """
    import itk  # takes a second, and only whoever writes transforms needs it

    lps = LPS_FROM_RAS @ np.asarray(matrix_ras, dtype=np.float64) @ LPS_FROM_RAS
    transform = itk.AffineTransform[itk.D, 3].New()
    transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3])))
    transform.SetTranslation(lps[:3, 3].tolist())
    try:
        itk.transformwrite([transform], str(path))
        itk.transformread(str(path))
    except RuntimeError as error:  # ITK says nothing about a full disc that a program could tell from other faults
        raise OSError(errno.EIO, str(error).strip().splitlines()[-1]) from error


def matrix_of(parameters: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The matrix (4, 4) of an affine transform of ITK or elastix, y = A (x - c) + t + c.

    Args:
        parameters: the nine numbers of A, row by row, and the three of t.
        center: c, the three coordinates of the centre of rotation.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(parameters[:9], (3, 3))
    matrix[:3, 3] = parameters[9:] + center - matrix[:3, :3] @ center
    return matrix


def main(moving: str, fixed: str, result: str, initialization: str) -> None:
    """What the process does: align two files, and write the matrix (4, 4) in LPS mm as JSON."""
    import itk

    images = [itk.imread(path, itk.F) for path in (fixed, moving)]
    settings = itk.ParameterObject.New()
    affine = settings.GetDefaultParameterMap("affine", RESOLUTIONS)
    affine["AutomaticTransformInitialization"] = ["true"]
    affine["AutomaticTransformInitializationMethod"] = [initialization]
    # Its default, mutual information, found a scale that was off by 7 % on the phantom of the tests: the background is
    # large, and more foreground in its place has more information. Correlation is off by 0.5 %.
    affine["Metric"] = ["AdvancedNormalizedCorrelation"]
    settings.AddParameterMap(affine)
    _, found = itk.elastix_registration_method(
        *images, parameter_object=settings, number_of_threads=1, log_to_console=False
    )
    numbers = [
        np.array(found.GetParameter(0, name), float) for name in ("TransformParameters", "CenterOfRotationPoint")
    ]
    Path(result).write_text(json.dumps(matrix_of(*numbers).tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
