"""What each kernel must do at the least: FLOPs, bytes, and which units do the FLOPs, from its arguments.

Arguments and results are moved once. Only products are counted, a multiplication and an addition as two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels import Draw, Lattice, Told
from models.layers import working_dtype

_VECTOR_CHANNELS = 16  # up to so many channels of a code, the lookup works without tensor cores


class Cost(NamedTuple):
    """flops, bytes, and the rate at which the flops go, as `gpu_ceilings.floor` names it."""

    flops: float
    bytes: float
    rate: str


def rate_of(dtype: torch.dtype) -> str:
    """Of products that kernels do on tensor cores: in bfloat16, or exact to float32 as three in TensorFloat-32."""
    return "bfloat16" if dtype == torch.bfloat16 else "tf32/3"


def size(*tensors: Tensor | None) -> float:
    """Bytes of these tensors' elements."""
    return float(sum(part.numel() * part.element_size() for part in tensors if part is not None))


def nearest_code(x: Tensor, codebook: Tensor) -> Cost:
    """Vectors, codes and ids; all pairs of them."""
    count, groups, channels = x.shape
    rate = "float32" if channels <= _VECTOR_CHANNELS else rate_of(x.dtype)
    return Cost(2.0 * count * groups * codebook.shape[1] * channels, size(x, codebook) + 8 * count * groups, rate)


def classify_voxels(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None = None,
    carried: Tensor | None = None,
) -> Cost:
    """Two products after each other, a byte a voxel out."""
    (count, channels), rows, (number, dim) = places.shape, len(features[0]), classes[0].shape
    moved = size(places, *features, *classes, trust, carried) + count * rows // dim
    return Cost(2.0 * count * rows * (channels + number), moved, rate_of(places.dtype))


def class_embedding(ids: Tensor, table: Tensor, weight: Tensor, bias: Tensor) -> Cost:
    """One product whose left side is looked up."""
    dtype = working_dtype(weight)
    outputs, wide = weight.shape
    moved = size(ids, table, bias) + dtype.itemsize * (len(ids) * outputs + weight.numel())
    return Cost(2.0 * len(ids) * wide * outputs, moved, rate_of(dtype))


def depthwise_norm(
    x: Tensor, kernel: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor], dtype: torch.dtype | None = None
) -> Cost:
    """A map in, a map out; the taps are no matrix product, and no tensor core helps."""
    taps = 2.0 * x.numel() * math.prod(kernel[0].shape[2:])
    return Cost(taps, size(x, *kernel, *norm) + x.numel() * (dtype or x.dtype).itemsize, "float32")


def feed_forward(x: Tensor, y: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> Cost:
    """Two maps in, one out; two products."""
    weights = y.element_size() * (widen[0].numel() + narrow[0].numel())
    moved = 2 * size(x) + size(y) + weights
    return Cost(4.0 * x.numel() * len(widen[0]), moved, rate_of(y.dtype))


def connected_components(classes: Tensor) -> Cost:
    """Classes in, labels of eight bytes out; parents of four bytes are written once and read twice."""
    return Cost(0.0, size(classes) + (8 + 12) * classes.numel(), "float32")


def gather_columns(columns: Tensor, poses: Tensor, lattice: Lattice, fill: int) -> Cost:
    """Each column that is written is read once."""
    found = poses.shape[0] * poses.shape[1] * math.prod(lattice.shape) * columns.shape[-1]
    return Cost(0.0, 2.0 * found + size(poses), "float32")


def token_inputs(
    noisy: Tensor | Draw, told: Told, dtype: torch.dtype = torch.float32, toward: tuple[Tensor, float] | None = None
) -> Cost:
    """All parts in, drawn noise costs nothing, and side by side out."""
    worlds, tokens, latent = told.warped.shape
    width = 2 * latent + told.known.shape[2] + told.route.shape[2] + 2
    read = size(*told, *(noisy[:2] if isinstance(noisy, Draw) else (noisy,)), toward[0] if toward else None)
    return Cost(0.0, read + worlds * tokens * width * dtype.itemsize, "float32")


def philox_normal(seeds: Tensor, steps: Tensor, index: int, shape: tuple[int, ...]) -> Cost:
    """Four bytes a number."""
    return Cost(0.0, 4.0 * len(seeds) * math.prod(shape) + size(seeds, steps), "float32")


def ada_norm(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None) -> Cost:
    """Tokens in and out."""
    return Cost(0.0, size(x, scale, shift) + x.numel() * (dtype or x.dtype).itemsize, "float32")


def gated_residual(x: Tensor, y: Tensor, gate: Tensor) -> Cost:
    """Two streams in, one out."""
    return Cost(0.0, 2 * size(x) + size(y, gate), "float32")


def gated_residual_norm(
    x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None
) -> Cost:
    """Two streams in, two out."""
    moved = 2 * size(x) + size(y, gate, scale, shift) + x.numel() * (dtype or x.dtype).itemsize
    return Cost(0.0, moved, "float32")


def world_attention(query: Tensor, key: Tensor, value: Tensor, past_key: Tensor, past_value: Tensor, *rest: Any) -> Cost:
    """Scores and sums over the whole window, also over frames that some worlds do not have yet."""
    (batch, frames, count, heads, channels), (turns, valid) = query.shape, rest[3:5]
    keys = (valid.shape[-1] + 1) * count
    moved = 2 * size(query) + size(key, value, past_key, past_value, turns)
    return Cost(4.0 * batch * frames * heads * count * keys * channels, moved, rate_of(query.dtype))


COSTS: dict[str, Callable[..., Cost]] = {
    cost.__name__: cost
    for cost in (
        ada_norm,
        class_embedding,
        classify_voxels,
        connected_components,
        depthwise_norm,
        feed_forward,
        gated_residual,
        gated_residual_norm,
        gather_columns,
        nearest_code,
        philox_normal,
        token_inputs,
        world_attention,
    )
}
