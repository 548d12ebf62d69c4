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
"""Where weights lie, how they get into networks, and how they are written without ever damaging what was there."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..files.writing import replacing
from .layout import for_processor
from .pickles import named_code

logger = logging.getLogger(__name__)

#: the file of each network; ``model.pt`` is what the model zoo and MONAI Label load
FILES = {
    "segmentation": "model.pt",
    "registration": "model_registration.pt",
    "discriminator": "model_discriminator.pt",
}


def bundle_root() -> str:
    """The folder of the bundle, wherever the command was started: that in which ``scripts`` and ``configs`` lie."""
    return str(Path(__file__).resolve().parents[2])


def save_atomically(content: Any, path: str | Path) -> None:
    """Write with ``torch.save`` under a temporary name and rename, so that a kill leaves the old file or the new one.

    Args:
        content: what ``torch.save`` takes.
        path: the file; its folder is made when it is missing.

    Raises:
        OSError: it could not be written.
    """
    # an open file, as torch writes the name it is given into what it saves, and refuses some
    with replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what it makes of a full disc
            raise OSError(errno.EIO, str(error).splitlines()[0]) from error


def find_weights(folders: Sequence[str]) -> str:
    """The first of several folders that holds weights: those just trained, else those that came with the bundle.

    Args:
        folders: in order of preference.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: when none holds any, saying how to make some.
    """
    for folder in folders:
        if any((Path(folder) / filename).is_file() for filename in FILES.values()):
            logger.info("weights: %s", Path(folder).resolve())
            return str(folder)
    raise FileNotFoundError(
        f"no weights: none of {list(FILES.values())} is in any of {[str(f) for f in folders]}. "
        "Run `training` with this `--output_dir` first, or name the folder that holds them with `--ckpt_dir`."
    )


def read_saved(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """What ``torch.save`` wrote, on the CPU. Tensors, numbers and text are read, and nothing that would be run.

    Args:
        path: the file.
        mmap: leave the tensors in the file until they are asked for.

    Raises:
        ValueError: when the file holds code, is damaged, or is no such file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged pickle makes of the unpickler: KeyError, IndexError, ...
        if (name := named_code(path)) or re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise ValueError(
                f"'{path}' holds code{f' (it calls `{name}`)' if name else ''} and was refused; nothing of it was run. "
                "Weights are tensors alone, as `torch.save(network.state_dict(), FILE)` writes them. Do not open it "
                "with anything else unless you trust who made it."
            ) from error
        raise ValueError(
            f"'{path}' cannot be read: it is cut short, damaged, or a pointer of Git LFS ({Path(path).stat().st_size} "
            "bytes). Copy it again; for a pointer, run `git lfs pull`."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' holds a {type(content).__name__}, expected weights: names with their tensors.")
    return content


def load_weights(
    network: torch.nn.Module, folder: str, filename: str, device: torch.device | str = "cpu"
) -> torch.nn.Module:
    """A network with the weights of a file, on the device and in evaluation mode.

    Args:
        network: as it was when the weights were made.
        folder: where the file lies.
        filename: ``model.pt``, ``model_registration.pt`` or ``model_discriminator.pt``.
        device: where the network goes.

    Returns:
        The same network.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the weights are of a network of another structure.
    """
    path = Path(folder) / filename
    if not path.is_file():
        raise FileNotFoundError(f"no weights '{path}'. Train first, or name the folder that holds them: `--ckpt_dir`.")
    weights = read_saved(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"the weights '{path}' are of another network than the config describes. Add the `model.yaml` that "
            "training wrote beside them as the last of the config files; those that come with the bundle take "
            "data/hippocampus.yaml and recipes/best.yaml after train.yaml.\n"
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return network.to(device).eval()


def load_all(
    networks: Mapping[str, torch.nn.Module],
    folder: str,
    required: Collection[str] = (),
    device: torch.device | str = "cpu",
) -> dict[str, torch.nn.Module]:
    """Those networks that have weights in a folder, loaded.

    Args:
        networks: ``segmentation``, ``registration``, ``discriminator``; others served in training alone, and are left
            out.
        folder: where the files lie.
        required: those that must be there; another one without a file is left out.
        device: where the networks go.

    Returns:
        name -> network.

    Raises:
        FileNotFoundError: when the weights of a required one are missing.
    """
    exported = [name for name in networks if name in FILES]
    names = [name for name in exported if name in required or (Path(folder) / FILES[name]).is_file()]
    loaded = {name: load_weights(networks[name], folder, FILES[name], device) for name in names}
    if torch.device(device).type == "cpu":
        for network in loaded.values():
            for_processor(network, is_taught=False)
    return loaded
