"""The class of every voxel from features of the places, without the logits ever reaching memory."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CLASSES, MAX_CHANNELS, MAX_CLASS_DIM = 256, 1024, 32
_BLOCK = 1 << 18  # logits held at a time, so that they stay in cache


def classify_voxels(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None = None,
    carried: Tensor | None = None,
) -> Tensor:
    """The most likely class of the V voxels at each place, uint8 (P, V); ties go to the lower id.

    places: (P, C), C <= 1024 channels. features: weight (V * E, C) and bias (V * E,) of the linear layer that gives every voxel
    of a place E <= 32 channels. classes: weight (K, E) and bias (K,) of the one that gives a voxel its K <= 256 logits.
    trust (P, V) and carried (P, V), both or neither: trust is added to the logit of the class that the carried id names,
    uint8 or int32; where the id is no class nothing is added. All but carried are float32 or bfloat16 on one device. Places and
    the weight of `features` are multiplied in the type they share, or in float32, everything after that is float32, and no
    gradient passes. A voxel that gets NaN has some valid id. Raises ValueError where the shapes, types or devices do not fit.
    """
    _check(places, features, classes, trust, carried)
    with torch.no_grad():
        if on_triton(places):
            from kernels.classify_triton import classify_voxels_triton

            return classify_voxels_triton(places, features, classes, trust, carried)
        return classify_voxels_torch(places, features, classes, trust, carried)


@torch.no_grad()
def classify_voxels_torch(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None = None,
    carried: Tensor | None = None,
) -> Tensor:
    """The definition of `classify_voxels` in plain torch, some places at a time: two linear layers, the trust, argmax."""
    weight, bias, matrix, offset = (part.float() for part in (*features, *classes))
    count, dim = matrix.shape
    voxels = len(weight) // dim
    out = torch.empty(len(places), voxels, dtype=torch.uint8, device=places.device)
    step = max(1, _BLOCK // (voxels * count))
    with torch.autocast(places.device.type, enabled=False):
        for start in range(0, len(places), step):
            part = slice(start, start + step)
            feature = torch.nn.functional.linear(places[part].float(), weight, bias).reshape(-1, dim)
            logits = torch.addmm(offset.unsqueeze(1), matrix, feature.T)
            if trust is not None and carried is not None:
                held = carried[part].reshape(1, -1).long()
                index = held.clamp(0, count - 1)
                logits.scatter_add_(0, index, torch.where(held == index, trust[part].reshape(1, -1).float(), 0))
            out[part] = largest_row(logits).view(-1, voxels)
    return out


def largest_row(logits: Tensor) -> Tensor:
    """The row in which each column of logits (K, N) has its largest entry, the first of equals, uint8 (N,); K <= 256.

    One row a class: a largest entry and its place are found faster across rows than along them.
    """
    ids = torch.arange(len(logits), dtype=torch.uint8, device=logits.device).unsqueeze(1)
    return torch.where(logits == logits.amax(0), ids, len(logits) - 1).amin(0)


def _check(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None,
    carried: Tensor | None,
) -> None:
    """Raise ValueError where the arguments of `classify_voxels` do not fit."""
    shapes = [tuple(part.shape) for part in (places, *features, *classes)]
    given = f"places (P, C), features (V * E, C) (V * E,), classes (K, E) (K,), found {shapes}"
    if [len(shape) for shape in shapes] != [2, 2, 1, 2, 1]:
        raise ValueError(f"classify_voxels: expected {given}")
    (count, channels), (rows, wide), (bias,), (number, dim), (offset,) = shapes
    if wide != channels or bias != rows or offset != number or dim == 0 or rows % dim:
        raise ValueError(f"classify_voxels: expected {given}")
    if not 1 <= number <= MAX_CLASSES or not 1 <= channels <= MAX_CHANNELS or dim > MAX_CLASS_DIM:
        limits = f"1 to {MAX_CLASSES} classes, 1 to {MAX_CHANNELS} channels and up to {MAX_CLASS_DIM} channels a voxel"
        raise ValueError(f"classify_voxels: expected {limits}, found K, C, E = {number, channels, dim}")
    if (trust is None) != (carried is None):
        raise ValueError("classify_voxels: trust and carried come together or not at all")
    known = {"places": places, "features": features[0], "features' bias": features[1]}
    known |= {"classes": classes[0], "classes' bias": classes[1]}
    if trust is not None and carried is not None:
        known["trust"] = trust
        if trust.shape != (count, rows // dim) or carried.shape != trust.shape:
            found = f"{tuple(trust.shape)} and {tuple(carried.shape)}"
            raise ValueError(f"classify_voxels: trust and carried must be (P, V) = {count, rows // dim}, found {found}")
        if carried.dtype not in (torch.uint8, torch.int32) or carried.device != places.device:
            where = f"{carried.dtype} on {carried.device}"
            raise ValueError(f"classify_voxels: carried must be uint8 or int32 on {places.device}, found {where}")
    for name, value in known.items():
        if value.dtype not in (torch.float32, torch.bfloat16) or value.device != places.device:
            expected, found = f"float32 or bfloat16 on {places.device}", f"{value.dtype} on {value.device}"
            raise ValueError(f"classify_voxels: {name} must be {expected}, found {found}")
