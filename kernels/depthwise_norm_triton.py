"""`depthwise_norm` as a Triton kernel: five rows of a few columns stay in registers from the convolution to the norm.

A row of the map that is loaded goes to all rows of the result that it reaches, so that nine loads a tap column serve five
rows. Columns are counted over all maps of the batch: no width leaves lanes idle. A channel count that is no power of two is
split into the largest one within and the rest, 96 = 64 + 32, so that none of the presets' channels are padding.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.depthwise_norm import EPSILON, depthwise_norm_torch
from kernels.recompute import gradients

ROWS = 5  # of the result, in one program


@triton.jit
def _add(total, tile, taps, TAP: tl.constexpr):
    """total + the tile times this tap of a column of taps, where there is such a tap."""
    if TAP >= 0 and TAP < 5:
        total += taps[TAP][None, :] * tile
    return total


@triton.jit
def _convolve(
    x,
    weight,
    bias,
    corner,
    top,
    column,
    real,
    height,
    width,
    CHANNELS: tl.constexpr,
    START: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Five rows (BLOCK_W, BLOCK_C) of the convolution, from row `top` on, of the channels from START on; zero beyond the last.

    corner (BLOCK_W,): where in x the first channel lies of what the upper left tap of the first row falls on.
    """
    channel = START + tl.arange(0, BLOCK_C)
    known = channel < CHANNELS
    begin = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    begin += tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    first, second, third, fourth, fifth = begin, begin, begin, begin, begin
    for across in range(5):
        tap = weight + across * CHANNELS + channel
        taps = (
            tl.load(tap, mask=known, other=0.0),
            tl.load(tap + 5 * CHANNELS, mask=known, other=0.0),
            tl.load(tap + 10 * CHANNELS, mask=known, other=0.0),
            tl.load(tap + 15 * CHANNELS, mask=known, other=0.0),
            tl.load(tap + 20 * CHANNELS, mask=known, other=0.0),
        )
        reached = column + across - 2
        source = x + (corner + across * CHANNELS)[:, None] + channel[None, :]
        for down in tl.static_range(9):
            row = top + down - 2
            end = tl.where((row >= 0) & (row < height), width, 0)  # no column of a row outside of the map is inside
            inside = (real & (reached >= 0) & (reached < end))[:, None] & known[None, :]
            tile = tl.load(source + down * width * CHANNELS, mask=inside, other=0.0).to(tl.float32)
            first, second = _add(first, tile, taps, down), _add(second, tile, taps, down - 1)
            third, fourth = _add(third, tile, taps, down - 2), _add(fourth, tile, taps, down - 3)
            fifth = _add(fifth, tile, taps, down - 4)
    return first, second, third, fourth, fifth


@triton.jit
def _store(out, value, scale, shift, channel, inside, CHANNELS: tl.constexpr):
    """Store the normalised value, scaled and shifted by channel."""
    known = channel < CHANNELS
    factor = tl.load(scale + channel, mask=known, other=0.0).to(tl.float32)
    added = tl.load(shift + channel, mask=known, other=0.0).to(tl.float32)
    result = value * factor[None, :] + added[None, :]
    tl.store(out + channel[None, :], result.to(out.dtype.element_ty), mask=inside[:, None] & known[None, :])


@triton.jit
def depthwise_norm_kernel(
    x,
    weight,
    bias,
    scale,
    shift,
    out,
    columns,
    height,
    width,
    CHANNELS: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK_W: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
):
    """out (B, H, W, C) from x (B, H, W, C) and weight float32 (25, C); columns = B * W, channels = HEAD + TAIL or less.

    The grid has one program for each BLOCK_W columns and five rows, those of the same columns next to each other, so that the
    rows that two programs need are read from memory once.
    """
    blocks = tl.cdiv(height, 5)
    top = (tl.program_id(0) % blocks) * 5
    number = (tl.program_id(0) // blocks) * BLOCK_W + tl.arange(0, BLOCK_W)
    column = number % width
    place = (number // width).to(tl.int64) * height * width + column
    real = number < columns
    corner = (place + (top - 2) * width - 2) * CHANNELS
    near = tl.arange(0, HEAD)
    head = _convolve(x, weight, bias, corner, top, column, real, height, width, CHANNELS, 0, BLOCK_W, HEAD)
    if TAIL:
        far = HEAD + tl.arange(0, TAIL)
        tail = _convolve(x, weight, bias, corner, top, column, real, height, width, CHANNELS, HEAD, BLOCK_W, TAIL)
    for row in tl.static_range(5):
        inside = number < tl.where(top + row < height, columns, 0)
        target = out + ((place + (top + row) * width) * CHANNELS)[:, None]
        total = tl.sum(head[row], axis=1)
        if TAIL:
            total += tl.sum(tail[row], axis=1)
        mean = (total / CHANNELS)[:, None]
        left = tl.where((near < CHANNELS)[None, :], head[row] - mean, 0.0)
        square = tl.sum(left * left, axis=1)
        if TAIL:
            right = tl.where((far < CHANNELS)[None, :], tail[row] - mean, 0.0)
            square += tl.sum(right * right, axis=1)
        inverse = (1.0 / tl.sqrt(square / CHANNELS + EPSILON))[:, None]
        _store(target, left * inverse, scale, shift, near, inside, CHANNELS)
        if TAIL:
            _store(target, right * inverse, scale, shift, far, inside, CHANNELS)


def split(channels: int, least: int = 16) -> tuple[int, int]:
    """Two powers of two that hold so many channels together with little to spare, the second 0 where the first does."""
    whole = max(least, triton.next_power_of_2(channels))
    head = whole // 2
    tail = max(least, triton.next_power_of_2(channels - head)) if channels > head else 0
    return (whole, 0) if head < least or tail in (0, head) else (head, tail)


def settings(channels: int) -> dict[str, int]:
    """Block sizes and launch options for so many channels; they spill no registers on sm_80, sm_90 and sm_100."""
    head, tail = split(channels)
    # Four channels a thread of one column, 16 bytes in float32, as far as there are enough columns and threads for it.
    return {"BLOCK_W": max(2, min(8, 1024 // head)), "HEAD": head, "TAIL": tail, "num_warps": 4 if head <= 64 else 8}


def _launch(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """The result in this type; weight (C, 1, 5, 5)."""
    batch, height, width, channels = x.shape
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    options = settings(channels)
    programs = triton.cdiv(batch * width, options["BLOCK_W"]) * triton.cdiv(height, ROWS)
    if programs:
        taps = weight.float().view(channels, -1).T.contiguous()
        given = (x.contiguous(), taps, *(part.contiguous() for part in (bias, scale, shift)), out, batch * width, height, width)
        depthwise_norm_kernel[(programs,)](*given, CHANNELS=channels, EPSILON=EPSILON, enable_fp_fusion=True, **options)
    return out


class DepthwiseNorm(torch.autograd.Function):
    """`depthwise_norm` with its gradient; see `kernels.depthwise_norm.depthwise_norm` for the arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
        """x (B, H, W, C), weight (C, 1, 5, 5), bias, scale and shift (C,) -> (B, H, W, C)."""
        ctx.save_for_backward(x, weight, bias, scale, shift)
        ctx.dtype = dtype
        return _launch(x, weight, bias, scale, shift, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight, bias, scale and shift, through the definition, which is computed again."""

        def again(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            return depthwise_norm_torch(x, (weight, bias), (scale, shift), ctx.dtype)

        return (*gradients(again, ctx.saved_tensors, ctx.needs_input_grad, slopes[0]), None)
