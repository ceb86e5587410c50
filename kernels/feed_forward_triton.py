"""`feed_forward` as a Triton kernel: a tile of rows walks through the hidden channels, which exist in registers alone.

Each block of hidden channels is one product over the channels of y, GELU, and one product that adds to the result. Blocks of
a product are powers of two, and channel counts often are not: they are split into the largest power of two within and the
rest, 96 = 64 + 32 and 160 = 128 + 32, so that for the presets no tensor core multiplies padding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.codebook_triton import multiply
from kernels.depthwise_norm_triton import split
from kernels.feed_forward import branch_torch
from kernels.recompute import gradients

_LINEAR = tl.constexpr(2 * math.sqrt(2 / math.pi))
_CUBIC = tl.constexpr(0.044715 * 2 * math.sqrt(2 / math.pi))


@triton.jit
def _gelu(x):
    """GELU in its tanh form, which is x times the sigmoid of twice what the hyperbolic tangent is taken of."""
    return x / (1.0 + tl.exp(-x * (_LINEAR + _CUBIC * x * x)))


@triton.jit
def _columns(matrix, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """These rows and columns of matrix (ROWS, COLUMNS), turned, (columns, rows); zero beyond its end."""
    inside = (row < ROWS)[None, :] & (column < COLUMNS)[:, None]
    return tl.load(matrix + (row * COLUMNS)[None, :] + column[:, None], mask=inside, other=0.0)


@triton.jit
def _finish(x, out, bias, total, line, channel, inside, CHANNELS: tl.constexpr):
    """Store x plus bias plus total for these channels of the rows that begin at line."""
    place = line + channel[None, :]
    known = inside[:, None] & (channel < CHANNELS)[None, :]
    added = tl.load(bias + channel, mask=channel < CHANNELS, other=0.0).to(tl.float32)
    result = tl.load(x + place, mask=known, other=0.0).to(tl.float32) + (total + added[None, :])
    tl.store(out + place, result.to(out.dtype.element_ty), mask=known)


@triton.jit
def feed_forward_kernel(
    x,
    y,
    weight,
    bias,
    back,
    back_bias,
    out,
    count,
    HIDDEN: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
):
    """out (M, C) from x and y (M, C), weight (H, C), bias (H,), back (C, H) and back_bias (C,), C <= HEAD + TAIL.

    The rows of y are held all the while, or read again for each block of hidden channels, BLOCK_K channels at a time. The grid
    has one program for each BLOCK_M rows.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = row < count
    near, far = tl.arange(0, HEAD), HEAD + tl.arange(0, TAIL if TAIL else HEAD)
    line = (row * CHANNELS)[:, None]
    total = tl.zeros((BLOCK_M, HEAD), tl.float32)
    if not BLOCK_K:
        first = tl.load(y + line + near[None, :], mask=inside[:, None] & (near < CHANNELS)[None, :], other=0.0)
    if TAIL:
        total_far = tl.zeros((BLOCK_M, TAIL), tl.float32)
        if not BLOCK_K:
            second = tl.load(y + line + far[None, :], mask=inside[:, None] & (far < CHANNELS)[None, :], other=0.0)
    for start in range(0, HIDDEN, BLOCK_H):
        unit = start + tl.arange(0, BLOCK_H)
        added = tl.load(bias + unit, mask=unit < HIDDEN, other=0.0).to(tl.float32)
        hidden = tl.zeros((BLOCK_M, BLOCK_H), tl.float32) + added[None, :]
        if BLOCK_K:
            for channel in range(0, CHANNELS, BLOCK_K):
                some = channel + tl.arange(0, BLOCK_K)
                part = tl.load(y + line + some[None, :], mask=inside[:, None] & (some < CHANNELS)[None, :], other=0.0)
                hidden = multiply(part, _columns(weight, unit, some, HIDDEN, CHANNELS), hidden, PRECISION, WIDEN)
        else:
            hidden = multiply(first, _columns(weight, unit, near, HIDDEN, CHANNELS), hidden, PRECISION, WIDEN)
            if TAIL:
                hidden = multiply(second, _columns(weight, unit, far, HIDDEN, CHANNELS), hidden, PRECISION, WIDEN)
        hidden = _gelu(hidden).to(y.dtype.element_ty)
        total = multiply(hidden, _columns(back, near, unit, CHANNELS, HIDDEN), total, PRECISION, WIDEN)
        if TAIL:
            total_far = multiply(hidden, _columns(back, far, unit, CHANNELS, HIDDEN), total_far, PRECISION, WIDEN)
    _finish(x, out, back_bias, total, line, near, inside, CHANNELS)
    if TAIL:
        _finish(x, out, back_bias, total_far, line, far, inside, CHANNELS)


def settings(channels: int, dtype: torch.dtype) -> dict[str, Any]:
    """Block sizes and launch options; at 64, 96, 160 and 256 channels they spill no registers on sm_80, sm_90 and sm_100."""
    head, tail = split(channels)
    if dtype == torch.bfloat16:
        sizes = {"BLOCK_M": 64, "BLOCK_H": 64 if head <= 64 else 32, "BLOCK_K": 0, "HEAD": head, "TAIL": tail}
        return {**sizes, "PRECISION": "ieee", "num_warps": 4 if head <= 128 else 8, "num_stages": 2}
    # Three products in TensorFloat-32 are as exact as one in float32, but take more registers: none are left to hold y.
    sizes = {"BLOCK_M": 64, "BLOCK_H": 32, "BLOCK_K": 32, "HEAD": head, "TAIL": tail}
    return {**sizes, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 1}


def _launch(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, back: Tensor, back_bias: Tensor) -> Tensor:
    """The result, contiguous and in the type of x."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    hidden, channels = weight.shape
    matrices = [part.to(y.dtype).contiguous() for part in (weight, back)]
    given = (x.contiguous(), y.contiguous(), matrices[0], bias.contiguous(), matrices[1], back_bias.contiguous(), out)
    options = settings(channels, y.dtype)
    count = out.numel() // channels
    constants = {"HIDDEN": hidden, "CHANNELS": channels, "WIDEN": not x.is_cuda}
    grid = (triton.cdiv(count, options["BLOCK_M"]),)
    feed_forward_kernel[grid](*given, count, **constants, enable_fp_fusion=True, **options)
    return out


class FeedForward(torch.autograd.Function):
    """`feed_forward` with its gradient; see `kernels.feed_forward.feed_forward` for the arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, back: Tensor, back_bias: Tensor) -> Tensor:
        """x and y (..., C), weight (H, C), bias (H,), back (C, H), back_bias (C,) -> (..., C)."""
        ctx.save_for_backward(y, weight, bias, back, back_bias)
        return _launch(x, y, weight, bias, back, back_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all arguments: of x what comes in, of the others through the definition, which is computed again."""
        slope = slopes[0]
        y = ctx.saved_tensors[0]
        needed = ctx.needs_input_grad
        if not any(needed[1:]):
            return slope, *[None] * 5
        return slope, *gradients(branch_torch, ctx.saved_tensors, needed[1:], slope.to(y.dtype))
