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
"""The picture of a pair as the networks see it, for the curves of a training and beside the files of a registration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.image import imsave

from ..files.marks import written_by
from ..files.writing import replacing
from ..joint.state import PairState
from ..pictures.figures import figure_to_array, pair_figure
from ..pictures.orientation import Frame

__all__ = ["draw_pair", "write_picture"]


@torch.no_grad()
def draw_pair(
    pair: PairState,
    frame: Frame,
    pred: torch.Tensor | None = None,
    label: torch.Tensor | None = None,
    outlined: str = "segmentation",
) -> np.ndarray:
    """Draw the first pair of a batch: images, deformation grid, confidence where there is one, and outlines.

    Args:
        pair: the state of the pair.
        frame: how the networks' grid lies in the patient, and is looked at.
        pred: classes on the fixed image (D, H, W), drawn as coloured outlines.
        label: true classes of the fixed image (D, H, W), drawn as broken white lines.
        outlined: what ``pred`` is, the title of its column.

    Returns:
        The picture, (H, W, 3), uint8.
    """
    images = (pair.moving_image, pair.fixed_image, pair.warped_image)
    figure = pair_figure(
        *(image[0, 0].cpu().numpy() for image in images),
        pair.ddf[0].cpu().numpy(),
        confidence=pair.confidence[0, 0].float().cpu().numpy() if pair.has_confidence else None,
        pred=None if pred is None else pred.cpu().numpy(),
        label=None if label is None else label.cpu().numpy(),
        frame=frame,
        outlined=outlined,
    )
    return figure_to_array(figure)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture (H, W, 3) of uint8 as a whole; the suffix of the path says in which format."""
    with replacing(path) as temporary:
        imsave(temporary, picture, metadata={"Software": written_by()})
