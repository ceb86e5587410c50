"""`token_inputs` as a Triton kernel: a program writes all channels of some tokens of a world, and draws their noise."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.noise import philox_normal
from kernels.noise_triton import normals_of
from kernels.token_inputs import FLAGS, Draw, Told


@triton.jit
def _copy(source, targets, row, real, flag, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Write rows of source (., WIDTH) times a flag to where targets begin."""
    channel = tl.arange(0, BLOCK)
    inside = real[:, None] & (channel < WIDTH)[None, :]
    value = tl.load(source + (row * WIDTH)[:, None] + channel[None, :], mask=inside, other=0).to(tl.float32) * flag
    tl.store(targets[:, None] + channel[None, :], value.to(targets.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["index"])
def token_inputs_kernel(
    noisy,
    steps,
    index,
    prediction,
    share,
    warped,
    known,
    route,
    has_warp,
    has_route,
    out,
    tokens,
    LATENT: tl.constexpr,
    KNOWN: tl.constexpr,
    ROUTE: tl.constexpr,
    DRAWN: tl.constexpr,
    TOWARD: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """out (M, N, 2 C + K + R + 2) from noisy, prediction and warped (M, N, C), known (M, N, K), route (M, N, R), and has_warp
    and has_route (M,); C, K, R = LATENT, KNOWN, ROUTE.

    Where DRAWN, noisy holds the seeds int64 (M,), and C is a multiple of 4. prediction is read where TOWARD. The grid has one
    program for each world and BLOCK tokens of it.
    """
    blocks = tl.cdiv(tokens, BLOCK)
    world = (tl.program_id(0) // blocks).to(tl.int64)
    token = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    real, row = token < tokens, world * tokens + token
    targets = out + row * (2 * LATENT + KNOWN + ROUTE + 2)
    channel = tl.arange(0, BLOCK_C)
    inside = real[:, None] & (channel < LATENT)[None, :]
    place = (row * LATENT)[:, None] + channel[None, :]
    if DRAWN:
        counter = (token * (LATENT // 4))[:, None] + tl.arange(0, BLOCK_C // 4)[None, :]
        value = tl.reshape(normals_of(tl.load(noisy + world), tl.load(steps + world), counter, index), (BLOCK, BLOCK_C))
    else:
        value = tl.load(noisy + place, mask=inside, other=0.0).to(tl.float32)
    if TOWARD:
        value += share * (tl.load(prediction + place, mask=inside, other=0.0).to(tl.float32) - value)
    tl.store(targets[:, None] + channel[None, :], value.to(out.dtype.element_ty), mask=inside)
    warp, led = (tl.load(has_warp + world) > 0).to(tl.float32), (tl.load(has_route + world) > 0).to(tl.float32)
    _copy(warped, targets + LATENT, row, real, warp, LATENT, BLOCK_C)
    _copy(known, targets + 2 * LATENT, row, real, warp, KNOWN, BLOCK_K)
    _copy(route, targets + (2 * LATENT + KNOWN), row, real, led, ROUTE, BLOCK_R)
    flags = targets + (2 * LATENT + KNOWN + ROUTE)
    zero = tl.zeros((BLOCK,), tl.float32)
    tl.store(flags, (zero + warp).to(out.dtype.element_ty), mask=real)
    tl.store(flags + 1, (zero + led).to(out.dtype.element_ty), mask=real)


def settings(latent: int, known: int, route: int) -> dict[str, Any]:
    """Block sizes and launch options; they spill no registers on sm_80, sm_90 and sm_100."""
    wide = [max(1, triton.next_power_of_2(width)) for width in (latent, known, route)]
    sizes = dict(zip(("BLOCK_C", "BLOCK_K", "BLOCK_R"), (max(4, wide[0]), *wide[1:]), strict=True))
    return {**sizes, "BLOCK": max(1, 2048 // max(wide)), "num_warps": 4}


def token_inputs_triton(noisy: Tensor | Draw, told: Told, dtype: torch.dtype, toward: tuple[Tensor, float] | None) -> Tensor:
    """Launch the kernel; see `kernels.token_inputs.token_inputs` for the arguments. Draws need C to be a multiple of 4."""
    (worlds, tokens, latent), known, route = told.warped.shape, told.known.shape[2], told.route.shape[2]
    out = torch.empty(worlds, tokens, 2 * latent + known + route + FLAGS, dtype=dtype, device=told.warped.device)
    if not out.numel():
        return out
    options = settings(latent, known, route)
    if isinstance(noisy, Draw) and latent % 4:  # a counter gives four numbers, here to two tokens
        noisy = philox_normal(*noisy, (tokens, latent))
    first, steps, number = noisy if isinstance(noisy, Draw) else (noisy, noisy, 0)
    prediction, share = toward or (told.warped, 0.0)
    tensors = (part.contiguous() for part in told)
    constants = {
        "LATENT": latent,
        "KNOWN": known,
        "ROUTE": route,
        "DRAWN": isinstance(noisy, Draw),
        "TOWARD": toward is not None,
    }
    grid = (worlds * triton.cdiv(tokens, options["BLOCK"]),)
    begin = (first.contiguous(), steps.contiguous(), number, prediction.contiguous(), float(share))
    token_inputs_kernel[grid](*begin, *tensors, out, tokens, **constants, enable_fp_fusion=False, **options)
    return out
