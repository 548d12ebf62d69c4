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
"""Warps and the algebra of displacement fields, in voxels.

A field (``ddf``, shape (B, 3, D, H, W)) is a backward displacement in voxels of the fixed grid, channels in the order
of the array axes: the image x warped by u is W(x, u)(p) = x(p + u(p)). Voxel centres are whole numbers, the first and
the last of an axis being -1 and 1 for ``grid_sample`` (``align_corners=True``): any other choice moves the identity.

Everything here is computed in float32 at least, also under autocast, since a bfloat16 coordinate is wrong by up to half
a voxel on an axis of 128; float64 goes in and comes out as float64.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from . import trilinear

CLASSES_AT_ONCE = 4

_readers: list[list] = []


@contextmanager
def grids_read() -> Iterator[list]:
    """Collect the grids that warps read meanwhile. Only some are kept: who will read their memory again holds them."""
    _readers.append([])
    try:
        yield _readers[-1]
    finally:
        _readers.pop()


def warp(image: torch.Tensor, ddf: torch.Tensor, mode: str = "bilinear", padding_mode: str = "zeros") -> torch.Tensor:
    """Resample an image by a displacement field: W(x, u)(p) = x(p + u(p)).

    Differentiable in the image, and with ``bilinear`` (trilinear in 3D) also in the field. Where the field is exactly
    zero the result is the image to the bit; the gradients there are those of the interpolation, not zero.

    Args:
        image: shape (B, C, D, H, W), of any type that converts to floating point.
        ddf: shape (B, 3, D, H, W), displacement in voxels; zero is the identity. Displacement along an axis of one
            voxel has no effect.
        mode: ``bilinear``, or ``nearest`` for ids that must not be blended. What nearest gives is constant between the
            voxels, so its gradient with respect to the field is zero: no network can learn a field by it.
        padding_mode: what lies outside the image: ``zeros``, or ``border`` for its nearest voxel.

    Returns:
        The warped image, shape (B, C, D, H, W), float32, or float64 when either input is. A plain tensor: where a
        ``MetaTensor`` comes in, its affine describes the moving grid and no longer holds.

    Raises:
        ValueError: when the shapes of image and field do not agree, or with ``nearest`` when the field is to get a
            gradient.
    """
    _check_shapes(image, ddf)
    if mode == "nearest" and ddf.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "warp: mode 'nearest' has a gradient of zero for the field, which would learn nothing. Warp the one-hot "
            "label with mode 'bilinear', or give `ddf.detach()` where the field is not to learn."
        )
    image, ddf = _floating(image, ddf)
    if mode == "bilinear" and trilinear.applies(image, ddf):
        return trilinear.sample(image, ddf, padding_mode)
    identity, scale = _identity_grid(tuple(ddf.shape[2:]), ddf.device, ddf.dtype)
    if _readers:
        _readers[-1].append((identity, scale))
    with torch.autocast(ddf.device.type, enabled=False):
        # grid_sample wants the coordinates last, the last array axis first
        grid = torch.cat(torch.addcmul(identity, ddf, scale).split(1, dim=1)[::-1], dim=1).movedim(1, -1)
        warped = F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=True)
        # Scaling to [-1, 1] and back rounds, so grid_sample reads voxel p at p +- 1e-6. Writing the voxels that do not
        # move makes the identity exact; without autograd's knowledge, so that a field of zeros still has a gradient.
        with torch.no_grad():
            still = functools.reduce(torch.logical_and, (component == 0 for component in ddf.unbind(1)))
            torch.where(still[:, None], image, warped, out=warped)
    return warped


def warp_together(images: list[torch.Tensor], ddf: torch.Tensor, padding_mode: str = "zeros") -> list[torch.Tensor]:
    """Warp several images of one grid by one field, linearly, in one pass over the field.

    The coordinates and the eight weights of a voxel are then computed once, which is what a warp of few channels
    costs; the result equals that of ``warp`` for each image.

    Args:
        images: tensors of shape (B, C_i, D, H, W); the numbers of channels may differ.
        ddf: shape (B, 3, D, H, W), in voxels; zero is the identity.
        padding_mode: as for ``warp``.

    Returns:
        The warped images, in the order given.

    Raises:
        ValueError: when the shape of an image does not agree with that of the field.
    """
    for image in images:
        _check_shapes(image, ddf)
    warped = warp(torch.cat(_floating(*images), dim=1), ddf, padding_mode=padding_mode)
    return list(warped.split([image.shape[1] for image in images], dim=1))


def warp_label(label_classes: torch.Tensor, ddf: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Warp a map of classes: each class linearly, and the strongest one wins.

    Boundaries come out smoother than with nearest neighbours and classes are never blended into a third one. What lies
    outside the moving image is background; ties go to the lowest class. Only a few classes are held as floating point
    at a time.

    Args:
        label_classes: shape (B, 1, D, H, W), classes 0 (background) to ``num_classes - 1``.
        ddf: shape (B, 3, D, H, W), in voxels; zero is the identity.
        num_classes: number of classes, background included.

    Returns:
        The warped classes, of the shape and type of ``label_classes``.

    Raises:
        ValueError: when the shapes do not agree, the label has more than one channel, or there is no foreground class.
    """
    if label_classes.shape[1] != 1:
        raise ValueError(
            f"warp_label takes one channel of classes, shape (B, 1, D, H, W), got {tuple(label_classes.shape)}. "
            "Warp a one-hot label with `warp`, or take its argmax first."
        )
    if num_classes < 2:
        raise ValueError(f"num_classes counts the background: expected at least 2, got {num_classes}.")
    label = label_classes.as_subclass(torch.Tensor)
    foreground = torch.arange(1, num_classes, device=label.device).view(1, -1, 1, 1, 1)
    rest, best, winner = 1.0, 0.0, torch.zeros_like(label, dtype=torch.long)
    for classes in foreground.split(CLASSES_AT_ONCE, dim=1):
        share = warp((label == classes).float(), ddf)
        rest = rest - share.sum(dim=1, keepdim=True)
        strongest, index = share.max(dim=1, keepdim=True)
        winner = torch.where(strongest > best, classes.flatten()[index], winner)
        best = strongest.clamp(min=best)
    return torch.where(rest >= best, 0, winner).to(label.dtype)


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Join two fields into the one that warps by ``inner`` first and the result by ``outer`` then.

    W(x, compose(outer, inner)) = W(W(x, inner), outer), with the image interpolated once instead of twice:
    compose(outer, inner)(p) = outer(p) + inner(p + outer(p)). Outside the grid, ``inner`` goes on as at its border.

    Args:
        outer: shape (B, 3, D, H, W), in voxels; zero gives ``inner``, to the bit.
        inner: shape (B, 3, D, H, W), in voxels; zero gives ``outer``, to the bit.

    Returns:
        The composed field, shape (B, 3, D, H, W), in voxels.

    Raises:
        ValueError: when the shapes do not agree.
    """
    outer, inner = _floating(outer, inner)
    return outer + warp(inner, outer, padding_mode="border")


def invert(ddf: torch.Tensor, iterations: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Invert a field by the fixed-point iteration v(p) = -u(p + v(p)).

    The inverse carries points and images the other way. The iteration converges where neighbouring displacements differ
    by less than their distance. Where the field folds (|J| <= 0) several points go to one, there is no inverse, and
    what comes out is one of them or none: look at ``metrics.folding_percent`` as well as at the residual. Outside the
    grid the field goes on as at its border.

    Args:
        ddf: shape (B, 3, D, H, W), in voxels; the inverse of zero is zero.
        iterations: how many steps to take.

    Returns:
        The inverse v, shape (B, 3, D, H, W), and for every sample the residual max |u(p + v(p)) + v(p)| in voxels,
        shape (B,).
    """
    inverse = torch.zeros_like(ddf)
    for _ in range(iterations):
        inverse = -warp(ddf, inverse, padding_mode="border")
    residual = compose(inverse, ddf).norm(dim=1).flatten(start_dim=1).amax(dim=1)
    return inverse, residual


def integrate(dvf: torch.Tensor, steps: int = 7) -> torch.Tensor:
    """Turn a stationary velocity field into the displacement after unit time, by scaling and squaring.

    A smooth velocity gives a field that does not fold. As MONAI's ``DVF2DDF``, but continued by its border value:
    zeros outside would shrink the field wherever it points out of the grid.

    Args:
        dvf: shape (B, 3, D, H, W), in voxels per unit time; zero gives zero, a constant gives itself.
        steps: number of squarings, at least 1; the velocity is followed in 2^steps equal parts.

    Returns:
        The displacement field, shape (B, 3, D, H, W), in voxels.

    Raises:
        ValueError: when ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"integrate needs at least one step of squaring, got steps={steps}.")
    if torch.jit.is_scripting():
        return _integrate_in_script(dvf, steps)
    (ddf,) = _floating(dvf)
    ddf = ddf / 2**steps
    for _ in range(steps):
        ddf = compose(ddf, ddf)
    return ddf


def _integrate_in_script(dvf: torch.Tensor, steps: int) -> torch.Tensor:
    """What ``integrate`` is in an exported network: TorchScript cannot read ``warp``, which does more than it takes."""
    voxel = torch.tensor([2.0 / max(side - 1, 1) for side in dvf.shape[2:]], device=dvf.device).view(1, 3, 1, 1, 1)
    unmoved = torch.eye(3, 4, device=dvf.device).expand(dvf.shape[0], 3, 4)
    identity = F.affine_grid(unmoved, [dvf.shape[0], 1] + dvf.shape[2:], align_corners=True)
    ddf = dvf / 2**steps
    for _ in range(steps):
        grid = identity + (ddf * voxel).flip(1).permute(0, 2, 3, 4, 1)
        ddf = ddf + F.grid_sample(ddf, grid, padding_mode="border", align_corners=True)
    return ddf


def sample_voxels(
    image: torch.Tensor, points: torch.Tensor, mode: str = "bilinear", padding_mode: str = "zeros"
) -> torch.Tensor:
    """Read an image at points given in its own voxel coordinates, on whatever grid the points lie.

    Args:
        image: shape (B, C, D, H, W).
        points: shape (B, I, J, K, 3), voxel coordinates in the order of the array axes; whole numbers are voxel
            centres. They are scaled in their own precision before they take that of the image.
        mode: ``bilinear`` or ``nearest``.
        padding_mode: ``zeros`` or ``border``.

    Returns:
        The values, shape (B, C, I, J, K), float32, or float64 when the image is.
    """
    (image,) = _floating(image)
    scale = points.new_tensor([2 / max(size - 1, 1) for size in image.shape[2:]])
    with torch.autocast(image.device.type, enabled=False):
        grid = (points * scale - 1).flip(-1).to(image.dtype)
        return F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=True)


@lru_cache(maxsize=8)
def _identity_grid(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates in [-1, 1] of every voxel, (1, 3, D, H, W), and the length of one voxel in them, (1, 3, 1, 1, 1)."""
    # a tensor made in inference mode could not be used for training later on, and this one is kept
    with torch.inference_mode(False):
        lengths = [2 / max(size - 1, 1) for size in shape]
        axes = [
            torch.arange(size, dtype=torch.float64) * length - 1 for size, length in zip(shape, lengths, strict=True)
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
        return grid.to(device, dtype), torch.tensor(lengths, dtype=dtype, device=device).view(1, 3, 1, 1, 1)


def _floating(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Plain tensors of one type: float64 when one of them is, float32 otherwise."""
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    # not as_subclass for all: torch.export, by which ONNX is written, cannot trace it
    plain = [tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor for tensor in tensors]
    return [tensor.to(dtype) for tensor in plain]


def _check_shapes(image: torch.Tensor, ddf: torch.Tensor) -> None:
    if image.ndim == 5 and ddf.shape == (image.shape[0], 3, *image.shape[2:]):
        return
    raise ValueError(
        f"image of shape {tuple(image.shape)} and field of shape {tuple(ddf.shape)} do not agree: expected "
        "(B, C, D, H, W) and (B, 3, D, H, W) with the same B, D, H and W. Resample both images to one grid first."
    )
