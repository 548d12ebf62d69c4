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

"""Writes a bundle that MONAI Label serves and trains: one config each, metadata that name the structures, and weights.

MONAI Label takes no overlays. It reads ``configs/train.yaml``, ``configs/inference.yaml`` and ``configs/metadata.json``
of a bundle as they are, and trains into its ``models/``. So each annotation project gets a bundle of its own, in which
the three agree, and the weights that come with this one are safe.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..files.literal import literal
from ..files.output_folder import OutputFolder
from ..files.whole import sync
from ..files.writing import temporary_name, told, write_text
from ..networks.sizes import check_multiple
from ..networks.weights import FILES, bundle_root, load_all, save_atomically
from ..training.config_of_run import config_parser
from ..training.record import to_yaml, with_references
from .rounds import load_fitting

__all__ = ["LabelBundle", "metadata_of"]

logger = logging.getLogger(__name__)

GET_THE_APP = "Get it with `monailabel apps --download --name monaibundle --output DIR`."
COPIED = ("scripts", "docs", "LICENSE", "configs/logging.conf", "configs/multi_gpu_train.yaml")
# MONAI Label reads the task of a bundle off its name; without one of these it segments.
OTHER_TASKS = ("deepedit", "deepgrow", "detection", "classification")
# of the metadata, what holds for any data
KEPT = (
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "authors", "copyright", "intended_use", "references",
)  # fmt: skip


class LabelBundle:
    """The bundle of one annotation project, of the configs that it is built in.

    Args:
        app_dir: the app's folder; the bundle becomes ``app_dir/model/name``.
        name: of the bundle.
        labels: ids to names, as :func:`scripts.label.rounds.check_labels` wants them.
        spatial_size: voxels of the networks' grid.
        multiple: what the networks need each of them to be a multiple of.
        networks: name -> network, as initialised.
        start_from: the folder of weights to begin with; ``None``: those of this bundle, where they are of these
            structures and networks, else none.
        copied: ids of the config that inference needs, too.
        left_out: ids of the config that are about writing the bundle.
    """

    def __init__(
        self,
        app_dir: str | Path | None,
        name: str,
        labels: Mapping[int, str],
        spatial_size: Sequence[int],
        multiple: int,
        networks: Mapping[str, torch.nn.Module],
        start_from: str | Path | None,
        copied: Sequence[str],
        left_out: Sequence[str],
    ) -> None:
        self.labels = dict(labels)
        self.name, self.target = name, check_target(app_dir, name)
        self.spatial_size = list(spatial_size)
        check_multiple(self.spatial_size, multiple, "label.yaml")
        self.networks, self.start_from = dict(networks), start_from
        parser = config_parser()
        self.train = {key: value for key, value in parser.get().items() if key not in {*left_out, "_meta_"}}
        names = {str(i): label for i, label in self.labels.items()}
        model = {"labels": literal(names), "num_classes": len(self.labels) + 1}
        model["voxel_size"] = parser.get("pixdim")  # of images to come nothing else is known
        self.model = model | with_references(parser, copied, known=model)
        self.source = Path(bundle_root())

    def write(self) -> Path:
        """Write the bundle under a temporary name and rename it.

        Returns:
            Its folder.

        Raises:
            FileExistsError: another process writes a bundle there.
            FileNotFoundError: ``start_from`` holds no weights of the segmentation network.
            ValueError: they are of another network.
        """
        self._choose_weights()
        with OutputFolder(self.target.parent):
            bundle = temporary_name(self.target)
            try:
                self._copy(bundle)
                self._write_configs(bundle / "configs")
                for name in self.networks.keys() & FILES.keys():
                    save_atomically(self.networks[name].state_dict(), bundle / "models" / FILES[name])
                os.replace(bundle, self.target)
            except OSError as error:
                raise told(error, self.target) from error
            finally:
                shutil.rmtree(bundle, ignore_errors=True)
            sync(self.target.parent)
        logger.info(
            "%s is ready: start the server with `--conf models %s --conf zoo_source local`", self.target, self.name
        )
        return self.target

    def _choose_weights(self) -> None:
        if self.start_from is not None:
            load_all(self.networks, str(self.start_from), required=["segmentation"])
            logger.info("it begins with the weights in %s", self.start_from)
            return
        shipped = ConfigParser.load_config_file(str(self.source / "configs" / "inference.yaml"))["labels"]
        if {int(i): label for i, label in shipped.items()} == self.labels:
            load_fitting(self.networks, self.source / "models")
        else:
            logger.warning(
                "it begins untrained: the weights that come with DeepRS are of other structures, %s", shipped
            )

    def _copy(self, bundle: Path) -> None:
        for name in COPIED:
            source, target = self.source / name, bundle / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def _write_configs(self, folder: Path) -> None:
        inference = ConfigParser.load_config_file(str(self.source / "configs" / "inference.yaml")) | self.model
        metadata = json.loads((self.source / "configs" / "metadata.json").read_text(encoding="utf-8"))
        described = metadata_of(metadata, self.name, self.labels, self.spatial_size)
        write_text(folder / "train.yaml", to_yaml(self.train))
        write_text(folder / "inference.yaml", to_yaml(inference))
        write_text(folder / "metadata.json", json.dumps(described, indent=4) + "\n")


def check_target(app_dir: str | Path | None, name: str) -> Path:
    """The folder of a new bundle in an app.

    Raises:
        FileNotFoundError: ``app_dir`` is not the folder of an app.
        FileExistsError: there is a bundle of this name already.
        ValueError: the name says another task than segmentation to MONAI Label, or is none for a folder.
    """
    if app_dir is None or not (Path(app_dir).expanduser() / "main.py").is_file():
        raise FileNotFoundError(f"--app_dir '{app_dir}' is not the folder of a MONAI Label app. {GET_THE_APP}")
    if Path(name).name != name or any(task in name.lower() for task in OTHER_TASKS):
        raise ValueError(
            f"--name '{name}': expected a name for a folder without {', '.join(OTHER_TASKS)} in it, which MONAI Label "
            "would take for the task of the bundle."
        )
    target = Path(app_dir).expanduser().resolve() / "model" / name
    if target.exists():
        raise FileExistsError(
            f"'{target}' is there already, with its weights and rounds. Choose another `--name`, or remove it "
            "if they may go."
        )
    return target


def metadata_of(
    metadata: Mapping[str, Any], name: str, labels: Mapping[int, str], spatial_size: Sequence[int]
) -> dict[str, Any]:
    """The metadata of a bundle for other data: what was said about the weights and data of this one is left out.

    Args:
        metadata: of this bundle.
        name: of the new one.
        labels: ids to names, from which MONAI Label takes its labels.
        spatial_size: voxels of the network's grid.

    Returns:
        The new metadata.
    """
    image = metadata["network_data_format"]["inputs"]["image"] | {"spatial_shape": list(spatial_size)}
    channels = {"0": "background"} | {str(i): label for i, label in labels.items()}
    pred = metadata["network_data_format"]["outputs"]["pred"] | {
        "num_channels": len(channels),
        "spatial_shape": list(spatial_size),
        "channel_def": channels,
    }
    return {key: metadata[key] for key in KEPT} | {
        "name": name,
        "description": f"DeepRS learns {', '.join(labels.values())} from a few labelled and all unlabelled images.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
