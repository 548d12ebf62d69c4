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

"""The two tasks for Python: a pair of images registered, an image segmented, with the configs that the commands read.

What the configs call ``scripts`` is here ``deeprs.bundle.scripts``: the bundle is not put on the path of the user's own
process, who may have a package ``scripts`` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from . import BUNDLE
from .bundle.scripts.data.image_checks import check_files
from .bundle.scripts.data.label_map_files import SaveLabelMapd
from .bundle.scripts.data.transforms import preprocess
from .bundle.scripts.files.errors import root_cause
from .bundle.scripts.files.series import is_series
from .bundle.scripts.networks.inferers import MovedCopiesInferer
from .bundle.scripts.networks.weights import find_weights, load_weights
from .bundle.scripts.training.model_record import read_model
from .plans import NO_MODEL
from .results import LabelMap, Registration, Volume, registration_of

__all__ = ["LabelMap", "Registration", "Volume", "register", "segment"]

#: what an image may be: a path, of a file or of the folder of a DICOM series, a :class:`Volume`, an image of nibabel,
#: or MONAI's ``MetaTensor``
Image = str | Path | Volume | nib.spatialimages.SpatialImage | MetaTensor

PACKAGE = f"{__package__}.bundle."


@contextmanager
def _the_cause_alone() -> Iterator[None]:
    """Raise what went wrong as it was, without the layers that MONAI wraps it in."""
    try:
        yield
    except Exception as error:
        cause = root_cause(error)
        if cause is error:
            raise
        raise cause from None


@_the_cause_alone()
def register(
    moving: Image,
    fixed: Image,
    model: str | Path | None = None,
    *,
    moving_label: Image | None = None,
    refine: int | None = None,
    fill_value: float = 0.0,
    device: torch.device | str | None = None,
) -> Registration:
    """Register one image onto another, as `registering` does, without writing files.

    An image is a path, a :class:`Volume` (array (X, Y, Z) and affine, voxel to RAS mm), an image of nibabel or a
    ``MetaTensor``.

    Args:
        moving: the image that is pulled.
        fixed: the image that stays; the result lies on its grid.
        model: the folder that a training wrote, of which nothing is run; or its ``model.yaml``, which is a program;
            None: the weights that come with DeepRS; ``none``: by the two images alone, for any anatomy.
        moving_label: a label map on the grid of ``moving``, to be carried along.
        refine: steps of optimisation on this pair's field, after the network's guess; None: as many as the recipe says.
        fill_value: of the warped image where it comes from outside the moving one: 0 for MR, -1024 for CT.
        device: such as ``cuda`` or ``cpu``; None: a GPU where there is one.

    Returns:
        Warped image and label, displacement, |J| and confidence on the fixed grid, and the transform.

    Raises:
        FileNotFoundError: an image, the model or its weights are missing.
        TypeError: an image is none of the kinds above.
        ValueError: an image cannot be registered, the label does not fit it, or an option has no such value.
    """
    images = {"moving": moving, "fixed": fixed, "moving_label": moving_label}
    images = {role: _source(image, role) for role, image in images.items() if image is not None}
    parser = _parser("register.yaml", model, device, {**images, "refine": refine, "fill_value": fill_value})
    result = parser.get_parsed_content("register").compute()
    labels = _labels(parser)
    if not labels and result.warped_label is not None:
        labels = {int(i): str(i) for i in np.unique(np.asarray(result.warped_label)) if i}
    return registration_of(result, labels)


@_the_cause_alone()
def segment(
    image: Image,
    model: str | Path | None = None,
    *,
    copies: int | None = None,
    device: torch.device | str | None = None,
) -> LabelMap:
    """Segment an image, as `inferring` does, without writing files.

    Args:
        image: a path, a :class:`Volume` (array (X, Y, Z) and affine, voxel to RAS mm), an image of nibabel or a
            ``MetaTensor``.
        model: the folder that a training wrote, of which nothing is run; or its ``model.yaml``, which is a program;
            None: the weights that come with DeepRS.
        copies: how many moved copies of the image the network sees beside it, whose answers are averaged; 0 is one
            pass. None: what the model was made for, 12 where it does not say.
        device: such as ``cuda`` or ``cpu``; None: a GPU where there is one.

    Returns:
        The ids of the structures on the grid of the image, and their names.

    Raises:
        FileNotFoundError: the image, the model or its weights are missing.
        TypeError: the image is none of the kinds above.
        ValueError: the image cannot be segmented, or an option has no such value.
    """
    source = _source(image, "image")
    if isinstance(source, Path) and not (source.is_file() or is_series(source)):
        raise FileNotFoundError(f"no such file, or folder of a DICOM series: image '{source}'.")
    check_files([("image", source)])
    parser = _parser("inference.yaml", model, device, {})
    names = ("preprocessing", "network", "postprocessing", "ckpt_dir", "device")
    preprocessing, network, postprocessing, folder, device = map(parser.get_parsed_content, names)
    inferer = parser.get_parsed_content("inferer") if copies is None else MovedCopiesInferer(copies)
    load_weights(network, folder, "model.pt", device)
    data = {"image": preprocess(preprocessing, source, "image")}
    with torch.no_grad():
        data["pred"] = inferer(data["image"].as_tensor()[None].to(device), network)[0]
    writing = postprocessing.get_index_of_first(lambda transform: isinstance(transform, SaveLabelMapd))
    ids = postprocessing({**data, "pred": MetaTensor(data["pred"])}, end=writing)["pred"]
    return LabelMap(ids[0].numpy(force=True), np.asarray(ids.affine, dtype=np.float64), _labels(parser))


def _source(image: Image, role: str) -> Path | Volume:
    """A path, or a volume in memory, (X, Y, Z) as `read_volume` gives it of a file."""
    if isinstance(image, (str, Path)):
        return Path(image).expanduser()
    if isinstance(image, MetaTensor):
        array = image.numpy(force=True)
        array, affine = array[0] if array.ndim == 4 and len(array) == 1 else array, image.affine
    elif isinstance(image, nib.spatialimages.SpatialImage):
        array, affine = np.asanyarray(image.dataobj), image.affine
    elif isinstance(image, Volume):
        array, affine = np.asarray(image.array), image.affine
    else:
        raise TypeError(
            f"{role}: expected a path, a deeprs.Volume, an image of nibabel or a MetaTensor, found "
            f"{type(image).__name__}. An array needs to know where it lies: deeprs.Volume(array, affine)."
        )
    array = array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array
    return Volume(array, np.asarray(affine, dtype=np.float64))


def _parser(
    config: str, model: str | Path | None, device: torch.device | str | None, entries: Mapping[str, Any]
) -> ConfigParser:
    """A config of the bundle with the model, whose components come from this package; nothing is built yet."""
    files, declared, folder = [BUNDLE / "configs" / config], {}, None
    if model == NO_MODEL and config == "register.yaml":
        files.append(BUNDLE / "configs" / "run" / "no_model.yaml")
    elif model is not None:
        folder = Path(model).expanduser()
        if folder.is_file():  # a program, and named
            files, folder = [*files, folder], folder.parent
        elif any((folder / name).is_file() for name in ("model.json", "model.yaml")):
            declared = read_model(folder)
        else:
            raise FileNotFoundError(
                f"no such model: '{folder / 'model.yaml'}'. Name the folder that a training wrote: its `output_dir`."
            )
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update(declared)
    parser.resolve_macro_and_relative_ids()
    parser = ConfigParser(_moved_here(parser.get()))
    if folder is not None:  # a folder that was moved holds its weights all the same
        entries = {**entries, "ckpt_dir": Path(find_weights([str(folder), str(parser.get_parsed_content("ckpt_dir"))]))}
    if device is not None:
        entries = {**entries, "device": torch.device(device)}
    parser.update(dict(entries))
    parser.get_parsed_content("size_check")
    return parser


def _moved_here(content: Any) -> Any:
    """The content of a config, with ``scripts`` by the name under which it was imported here."""
    if isinstance(content, list):
        return [_moved_here(value) for value in content]
    if not isinstance(content, Mapping):
        return content
    moved = {key: _moved_here(value) for key, value in content.items()}
    if str(moved.get("_target_", "")).startswith("scripts."):
        moved["_target_"] = PACKAGE + moved["_target_"]
    return moved


def _labels(parser: ConfigParser) -> dict[int, str]:
    labels = parser.get_parsed_content("labels")
    if labels is None:  # ids without names
        return {}
    return {int(label_id): name for label_id, name in labels.items() if int(label_id) != 0}
