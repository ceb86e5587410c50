"""`classify_voxels` as a Triton kernel: a tile of places and voxels holds its features in registers and walks the classes.

The first layer is one matrix product of tensor cores. Its columns are ordered channel by channel and not voxel by voxel, so
that a thread holds all channels of its voxels, and the second layer, E multiplications a class, needs no exchange.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.codebook_triton import multiply


@triton.jit
def _product(
    total,
    lefts,
    rights,
    real,
    wanted,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """total + the product of the rows at lefts and the columns at rights over all channels."""
    for start in range(0, CHANNELS, BLOCK_C):
        rest = start + tl.arange(0, BLOCK_C) < CHANNELS
        left = tl.load(lefts + start, mask=real[:, None] & rest[None, :], other=0.0)
        right = tl.load(rights + start, mask=wanted[None, :] & rest[:, None], other=0.0)
        total = multiply(left, right, total, PRECISION, WIDEN)
    return total


@triton.jit
def classify_voxels_kernel(
    places,
    weight,
    bias,
    matrix,
    offset,
    trust,
    carried,
    out,
    count,
    voxels,
    classes,
    CHANNELS: tl.constexpr,
    CLASS_DIM: tl.constexpr,
    CARRIED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """out uint8 (P, V) from places (P, C), weight (V * E, C), bias (V * E,), matrix float32 (K, E), offset float32 (K,).

    trust and carried (P, V) are read where CARRIED. The grid has one program for each BLOCK_P places and BLOCK_V voxels, those
    of the same places next to each other, so that the places are read from memory once.
    """
    blocks = tl.cdiv(voxels, BLOCK_V)
    row = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    first = (tl.program_id(0) % blocks) * BLOCK_V
    column = tl.arange(0, BLOCK_E * BLOCK_V)
    dim, owner = column // BLOCK_V, first + column % BLOCK_V
    wanted = (owner < voxels) & (dim < CLASS_DIM)
    entry = owner * CLASS_DIM + dim
    begin = tl.load(bias + entry, mask=wanted, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_P, BLOCK_E * BLOCK_V), tl.float32) + begin[None, :]
    channel = tl.arange(0, BLOCK_C)
    lefts = places + (row * CHANNELS)[:, None] + channel[None, :]
    rights = weight + (entry * CHANNELS)[None, :] + channel[:, None]
    total = _product(total, lefts, rights, row < count, wanted, CHANNELS, PRECISION, WIDEN, BLOCK_C)
    feature = tl.reshape(total, (BLOCK_P, BLOCK_E, BLOCK_V))

    voxel = first + tl.arange(0, BLOCK_V)
    place = row[:, None] * voxels + voxel[None, :]
    inside = (row < count)[:, None] & (voxel < voxels)[None, :]
    if CARRIED:
        added = tl.load(trust + place, mask=inside, other=0.0).to(tl.float32)
        held = tl.load(carried + place, mask=inside, other=0).to(tl.int32)
    dims = tl.arange(0, BLOCK_E)
    best = tl.full((BLOCK_P, BLOCK_V), float("-inf"), tl.float32)
    found = tl.zeros((BLOCK_P, BLOCK_V), tl.int32)
    for number in range(classes):
        factor = tl.load(matrix + number * CLASS_DIM + dims, mask=dims < CLASS_DIM, other=0.0)
        logit = tl.sum(feature * factor[None, :, None], axis=1) + tl.load(offset + number)
        if CARRIED:
            logit += tl.where(held == number, added, 0.0)
        better = logit > best
        best, found = tl.where(better, logit, best), tl.where(better, number, found)
    tl.store(out + place, found.to(tl.uint8), mask=inside)


def settings(class_dim: int, dtype: torch.dtype) -> dict[str, Any]:
    """Block sizes and launch options; for up to 8 channels a voxel they spill no registers on sm_80, sm_90 and sm_100."""
    dims = max(2, triton.next_power_of_2(class_dim))
    # As many columns, channels of a voxel times voxels, as there are registers for.
    if dtype == torch.bfloat16:
        sizes = {"BLOCK_V": max(2, min(32, 256 // dims)), "BLOCK_C": 32}
        return {**sizes, "BLOCK_P": 64, "BLOCK_E": dims, "PRECISION": "ieee", "num_warps": 4, "num_stages": 2}
    # Three products in TensorFloat-32 are as exact as one in float32, but take more registers.
    sizes = {"BLOCK_V": max(2, min(32, 128 // dims)), "BLOCK_C": 16}
    return {**sizes, "BLOCK_P": 64, "BLOCK_E": dims, "PRECISION": "tf32x3", "num_warps": 4, "num_stages": 2}


def classify_voxels_triton(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None,
    carried: Tensor | None,
) -> Tensor:
    """Launch the kernel; see `kernels.classify.classify_voxels` for the arguments."""
    (count, channels), (number, dim) = places.shape, classes[0].shape
    voxels = len(features[0]) // dim
    out = torch.empty(count, voxels, dtype=torch.uint8, device=places.device)
    if not out.numel():
        return out
    dtype = places.dtype if places.dtype == features[0].dtype else torch.float32
    options = settings(dim, dtype)
    given = (trust, carried) if trust is not None and carried is not None else (out, out)
    tensors = (
        *(part.to(dtype).contiguous() for part in (places, features[0])),
        features[1].contiguous(),
        *(part.float().contiguous() for part in classes),
        *(part.contiguous() for part in given),
    )
    grid = (triton.cdiv(count, options["BLOCK_P"]) * triton.cdiv(voxels, options["BLOCK_V"]),)
    constants = {"CHANNELS": channels, "CLASS_DIM": dim, "CARRIED": trust is not None, "WIDEN": not places.is_cuda}
    classify_voxels_kernel[grid](*tensors, out, count, voxels, number, **constants, enable_fp_fusion=True, **options)
    return out
