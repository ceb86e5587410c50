"""`nearest_code` as Triton kernels: a tile of vectors walks through the codes of its group and keeps the best in registers.

Few channels: the squared differences themselves, as in the definition. Many: |c|^2 - 2 x.c on tensor cores.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DIRECT_CHANNELS = 16  # up to here the squared differences are cheap enough, and tl.dot would mostly multiply padding


@triton.jit
def _keep_best(score, block, best, best_block, codes, BLOCK_K: tl.constexpr):
    """Take over the scores of this block of codes that beat those before; each lane keeps its own best until the end."""
    inside = block * BLOCK_K + tl.arange(0, BLOCK_K) < codes
    better = (score < best) & inside[None, :]
    return tl.where(better, score, best), tl.where(better, block, best_block)


@triton.jit
def _first(best, best_block, BLOCK_K: tl.constexpr):
    """The lowest code id among the lanes that hold the best score of each row, int32 (BLOCK_N,)."""
    code = best_block * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
    least = tl.min(best, axis=1)
    return tl.min(tl.where(best == least[:, None], code, 2**31 - 1), axis=1)


@triton.jit
def find_direct(
    x, book, row, group, count, groups, codes, CHANNELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Nearest codes int32 (BLOCK_N,) of the vectors in these rows of x (N, G, D), D = CHANNELS, by squared differences."""
    vectors = x + (row * groups + group) * CHANNELS
    best = tl.full((BLOCK_N, BLOCK_K), float("inf"), tl.float32)
    best_block = tl.zeros((BLOCK_N, BLOCK_K), tl.int32)
    for block in range(tl.cdiv(codes, BLOCK_K)):
        code = block * BLOCK_K + tl.arange(0, BLOCK_K)
        entries = book + (group * codes + code) * CHANNELS
        score = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
        for channel in range(CHANNELS):
            left = tl.load(vectors + channel, mask=row < count, other=0.0).to(tl.float32)
            right = tl.load(entries + channel, mask=code < codes, other=0.0).to(tl.float32)
            difference = left[:, None] - right[None, :]
            score += difference * difference
        best, best_block = _keep_best(score, block, best, best_block, codes, BLOCK_K)
    return _first(best, best_block, BLOCK_K)


@triton.jit
def multiply(left, right, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """total + left @ right. WIDEN is for Triton's interpreter, which multiplies the bits of bfloat16 as integers."""
    if WIDEN:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision=PRECISION)
    return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def find_dot(
    x,
    book,
    norms,
    row,
    group,
    count,
    groups,
    codes,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Nearest codes int32 (BLOCK_N,) of the vectors in these rows of x (N, G, D), by |c|^2 - 2 x.c with norms float32 (G, K).

    Where BLOCK_D covers all channels the vectors are loaded once.
    """
    channel = tl.arange(0, BLOCK_D)
    vectors = x + ((row * groups + group) * CHANNELS)[:, None] + channel[None, :]
    held = tl.load(vectors, mask=(row < count)[:, None] & (channel < CHANNELS)[None, :], other=0.0)
    best = tl.full((BLOCK_N, BLOCK_K), float("inf"), tl.float32)
    best_block = tl.zeros((BLOCK_N, BLOCK_K), tl.int32)
    for block in range(tl.cdiv(codes, BLOCK_K)):
        code = block * BLOCK_K + tl.arange(0, BLOCK_K)
        entries = book + ((group * codes + code) * CHANNELS)[None, :] + channel[:, None]
        known = (code < codes)[None, :]
        right = tl.load(entries, mask=known & (channel < CHANNELS)[:, None], other=0.0)
        product = multiply(held, right, tl.zeros((BLOCK_N, BLOCK_K), tl.float32), PRECISION, WIDEN)
        for start in range(BLOCK_D, CHANNELS, BLOCK_D):
            rest = start + channel < CHANNELS
            left = tl.load(vectors + start, mask=(row < count)[:, None] & rest[None, :], other=0.0)
            right = tl.load(entries + start, mask=known & rest[:, None], other=0.0)
            product = multiply(left, right, product, PRECISION, WIDEN)
        norm = tl.load(norms + group * codes + code, mask=code < codes, other=0.0)
        best, best_block = _keep_best(norm[None, :] - 2.0 * product, block, best, best_block, codes, BLOCK_K)
    return _first(best, best_block, BLOCK_K)


@triton.jit
def nearest_direct_kernel(
    x, book, out, count, groups, codes, CHANNELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """out int64 (N, G) from x (N, G, D) and book (G, K, D), D = CHANNELS; one program for each BLOCK_N vectors and group."""
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    code = find_direct(x, book, row, group, count, groups, codes, CHANNELS, BLOCK_N, BLOCK_K)
    tl.store(out + row * groups + group, code.to(tl.int64), mask=row < count)


@triton.jit
def nearest_dot_kernel(
    x,
    book,
    norms,
    out,
    count,
    groups,
    codes,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """out int64 (N, G) from x (N, G, D), book (G, K, D) and norms float32 (G, K), the codes' squared lengths.

    The grid has one program for each BLOCK_N vectors and group.
    """
    group = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    code = find_dot(x, book, norms, row, group, count, groups, codes, CHANNELS, PRECISION, WIDEN, BLOCK_N, BLOCK_K, BLOCK_D)
    tl.store(out + row * groups + group, code.to(tl.int64), mask=row < count)


def settings(channels: int, dtype: torch.dtype) -> dict[str, Any]:
    """Block sizes and launch options for codes of so many channels; they spill no registers on sm_80, sm_90 and sm_100."""
    if channels <= DIRECT_CHANNELS:
        return {"BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4}
    if dtype == torch.bfloat16:
        sizes = {
            "BLOCK_N": 128 if channels <= 128 else 64,
            "BLOCK_K": 64,
            "BLOCK_D": min(128, triton.next_power_of_2(channels)),
        }
        return {**sizes, "PRECISION": "ieee", "num_warps": 8, "num_stages": 2}
    # Three products in TensorFloat-32 are as exact as one in float32, but take so many registers that larger blocks spill.
    return {"BLOCK_N": 128, "BLOCK_K": 32, "BLOCK_D": 32, "PRECISION": "tf32x3", "num_warps": 8, "num_stages": 2}


def nearest_code_triton(x: Tensor, codebook: Tensor) -> Tensor:
    """Launch the kernel that fits; see `kernels.codebook.nearest_code` for the arguments."""
    (count, groups, channels), codes = x.shape, codebook.shape[1]
    dtype = x.dtype if x.dtype == codebook.dtype else torch.float32
    x, codebook = x.to(dtype).contiguous(), codebook.to(dtype).contiguous()
    out = torch.empty(count, groups, dtype=torch.int64, device=x.device)
    if not out.numel():
        return out
    options = settings(channels, dtype)
    grid = (triton.cdiv(count, options["BLOCK_N"]), groups)
    sizes = (count, groups, codes)
    if channels <= DIRECT_CHANNELS:
        nearest_direct_kernel[grid](x, codebook, out, *sizes, CHANNELS=channels, enable_fp_fusion=True, **options)
    else:
        norms = codebook.float().square().sum(-1)
        options |= {"WIDEN": not x.is_cuda, "enable_fp_fusion": True}
        nearest_dot_kernel[grid](x, codebook, norms, out, *sizes, CHANNELS=channels, **options)
    return out
