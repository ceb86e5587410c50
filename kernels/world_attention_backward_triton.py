"""Gradients of `world_attention` as Triton kernels, by the usual recomputation of scores from the saved normaliser.

A first kernel rotates queries and the result's gradient once, since every tile of keys meets them. Then one kernel walks keys
for the queries, and two walk queries for the keys: those of the new frames, and those of past frames, each of which gathers
from all the new frames that saw it, in a fixed order and without atomics, so that gradients repeat bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.codebook_triton import multiply
from kernels.world_attention_triton import (
    first_seen,
    flat_arguments,
    generation_of,
    load_rows,
    normalise,
    own_tile,
    past_tile,
    turn,
)

LOG2E, LN2 = tl.constexpr(math.log2(math.e)), tl.constexpr(math.log(2))
KERNELS = {
    "prepare": "BLOCK_M",
    "query": "BLOCK_M",
    "key": "BLOCK_N",
    "past": "BLOCK_N",
}  # and what a program holds of each frame


@triton.jit
def store_rows(base, row, stride, known, x):
    """Write the rows of x (R, D) that are known."""
    target = base + (row * stride)[:, None] + tl.arange(0, x.shape[1])[None, :]
    tl.store(target, x.to(base.dtype.element_ty), mask=known[:, None])


@triton.jit
def normalise_backward(x, gradient, known, weight, EPS: tl.constexpr):
    """Gradients of RMS normalisation: of its input x (R, D), and of its weight (D,), summed over the known rows."""
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / x.shape[1] + EPS)[:, None]
    unit = x * scale
    of_weight = tl.sum(tl.where(known[:, None], gradient * unit, 0.0), axis=0)
    gradient *= tl.load(weight + tl.arange(0, x.shape[1])).to(tl.float32)[None, :]
    return scale * (gradient - unit * (tl.sum(gradient * unit, axis=1) / x.shape[1])[:, None]), of_weight


@triton.jit
def prepare_kernel(
    query,
    query_weight,
    own,
    gradient,
    out,
    turned_query,
    turned_gradient,
    delta,
    frame_stride,
    row_stride,
    EPS: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Queries normalised, rotated and scaled as the scores take them, the result's gradient rotated, both (M, N, H, D).

    delta float32 (M, H, N): the product of result and gradient. One program for each new frame, head and BLOCK_M queries.
    """
    blocks: tl.constexpr = (TOKENS + BLOCK_M - 1) // BLOCK_M
    head, new = tl.program_id(0) // blocks % HEADS, (tl.program_id(0) // (blocks * HEADS)).to(tl.int64)
    row = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    known, at = row < TOKENS, (new * TOKENS * HEADS + head) * CHANNELS
    angles = load_rows(own, row, CHANNELS, known, CHANNELS)
    raw = load_rows(query + new * frame_stride + head * CHANNELS, row, row_stride, known, CHANNELS)
    turned = turn(normalise(raw, query_weight, EPS), angles, 1) * (LOG2E * CHANNELS**-0.5)
    store_rows(turned_query + at, row, HEADS * CHANNELS, known, turned)
    slope = load_rows(gradient + at, row, HEADS * CHANNELS, known, CHANNELS)
    store_rows(turned_gradient + at, row, HEADS * CHANNELS, known, turn(slope, angles, 1))
    product = tl.sum(slope * load_rows(out + at, row, HEADS * CHANNELS, known, CHANNELS), axis=1)
    tl.store(delta + (new * HEADS + head) * TOKENS + row, product, mask=known)


@triton.jit
def query_step(queries, slope, keys, values, seen, top, delta, result, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """Add to the gradient of queries (R, D) what comes through these keys and values."""
    scores = tl.zeros((queries.shape[0], keys.shape[0]), tl.float32)
    weights = tl.exp2(multiply(queries, tl.trans(keys), scores, PRECISION, WIDEN) - top[:, None])
    weights = tl.where(seen[None, :], weights, 0.0)
    scores = tl.zeros((queries.shape[0], keys.shape[0]), tl.float32)
    weights *= multiply(slope, tl.trans(values), scores, PRECISION, WIDEN) - delta[:, None]
    return multiply(weights.to(keys.dtype), keys, result, PRECISION, WIDEN)


@triton.jit(do_not_specialize=["frames", "total", "first"])
def query_gradient_kernel(
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
    turned_query,
    turned_gradient,
    normaliser,
    delta,
    d_query,
    d_weight,
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
    """d_query (M, N, H, D), d_weight float32 (programs, D); the grid and the walk are those of `world_attention_kernel`."""
    blocks: tl.constexpr = (TOKENS + BLOCK_M - 1) // BLOCK_M
    head, new = tl.program_id(0) // blocks % HEADS, (tl.program_id(0) // (blocks * HEADS)).to(tl.int64)
    row = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    known, place, line = row < TOKENS, first + (new % frames).to(tl.int32), (new * HEADS + head) * TOKENS + row
    at, dense = new * frame_stride + head * CHANNELS, (new * TOKENS * HEADS + head) * CHANNELS
    kind: tl.constexpr = query.dtype.element_ty
    queries = load_rows(turned_query + dense, row, HEADS * CHANNELS, known, CHANNELS).to(kind)
    slope = load_rows(turned_gradient + dense, row, HEADS * CHANNELS, known, CHANNELS).to(kind)
    top, product = tl.load(normaliser + line, mask=known, other=0.0), tl.load(delta + line, mask=known, other=0.0)
    result = tl.zeros((BLOCK_M, CHANNELS), tl.float32)
    for start in range(0, TOKENS, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        keys, values = own_tile(key + at, value + at, key_weight, own, column, row_stride, EPS, TOKENS, CHANNELS)
        result = query_step(queries, slope, keys, values, column < TOKENS, top, product, result, PRECISION, WIDEN)
    past_at = new // frames * past_batch_stride + place.to(tl.int64) * past_frame_stride + head * CHANNELS
    turns, valid = turns + new * (WINDOW * TOKENS * CHANNELS), valid + new * WINDOW
    for start in range(first_seen(valid, place, total, WINDOW) * TOKENS, WINDOW * TOKENS, BLOCK_N):
        column = start + tl.arange(0, BLOCK_N)
        keys, values, seen = past_tile(
            *(past_key + past_at, past_value + past_at, turns, valid, column, place, total, past_frame_stride, past_row_stride),
            *(TOKENS, WINDOW, CHANNELS),
        )
        keys, values = keys.to(kind), values.to(kind)
        result = query_step(queries, slope, keys, values, seen, top, product, result, PRECISION, WIDEN)
    result = turn(result * (CHANNELS**-0.5), load_rows(own, row, CHANNELS, known, CHANNELS), -1)
    raw = load_rows(query + at, row, row_stride, known, CHANNELS)
    result, of_weight = normalise_backward(raw, result, known, query_weight, EPS)
    store_rows(d_query + dense, row, HEADS * CHANNELS, known, result)
    tl.store(d_weight + tl.program_id(0).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS), of_weight)


@triton.jit
def key_steps(
    keys,
    values,
    turned_query,
    turned_gradient,
    normaliser,
    delta,
    d_keys,
    d_values,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Add to the gradients of rotated keys and values (R, D) what comes through all queries of one new frame and head."""
    channels: tl.constexpr = keys.shape[1]
    for start in range(0, TOKENS, BLOCK_M):
        row = start + tl.arange(0, BLOCK_M)
        place = (row * (HEADS * channels))[:, None] + tl.arange(0, channels)[None, :]
        queries = tl.load(turned_query + place, mask=(row < TOKENS)[:, None], other=0.0)
        slope = tl.load(turned_gradient + place, mask=(row < TOKENS)[:, None], other=0.0)
        top = tl.load(normaliser + row, mask=row < TOKENS, other=0.0)
        product = tl.load(delta + row, mask=row < TOKENS, other=0.0)
        scores = tl.zeros((keys.shape[0], BLOCK_M), tl.float32)
        weights = tl.exp2(multiply(keys, tl.trans(queries), scores, PRECISION, WIDEN) - top[None, :])
        d_values = multiply(weights.to(keys.dtype), slope, d_values, PRECISION, WIDEN)
        scores = tl.zeros((keys.shape[0], BLOCK_M), tl.float32)
        weights *= multiply(values, tl.trans(slope), scores, PRECISION, WIDEN) - product[None, :]
        d_keys = multiply(weights.to(keys.dtype), queries, d_keys, PRECISION, WIDEN)
    return d_keys, d_values


@triton.jit
def key_gradient_kernel(
    key,
    value,
    key_weight,
    own,
    turned_query,
    turned_gradient,
    normaliser,
    delta,
    d_key,
    d_value,
    d_weight,
    frame_stride,
    row_stride,
    EPS: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """d_key, d_value (M, N, H, D) and d_weight float32 (programs, D), one program for each new frame, head and BLOCK_N keys."""
    blocks: tl.constexpr = (TOKENS + BLOCK_N - 1) // BLOCK_N
    head, new = tl.program_id(0) // blocks % HEADS, (tl.program_id(0) // (blocks * HEADS)).to(tl.int64)
    row = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    known, line = row < TOKENS, (new * HEADS + head) * TOKENS
    at, dense = new * frame_stride + head * CHANNELS, (new * TOKENS * HEADS + head) * CHANNELS
    keys, values = own_tile(key + at, value + at, key_weight, own, row, row_stride, EPS, TOKENS, CHANNELS)
    zeros = tl.zeros((BLOCK_N, CHANNELS), tl.float32)
    d_keys, d_values = key_steps(
        *(keys, values, turned_query + dense, turned_gradient + dense, normaliser + line, delta + line, zeros, zeros),
        *(TOKENS, HEADS, PRECISION, WIDEN, BLOCK_M),
    )
    angles = load_rows(own, row, CHANNELS, known, CHANNELS)
    store_rows(d_value + dense, row, HEADS * CHANNELS, known, turn(d_values, angles, -1))
    raw = load_rows(key + at, row, row_stride, known, CHANNELS)
    d_keys, of_weight = normalise_backward(raw, turn(d_keys * LN2, angles, -1), known, key_weight, EPS)
    store_rows(d_key + dense, row, HEADS * CHANNELS, known, d_keys)
    tl.store(d_weight + tl.program_id(0).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS), of_weight)


@triton.jit(do_not_specialize=["frames", "total", "first"])
def past_gradient_kernel(
    past_key,
    past_value,
    turns,
    valid,
    turned_query,
    turned_gradient,
    normaliser,
    delta,
    d_past_key,
    d_past_value,
    frames,
    total,
    first,
    past_batch_stride,
    past_frame_stride,
    past_row_stride,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    WINDOW: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """d_past_key, d_past_value (B, T, N, H, D), one program for each past frame, head and BLOCK_N keys.

    The sums are turned into the ego frame of each new frame that saw the keys and back again, so that they exist only once.
    """
    blocks: tl.constexpr = (TOKENS + BLOCK_N - 1) // BLOCK_N
    head, past = tl.program_id(0) // blocks % HEADS, (tl.program_id(0) // (blocks * HEADS)).to(tl.int64)
    row = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    known, batch, place = row < TOKENS, past // total, (past % total).to(tl.int32)
    at = batch * past_batch_stride + place.to(tl.int64) * past_frame_stride + head * CHANNELS
    kind: tl.constexpr = turned_query.dtype.element_ty
    d_keys, d_values = tl.zeros((BLOCK_N, CHANNELS), tl.float32), tl.zeros((BLOCK_N, CHANNELS), tl.float32)
    for back in range(WINDOW):
        frame = place - first - back
        new = batch * frames + frame
        inside = (frame >= 0) & (frame < frames)
        if tl.load(valid + new * WINDOW + back, mask=inside, other=0) != 0:
            angles = load_rows(turns + (new * WINDOW + back) * (TOKENS * CHANNELS), row, CHANNELS, known, CHANNELS)
            keys = turn(load_rows(past_key + at, row, past_row_stride, known, CHANNELS), angles, 1).to(kind)
            values = turn(load_rows(past_value + at, row, past_row_stride, known, CHANNELS), angles, 1).to(kind)
            dense, line = (new * TOKENS * HEADS + head) * CHANNELS, (new * HEADS + head) * TOKENS
            d_keys, d_values = key_steps(
                *(keys, values, turned_query + dense, turned_gradient + dense, normaliser + line, delta + line),
                *(turn(d_keys, angles, 1), turn(d_values, angles, 1), TOKENS, HEADS, PRECISION, WIDEN, BLOCK_M),
            )
            angles = load_rows(turns + (new * WINDOW + back) * (TOKENS * CHANNELS), row, CHANNELS, known, CHANNELS)
            d_keys, d_values = turn(d_keys, angles, -1), turn(d_values, angles, -1)
    dense = (past * TOKENS * HEADS + head) * CHANNELS
    store_rows(d_past_key + dense, row, HEADS * CHANNELS, known, d_keys * LN2)
    store_rows(d_past_value + dense, row, HEADS * CHANNELS, known, d_values)


def settings(dtype: torch.dtype, kernel: str, generation: int) -> dict[str, Any]:
    """Block sizes and launch options of a backward kernel; they spill no registers on sm_80, sm_90 and sm_100.

    generation: see `settings` of the forward kernel.
    """
    if kernel == "prepare":
        return {"BLOCK_M": 64, "num_warps": 4}
    if dtype == torch.float32:
        keys = 16 if kernel == "query" and generation == 10 else 32
        return {"BLOCK_M": 32, "BLOCK_N": keys, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 2}
    # Two sums are carried along for keys, one for queries.
    warps, moving = (4, "BLOCK_N") if kernel == "query" else (8, "BLOCK_M")
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64} | ({} if generation in (9, 10) else {moving: 32})
    return {**blocks, "PRECISION": "ieee", "num_warps": warps, "num_stages": 2}


def world_attention_backward_triton(
    gradient: Tensor, out: Tensor, normaliser: Tensor, *arguments: Any, past: bool
) -> tuple[Tensor | None, ...]:
    """Gradients of query, key, value, past_key, past_value, query_weight and key_weight; those of the past if wanted.

    arguments: those of `kernels.world_attention`, of which out and normaliser are the results.
    """
    *tensors, first, eps = arguments
    query, past_key = tensors[0], tensors[3]
    (batch, frames, tokens, heads, channels), total = query.shape, past_key.shape[1]
    if not query.numel():
        return tuple(torch.zeros_like(tensor) for tensor in tensors[:7])
    parts, strides, constants = flat_arguments(*tensors)
    q, k, v, past_k, past_v, query_weight, key_weight, own, turns, valid = parts
    window, lines = {"WINDOW": constants.pop("WINDOW")}, batch * frames * heads
    shape = {name: constants[name] for name in ("TOKENS", "HEADS", "CHANNELS")}
    options = {name: settings(query.dtype, name, generation_of(query)) for name in KERNELS}
    blocks = {name: triton.cdiv(tokens, options[name][tile]) for name, tile in KERNELS.items()}

    def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(size, dtype=dtype, device=query.device)

    turned, grads = ([empty(*query.shape, dtype=query.dtype) for _ in range(count)] for count in (2, 3))
    delta = empty(lines, tokens)
    of_query, of_key = empty(blocks["query"] * lines, channels), empty(blocks["key"] * lines, channels)
    seen, sizes = (*turned, normaliser, delta), (frames, total, first, *strides)
    head = (q, query_weight, own, gradient.contiguous(), out, *turned, delta, *strides[:2])
    prepare_kernel[(blocks["prepare"] * lines,)](*head, EPS=eps, **shape, **options["prepare"])
    constants["EPS"] = eps
    head = (*parts, *seen, grads[0], of_query, *sizes)
    query_gradient_kernel[(len(of_query),)](*head, **window, **constants, **options["query"])
    head = (k, v, key_weight, own, *seen, *grads[1:], of_key, *strides[:2])
    key_gradient_kernel[(len(of_key),)](*head, **constants, **options["key"])
    of_weights = (of_query.sum(0).to(tensors[5].dtype), of_key.sum(0).to(tensors[6].dtype))
    if not past:
        return (*grads, None, None, *of_weights)
    pasts = [empty(*past_key.shape, dtype=part.dtype) for part in (past_k, past_v)]
    del constants["EPS"]
    head = (past_k, past_v, turns, valid, *seen, *pasts, frames, total, first, *strides[2:])
    past_gradient_kernel[(blocks["past"] * batch * total * heads,)](*head, **window, **constants, **options["past"])
    return (*grads, *pasts, *of_weights)
