"""`world_attention` as a Triton kernel: a tile of queries walks through its own frame and its past with an online softmax.

Keys and values are rotated as they arrive. The past is one line of W x N tokens that starts at the first valid frame, so
that worlds with a short history take fewer steps; no mask is ever laid out. The backward pass is in
kernels/world_attention_backward_triton.py and shares the functions here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.codebook_triton import multiply

LOG2E = tl.constexpr(math.log2(math.e))


@triton.jit
def turn(x, table, SIGN: tl.constexpr):
    """Rotate the pairs (2 i, 2 i + 1) of x (R, D) by the angles of table (R, D), or back where SIGN is -1."""
    rows: tl.constexpr = x.shape[0]
    pairs: tl.constexpr = x.shape[1] // 2
    even, odd = tl.split(tl.reshape(x, (rows, pairs, 2)))
    cos, sin = tl.split(tl.reshape(table, (rows, pairs, 2)))
    sin *= SIGN
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (rows, 2 * pairs))


@triton.jit
def load_rows(base, row, stride, known, CHANNELS: tl.constexpr):
    """Rows (R, CHANNELS) at base in float32, zeros where they are not known."""
    offsets = (row * stride)[:, None] + tl.arange(0, CHANNELS)[None, :]
    return tl.load(base + offsets, mask=known[:, None], other=0.0).to(tl.float32)


@triton.jit
def normalise(x, weight, EPS: tl.constexpr):
    """RMS normalisation of the rows of x (R, D) with the weight (D,) that lies at a pointer."""
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / x.shape[1] + EPS)
    return x * scale[:, None] * tl.load(weight + tl.arange(0, x.shape[1])).to(tl.float32)[None, :]


@triton.jit
def own_tile(key, value, weight, own, row, stride, EPS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr):
    """Keys and values (R, CHANNELS) of these tokens of the new frame, normalised and rotated, in their own type."""
    table = load_rows(own, row, CHANNELS, row < TOKENS, CHANNELS)
    keys = normalise(load_rows(key, row, stride, row < TOKENS, CHANNELS), weight, EPS)
    values = load_rows(value, row, stride, row < TOKENS, CHANNELS)
    kind: tl.constexpr = key.dtype.element_ty
    return turn(keys, table, 1).to(kind), turn(values, table, 1).to(kind)


@triton.jit
def past_tile(
    past_key,
    past_value,
    turns,
    valid,
    index,
    place,
    total,
    frame_stride,
    row_stride,
    TOKENS: tl.constexpr,
    WINDOW: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Keys and values (R, CHANNELS) of these tokens of the window's line, rotated, in float32, and which may be seen.

    past_key and past_value point at the window's first frame, which is frame `place` of `total`.
    """
    frame = index // TOKENS
    inside = (index < WINDOW * TOKENS) & (place + frame >= 0) & (place + frame < total)
    seen = inside & (tl.load(valid + frame, mask=inside, other=0) != 0)
    offset = frame * frame_stride + index % TOKENS * row_stride
    table = load_rows(turns, index, CHANNELS, seen, CHANNELS)
    keys = turn(load_rows(past_key, offset, 1, seen, CHANNELS), table, 1)
    return keys, turn(load_rows(past_value, offset, 1, seen, CHANNELS), table, 1), seen


@triton.jit
def first_seen(valid, place, total, WINDOW: tl.constexpr):
    """The first frame of the window that may be seen, WINDOW where none may."""
    first = WINDOW
    for back in tl.static_range(WINDOW):
        frame = WINDOW - 1 - back
        inside = (place + frame >= 0) & (place + frame < total)
        first = tl.where(tl.load(valid + frame, mask=inside, other=0) != 0, frame, first)
    return first


@triton.jit
def attend(queries, keys, values, seen, peak, mass, result, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """One step of the online softmax to base 2: the running maximum, the weights' sum, and the weighted sum of values."""
    scores = tl.zeros((queries.shape[0], keys.shape[0]), tl.float32)
    scores = multiply(queries, tl.trans(keys), scores, PRECISION, WIDEN)
    scores = tl.where(seen[None, :], scores, float("-inf"))
    top = tl.maximum(peak, tl.max(scores, axis=1))
    weights = tl.exp2(scores - top[:, None])
    shrink = tl.exp2(peak - top)
    result = multiply(weights.to(values.dtype), values, result * shrink[:, None], PRECISION, WIDEN)
    return top, mass * shrink + tl.sum(weights, axis=1), result


@triton.jit(do_not_specialize=["frames", "total", "first"])
def world_attention_kernel(
    query,
    key,
    value,
    past_key,
    past_value,
    query_weight,
    key_weight,
    own,
    turns,
    valid,
    out,
    normaliser,
    frames,
    total,
    first,
    frame_stride,
    row_stride,
    past_batch_stride,
    past_frame_stride,
    past_row_stride,
    EPS: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    WINDOW: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """out (M, N, H, D), and normaliser float32 (M, H, N): the base 2 logarithm of the sum of a query's exponentials.

    M new frames in all, `frames` a sequence. The grid has one program for each of them, each head and BLOCK_M queries.
    """
    blocks: tl.constexpr = (TOKENS + BLOCK_M - 1) // BLOCK_M
    head, new = tl.program_id(0) // blocks % HEADS, (tl.program_id(0) // (blocks * HEADS)).to(tl.int64)
    row = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    at, place = new * frame_stride + head * CHANNELS, first + (new % frames).to(tl.int32)
    angles = load_rows(own, row, CHANNELS, row < TOKENS, CHANNELS)
    queries = normalise(load_rows(query + at, row, row_stride, row < TOKENS, CHANNELS), query_weight, EPS)
    queries = (turn(queries, angles, 1) * (LOG2E * CHANNELS**-0.5)).to(query.dtype.element_ty)
    peak, mass = tl.full((BLOCK_M,), float("-inf"), tl.float32), tl.zeros((BLOCK_M,), tl.float32)
    result = tl.zeros((BLOCK_M, CHANNELS), tl.float32)
    for start in range(0, TOKENS, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        keys, values = own_tile(key + at, value + at, key_weight, own, column, row_stride, EPS, TOKENS, CHANNELS)
        peak, mass, result = attend(queries, keys, values, column < TOKENS, peak, mass, result, PRECISION, WIDEN)
    past_at = new // frames * past_batch_stride + place.to(tl.int64) * past_frame_stride + head * CHANNELS
    turns, valid = turns + new * (WINDOW * TOKENS * CHANNELS), valid + new * WINDOW
    for start in range(first_seen(valid, place, total, WINDOW) * TOKENS, WINDOW * TOKENS, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        keys, values, seen = past_tile(
            *(past_key + past_at, past_value + past_at, turns, valid, column, place, total, past_frame_stride, past_row_stride),
            *(TOKENS, WINDOW, CHANNELS),
        )
        keys, values = keys.to(queries.dtype), values.to(queries.dtype)
        peak, mass, result = attend(queries, keys, values, seen, peak, mass, result, PRECISION, WIDEN)
    angles = load_rows(own, row, CHANNELS, row < TOKENS, CHANNELS)
    result = turn(result / mass[:, None], angles, -1).to(out.dtype.element_ty)
    target = out + (new * TOKENS * HEADS + head) * CHANNELS + (row * (HEADS * CHANNELS))[:, None]
    tl.store(target + tl.arange(0, CHANNELS)[None, :], result, mask=(row < TOKENS)[:, None])
    tl.store(normaliser + (new * HEADS + head) * TOKENS + row, peak + tl.log2(mass), mask=row < TOKENS)


def settings(tokens: int, dtype: torch.dtype, generation: int) -> dict[str, Any]:
    """Block sizes and launch options of the forward kernel; they spill no registers on sm_80, sm_90 and sm_100.

    generation: the major compute capability. Those of 9 and 10 read the keys of a product from shared memory, others from
    registers, which then hold fewer of them.
    """
    if dtype == torch.float32:
        # Three products in TensorFloat-32 are as exact as one in float32, but take more registers.
        return {"BLOCK_M": 64, "BLOCK_N": 16, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 2}
    # 128 queries share the work of rotating keys, unless their last tile would be mostly empty.
    rows = 128 if 2 * triton.cdiv(tokens, 128) <= triton.cdiv(tokens, 64) else 64
    keys = 64 if generation == 9 or (generation == 10 and rows == 128) else 32
    return {"BLOCK_M": rows, "BLOCK_N": keys, "PRECISION": "ieee", "num_warps": rows // 16, "num_stages": 2}


def generation_of(tensor: Tensor) -> int:
    """The major compute capability of the GPU that holds the tensor, 0 in the interpreter."""
    return torch.cuda.get_device_capability(tensor.device)[0] if tensor.is_cuda else 0


def aligned(*parts: Tensor) -> list[Tensor]:
    """These tensors (..., N, H, D), copied unless they share strides and hold the H x D numbers of a token side by side."""
    heads, channels = parts[0].shape[-2:]
    side_by_side = all(part.stride(-1) == 1 and (heads == 1 or part.stride(-2) == channels) for part in parts)
    if side_by_side and all(part.stride() == parts[0].stride() for part in parts):
        return list(parts)
    return [part.contiguous() for part in parts]


def flat_arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    query_weight: Tensor,
    key_weight: Tensor,
    own: Tensor,
    turns: Tensor,
    valid: Tensor,
) -> tuple[list[Tensor], tuple[int, ...], dict[str, Any]]:
    """The tensors as the kernels take them, new frames of all sequences in one line; strides; what is known when compiling."""
    new = aligned(*(part.flatten(0, 1) for part in (query, key, value)))
    past = aligned(past_key, past_value)
    rest = [part.contiguous() for part in (query_weight, key_weight, own, turns, valid.view(torch.uint8))]
    strides = (*new[0].stride()[:2], *past[0].stride()[:3])
    tokens, heads, channels = query.shape[2:]
    constants = {"TOKENS": tokens, "HEADS": heads, "WINDOW": valid.shape[-1], "CHANNELS": channels, "WIDEN": not query.is_cuda}
    return [*new, *past, *rest], strides, constants


def world_attention_triton(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Launch the kernel: the result, and what the backward pass needs; see `kernels.world_attention` for the arguments."""
    *tensors, first, eps = arguments
    query, past_key = tensors[0], tensors[3]
    batch, frames, tokens, heads, _ = query.shape
    parts, strides, constants = flat_arguments(*tensors)
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    normaliser = torch.empty(batch * frames, heads, tokens, dtype=torch.float32, device=query.device)
    options = settings(tokens, query.dtype, generation_of(query))
    programs = batch * frames * heads * triton.cdiv(tokens, options["BLOCK_M"])
    if programs:
        sizes = (frames, past_key.shape[1], first, *strides)
        world_attention_kernel[(programs,)](*parts, out, normaliser, *sizes, EPS=eps, **constants, **options)
    return out, normaliser
