"""`quantize` as Triton kernels: the search of `nearest_code`, whose tile of vectors then fetches its codes and finishes.

Losses are summed program by program and uses counted in integers, so that equal calls give equal bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.codebook_triton import DIRECT_CHANNELS, find_direct, find_dot, settings

BLOCK = 1024  # elements of a program of the backward pass


@triton.jit
def _finish(
    x,
    book,
    found,
    quantized,
    losses,
    uses,
    code,
    row,
    group,
    count,
    groups,
    codes,
    CHANNELS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write the ids, the codes themselves, this program's sum of squared distances, and count each code's uses."""
    given = row < count
    tl.store(found + row * groups + group, code.to(tl.int64), mask=given)
    tl.atomic_add(uses + group * codes + code, 1, mask=given, sem="relaxed")
    vectors = x + ((row * groups + group) * CHANNELS)[:, None]
    entries = book + ((group * codes + code) * CHANNELS)[:, None]
    targets = quantized + ((row * groups + group) * CHANNELS)[:, None]
    squares = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, CHANNELS, BLOCK_D):
        channel = (start + tl.arange(0, BLOCK_D))[None, :]
        inside = given[:, None] & (channel < CHANNELS)
        value = tl.load(vectors + channel, mask=inside, other=0.0).to(tl.float32)
        near = tl.load(entries + channel, mask=inside, other=0.0).to(tl.float32)
        squares += tl.sum((value - near) * (value - near), axis=1)
        # As the straight-through rule is written, so that its rounding is the definition's.
        tl.store(targets + channel, (value + (near - value)).to(quantized.dtype.element_ty), mask=inside)
    program = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(losses + program, tl.sum(squares))


@triton.jit
def quantize_direct_kernel(
    x,
    book,
    found,
    quantized,
    losses,
    uses,
    count,
    groups,
    codes,
    CHANNELS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """found int64 (N, G), quantized (N, G, D), losses float32, one a program, and uses int32 (G, K), which must be zero.

    x (N, G, D) and book (G, K, D), D = CHANNELS. The grid has one program for each BLOCK_N vectors and group.
    """
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    code = find_direct(x, book, row, group, count, groups, codes, CHANNELS, BLOCK_N, BLOCK_K)
    _finish(x, book, found, quantized, losses, uses, code, row, group, count, groups, codes, CHANNELS, BLOCK_N, BLOCK_W)


@triton.jit
def quantize_dot_kernel(
    x,
    book,
    norms,
    found,
    quantized,
    losses,
    uses,
    count,
    groups,
    codes,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """As `quantize_direct_kernel`, with norms float32 (G, K), the codes' squared lengths."""
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    code = find_dot(x, book, norms, row, group, count, groups, codes, CHANNELS, PRECISION, WIDEN, BLOCK_N, BLOCK_K, BLOCK_D)
    _finish(x, book, found, quantized, losses, uses, code, row, group, count, groups, codes, CHANNELS, BLOCK_N, BLOCK_W)


@triton.jit
def slope_kernel(
    x, quantized, to_quantized, to_commitment, out, size, share, PASSED: tl.constexpr, PULLED: tl.constexpr, BLOCK: tl.constexpr
):
    """out (size,) = to_quantized, where PASSED, + to_commitment * share * (x - quantized), where PULLED."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    slope = tl.zeros((BLOCK,), tl.float32)
    if PASSED:
        slope += tl.load(to_quantized + place, mask=inside, other=0.0).to(tl.float32)
    if PULLED:
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        near = tl.load(quantized + place, mask=inside, other=0.0).to(tl.float32)
        slope += tl.load(to_commitment) * share * (value - near)
    tl.store(out + place, slope.to(out.dtype.element_ty), mask=inside)


def finish_settings(channels: int) -> dict[str, int]:
    """How many channels of a tile are fetched at a time once its codes are known."""
    return {"BLOCK_W": min(32, triton.next_power_of_2(channels))}


def _launch(x: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, codes, commitment and counts; see `kernels.quantize.quantize`."""
    (count, groups, channels), codes = x.shape, codebook.shape[1]
    dtype = x.dtype if x.dtype == codebook.dtype else torch.float32
    x, codebook = x.to(dtype).contiguous(), codebook.to(dtype).contiguous()
    options = {**settings(channels, dtype), **finish_settings(channels)}
    grid = (triton.cdiv(count, options["BLOCK_N"]), groups)
    found = torch.empty(count, groups, dtype=torch.int64, device=x.device)
    quantized = torch.empty(x.shape, dtype=dtype, device=x.device)
    losses = torch.empty(grid[0] * groups, dtype=torch.float32, device=x.device)
    uses = torch.zeros(groups, codes, dtype=torch.int32, device=x.device)
    given = (found, quantized, losses, uses, count, groups, codes)
    if channels <= DIRECT_CHANNELS:
        quantize_direct_kernel[grid](x, codebook, *given, CHANNELS=channels, enable_fp_fusion=True, **options)
    else:
        norms = codebook.float().square().sum(-1)
        options |= {"WIDEN": not x.is_cuda, "enable_fp_fusion": True}
        quantize_dot_kernel[grid](x, codebook, norms, *given, CHANNELS=channels, **options)
    return found, quantized, losses.sum() / x.numel(), uses.long()


class Quantize(torch.autograd.Function):
    """`quantize` with its gradient; see `kernels.quantize.quantize` for the arguments, x must not be empty."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (N, G, D) and codebook (G, K, D) -> codes, quantized, commitment, counts."""
        found, quantized, commitment, counts = _launch(x, codebook)
        # Not the codebook: it may move before the gradient is taken, and the codes that were used are in the result.
        ctx.save_for_backward(x, quantized)
        ctx.mark_non_differentiable(found, counts)
        ctx.set_materialize_grads(False)
        return found, quantized, commitment, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, None]:
        """Gradient of x; a result that nobody used has none."""
        x, quantized = ctx.saved_tensors
        to_quantized, to_commitment = slopes[1:3]
        passed = quantized if to_quantized is None else to_quantized.contiguous()
        pulled = quantized if to_commitment is None else to_commitment
        out, size = torch.empty(x.shape, dtype=x.dtype, device=x.device), x.numel()
        given = (x.contiguous(), quantized, passed, pulled, out, size, 2 / size)
        constants = {"PASSED": to_quantized is not None, "PULLED": to_commitment is not None, "BLOCK": BLOCK}
        slope_kernel[(triton.cdiv(size, BLOCK),)](*given, **constants, num_warps=4)
        return out, None
