"""`ada_norm`, `gated_residual` and both in one as Triton kernels: a tile of whole tokens is read once and written once.

Backward, sums over a sequence's tokens are taken program by program and added in a fixed order: gradients repeat bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.ada_norm import EPSILON

TILES = 4  # of tokens that a program goes through backward, so that there are few partial sums


@triton.jit
def _normalise(x, inside, CHANNELS: tl.constexpr, EPSILON: tl.constexpr):
    """Layer norm (BLOCK_N, BLOCK_C) of tokens, zero outside, and what each was divided by, inverted (BLOCK_N,)."""
    centred = tl.where(inside, x - (tl.sum(x, axis=1) / CHANNELS)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / CHANNELS + EPSILON)
    return centred * inverse[:, None], inverse


@triton.jit
def forward_kernel(
    x,
    y,
    gate,
    scale,
    shift,
    residual,
    out,
    tokens,
    gate_step,
    scale_step,
    shift_step,
    CHANNELS: tl.constexpr,
    EPSILON: tl.constexpr,
    GATED: tl.constexpr,
    NORMED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """GATED: residual = x + gate * y, else x. NORMED: out = norm(residual) * (1 + scale) + shift. The steps are those from one
    sequence's modulation to the next. The grid has one program for each sequence and BLOCK_N of its tokens.
    """
    blocks = tl.cdiv(tokens, BLOCK_N)
    sequence = (tl.program_id(0) // blocks).to(tl.int64)
    token = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    channel = tl.arange(0, BLOCK_C)
    known = channel < CHANNELS
    inside = (token < tokens)[:, None] & known[None, :]
    place = (sequence * tokens + token)[:, None] * CHANNELS + channel[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        factor = tl.load(gate + sequence * gate_step + channel, mask=known, other=0.0).to(tl.float32)
        value += factor[None, :] * tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        rounded = value.to(residual.dtype.element_ty)  # as whoever reads the stream finds it
        tl.store(residual + place, rounded, mask=inside)
        value = rounded.to(tl.float32)
    if NORMED:
        normal, _ = _normalise(value, inside, CHANNELS, EPSILON)
        factor = 1.0 + tl.load(scale + sequence * scale_step + channel, mask=known, other=0.0).to(tl.float32)
        added = tl.load(shift + sequence * shift_step + channel, mask=known, other=0.0).to(tl.float32)
        tl.store(out + place, (normal * factor[None, :] + added[None, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_slope(given, normal, inverse, CHANNELS: tl.constexpr):
    """Gradient of what `_normalise` was given, from that of its result."""
    mean, along = tl.sum(given, axis=1) / CHANNELS, tl.sum(given * normal, axis=1) / CHANNELS
    return inverse[:, None] * (given - mean[:, None] - normal * along[:, None])


@triton.jit
def backward_kernel(
    x,
    y,
    gate,
    scale,
    to_residual,
    to_out,
    to_x,
    to_y,
    sums,
    tokens,
    programs,
    gate_step,
    scale_step,
    CHANNELS: tl.constexpr,
    EPSILON: tl.constexpr,
    GATED: tl.constexpr,
    NORMED: tl.constexpr,
    PASSED: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Gradients to_x and to_y (M, N, C), and each program's sums float32 (M, programs, 3, C): gradients of shift, scale, gate.

    NORMED: of the norm of x, to_x. GATED: of gate * y, to_y. PASSED: with to_residual. TILES * BLOCK_N tokens a program.
    """
    sequence, program = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    channel = tl.arange(0, BLOCK_C)
    known = channel < CHANNELS
    to_shift, to_scale = tl.zeros((BLOCK_C,), tl.float32), tl.zeros((BLOCK_C,), tl.float32)
    to_gate = tl.zeros((BLOCK_C,), tl.float32)
    if NORMED:
        widened = 1.0 + tl.load(scale + sequence * scale_step + channel, mask=known, other=0.0).to(tl.float32)
    if GATED:
        opened = tl.load(gate + sequence * gate_step + channel, mask=known, other=0.0).to(tl.float32)
    for tile in range(TILES):
        token = (program * TILES + tile) * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (token < tokens)[:, None] & known[None, :]
        place = (sequence * tokens + token)[:, None] * CHANNELS + channel[None, :]
        total = tl.zeros((BLOCK_N, BLOCK_C), tl.float32)
        if PASSED:
            total += tl.load(to_residual + place, mask=inside, other=0.0).to(tl.float32)
        if NORMED:
            normal, inverse = _normalise(tl.load(x + place, mask=inside, other=0.0).to(tl.float32), inside, CHANNELS, EPSILON)
            given = tl.load(to_out + place, mask=inside, other=0.0).to(tl.float32)
            to_shift += tl.sum(given, axis=0)
            to_scale += tl.sum(given * normal, axis=0)
            total += _norm_slope(given * widened[None, :], normal, inverse, CHANNELS)
            tl.store(to_x + place, total.to(to_x.dtype.element_ty), mask=inside)
        if GATED:
            to_gate += tl.sum(total * tl.load(y + place, mask=inside, other=0.0).to(tl.float32), axis=0)
            tl.store(to_y + place, (total * opened[None, :]).to(to_y.dtype.element_ty), mask=inside)
    target = sums + ((sequence * programs + program) * 3) * CHANNELS + channel
    if NORMED:
        tl.store(target, to_shift, mask=known)
        tl.store(target + CHANNELS, to_scale, mask=known)
    if GATED:
        tl.store(target + 2 * CHANNELS, to_gate, mask=known)


def settings(channels: int) -> dict[str, int]:
    """Block sizes and launch options for tokens of so many channels; they spill no registers on sm_80, sm_90 and sm_100."""
    width = triton.next_power_of_2(channels)
    return {"BLOCK_N": max(1, min(32, 2048 // width)), "BLOCK_C": width, "num_warps": 8 if width > 2048 else 4}


def _rows(modulation: Tensor) -> Tensor:
    """The modulation with its channels next to each other; parts of a wider tensor stay where they are."""
    return modulation if modulation.stride(-1) == 1 else modulation.contiguous()


def _forward(
    x: Tensor, y: Tensor | None, gate: Tensor | None, scale: Tensor | None, shift: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The residual stream, which is x without a gate, and what is made of it, which is the stream without a scale."""
    sequences, tokens, channels = x.shape
    x = x.contiguous()
    residual = torch.empty(x.shape, dtype=x.dtype, device=x.device) if y is not None else x
    out = torch.empty(x.shape, dtype=dtype, device=x.device) if scale is not None else residual
    options = settings(channels)
    programs = sequences * triton.cdiv(tokens, options["BLOCK_N"])
    if not programs:
        return residual, out
    parts = [x if part is None else _rows(part) for part in (gate, scale, shift)]
    steps = [0 if part is None else part.stride(0) for part in parts]
    given = (x, x if y is None else y.contiguous(), *parts, residual, out, tokens, *steps)
    constants = {"CHANNELS": channels, "EPSILON": EPSILON, "GATED": y is not None, "NORMED": scale is not None}
    forward_kernel[(programs,)](*given, **constants, enable_fp_fusion=True, **options)
    return residual, out


def _backward(
    x: Tensor, y: Tensor | None, gate: Tensor | None, scale: Tensor | None, to_residual: Tensor | None, to_out: Tensor | None
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Gradients of x and y, and the sums over tokens that are the gradients of shift, scale and gate, float32 (M, C).

    x is only looked at where there is to_out, the gradient of the norm.
    """
    sequences, tokens, channels = x.shape
    options: dict[str, Any] = settings(channels)
    programs = triton.cdiv(tokens, options["BLOCK_N"] * TILES)
    slopes = [x if part is None else part.contiguous() for part in (to_residual, to_out)]
    to_x = slopes[0] if to_out is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    to_y = to_x if y is None else torch.empty(x.shape, dtype=y.dtype, device=x.device)
    sums = torch.empty(sequences, programs, 3, channels, dtype=torch.float32, device=x.device)
    if sequences * programs:
        parts = [x if part is None else _rows(part) for part in (gate, scale)]
        given = (x, x if y is None else y, *parts, *slopes, to_x, to_y, sums, tokens, programs)
        constants = {"CHANNELS": channels, "EPSILON": EPSILON, "GATED": y is not None, "NORMED": to_out is not None}
        constants |= {"PASSED": to_residual is not None, "TILES": TILES}
        steps = [part.stride(0) for part in parts]
        backward_kernel[(sequences * programs,)](*given, *steps, **constants, enable_fp_fusion=True, **options)
    to_shift, to_scale, to_gate = sums.sum(1).unbind(1)
    return to_x, to_y, (to_shift, to_scale, to_gate)


class AdaNorm(torch.autograd.Function):
    """`ada_norm` with its gradient; see `kernels.ada_norm.ada_norm` for the arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
        """x (M, N, C), scale and shift (M, C) -> (M, N, C)."""
        x = x.contiguous()
        ctx.save_for_backward(x, scale)
        ctx.shift_type = shift.dtype
        return _forward(x, None, None, scale, shift, dtype)[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, scale and shift."""
        x, scale = ctx.saved_tensors
        to_x, _, (to_shift, to_scale, _) = _backward(x, None, None, scale, None, slopes[0])
        return to_x, to_scale.to(scale.dtype), to_shift.to(ctx.shift_type), None


class GatedResidual(torch.autograd.Function):
    """`gated_residual` with its gradient; see `kernels.ada_norm.gated_residual` for the arguments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        """x, y (M, N, C) and gate (M, C) -> (M, N, C)."""
        y = y.contiguous()
        ctx.save_for_backward(y, gate)
        return _forward(x, y, gate, None, None, x.dtype)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, y and gate."""
        y, gate = ctx.saved_tensors
        to_x, to_y, (_, _, to_gate) = _backward(y, y, gate, None, slopes[0], None)
        return to_x, to_y, to_gate.to(gate.dtype)


class GatedResidualNorm(torch.autograd.Function):
    """`gated_residual_norm` with its gradient; see `kernels.ada_norm.gated_residual_norm` for the arguments."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """x, y (M, N, C), gate, scale and shift (M, C) -> two tensors (M, N, C)."""
        y = y.contiguous()
        residual, out = _forward(x, y, gate, scale, shift, dtype)
        ctx.save_for_backward(residual, y, gate, scale)
        ctx.shift_type = shift.dtype
        ctx.set_materialize_grads(False)
        return residual, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x, y, gate, scale and shift; a result that nobody used has none."""
        residual, y, gate, scale = ctx.saved_tensors
        to_residual, to_out = slopes
        to_x, to_y, (to_shift, to_scale, to_gate) = _backward(residual, y, gate, scale, to_residual, to_out)
        if to_out is None:
            return to_x, to_y, to_gate.to(gate.dtype), None, None, None
        return to_x, to_y, to_gate.to(gate.dtype), to_scale.to(scale.dtype), to_shift.to(ctx.shift_type), None
