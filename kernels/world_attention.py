"""Attention of new latent frames over themselves and their past, with places turned into the ego frame of each new frame.

The past is kept without rotation, since the ego moves on, and is rotated where it is used: inside the kernel, tile by tile, so
that a window which slides over a sequence is never laid out once per frame. Keys of the past are kept normalised: that does
not depend on where the ego is, so it is done once, and a cache holds the same numbers whichever path wrote it.

Cosines and sines come from a table that all layers, heads and denoising steps of a chunk share. Taken from the pose in the
kernel they would cost as many special-function operations a key tile as half of the exponentials of 128 queries against
it, and those units are what attention with small heads is bound by; the table costs bandwidth instead, halved by float16
where the operands are bfloat16, whose rounding is eight times coarser than the table's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.dispatch import on_triton

HEAD_DIMS = (16, 32, 64)  # what the Triton kernel takes; other head dimensions go to the definition


def world_attention(
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
    first: int,
    eps: float = 1e-6,
) -> Tensor:
    """Attend from S new latent frames of N tokens, each to itself and to the W past frames it may see: (B, S, N, H, D).

    query, key, value: (B, S, N, H, D) of the new frames, neither normalised nor rotated, float32 or bfloat16. past_key,
    past_value: (B, T, N, H, D), keys normalised, neither rotated, float32 or bfloat16. New frame s sees the past frames
    first + s to first + s + W - 1, those of them that lie within 0 to T - 1 and are marked in valid, bool (B, S, W), oldest
    first: first is 0 where T = W frames of a cache serve one new frame, and -W where past_key holds the new frames themselves.
    query_weight, key_weight: (D,) of the RMS normalisation of queries and keys, with eps. own (N, D), turns
    (B, S, W, N, D): as `rotation_table` gives them, the angles of a frame's own tokens and of past tokens seen from the new
    frame. All but the tables and valid get gradients. What no frame may see is never read, or read and not used: it may be NaN.
    The result has the type of query. Raises ValueError where shapes, types or devices do not fit.
    """
    arguments = (query, key, value, past_key, past_value, query_weight, key_weight, own, turns, valid)
    _check(*arguments)
    if has_kernel(query, query.shape[-1]):
        return _WorldAttention.apply(*arguments, first, eps)
    return world_attention_torch(*arguments, first, eps)


def has_kernel(tensor: Tensor, head_dim: int) -> bool:
    """Whether attention of heads of this dimension over tensors on this one's device is the kernel's work."""
    return head_dim in HEAD_DIMS and on_triton(tensor)


def rotation_table(phase: Tensor, dtype: torch.dtype) -> Tensor:
    """Cosine and sine of each channel pair, interleaved, (..., D), from phase factors complex64 (..., D / 2).

    float16 for work in 16 bits, that is where dtype is bfloat16 or float16, else float32 and then a view of phase.
    """
    low = dtype in (torch.bfloat16, torch.float16)
    return torch.view_as_real(phase).flatten(-2).to(torch.float16 if low else torch.float32)


def world_attention_torch(
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
    first: int,
    eps: float = 1e-6,
) -> Tensor:
    """The definition of `world_attention` in plain torch, in float32, or float64 where query is float64."""
    (frames, channels), (window, total) = (query.shape[1], query.shape[-1]), (valid.shape[-1], past_key.shape[1])
    wide = torch.promote_types(query.dtype, torch.float32)
    queries = _turn(_normalise(query.to(wide), query_weight, eps), own)
    keys, values = _turn(_normalise(key.to(wide), key_weight, eps), own), _turn(value.to(wide), own)
    results = []
    for frame in range(frames):
        place = first + frame + torch.arange(window, device=query.device)
        seen = valid[:, frame] & (place >= 0) & (place < total)
        hidden = ~seen[..., None, None, None]
        past = (part[:, place.clamp(0, total - 1)].to(wide).masked_fill(hidden, 0.0) for part in (past_key, past_value))
        past_keys, past_values = (_turn(part, turns[:, frame]).flatten(1, 2) for part in past)
        all_keys, all_values = torch.cat((past_keys, keys[:, frame]), 1), torch.cat((past_values, values[:, frame]), 1)
        scores = torch.einsum("bqhd,bkhd->bhqk", queries[:, frame], all_keys) / math.sqrt(channels)
        mask = torch.nn.functional.pad(seen.repeat_interleave(query.shape[2], dim=1), (0, query.shape[2]), value=True)
        weights = scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1)
        results.append(_turn(torch.einsum("bhqk,bkhd->bqhd", weights, all_values), own, back=True))
    return torch.stack(results, dim=1).to(query.dtype) if results else torch.empty_like(query)


def _normalise(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def _turn(x: Tensor, table: Tensor, back: bool = False) -> Tensor:
    """Rotate the pairs (2 i, 2 i + 1) of x (..., N, H, D) by the angles of a table (..., N, D)."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table.to(x.dtype).unsqueeze(-2).unflatten(-1, (-1, 2)).unbind(-1)
    sin = -sin if back else sin
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class _WorldAttention(torch.autograd.Function):
    """The Triton kernels under autograd; scores are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        from kernels.world_attention_triton import world_attention_triton

        out, normaliser = world_attention_triton(*arguments)
        ctx.save_for_backward(*arguments[:-2], out, normaliser)
        ctx.rest = arguments[-2:]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from kernels.world_attention_backward_triton import world_attention_backward_triton

        *arguments, out, normaliser = ctx.saved_tensors
        past = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        found = world_attention_backward_triton(gradient, out, normaliser, *arguments, *ctx.rest, past=past)
        return (*found, None, None, None, None, None)


def _check(
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
) -> None:
    """Raise ValueError where the arguments of `world_attention` do not fit."""
    if query.ndim != 5 or query.shape[-1] % 2 or 0 in query.shape[2:]:
        raise ValueError(f"world_attention: query must be (B, S, N, H, D) with D even, found {tuple(query.shape)}")
    batch, frames, count, heads, channels = query.shape
    if past_key.ndim != 5 or not past_key.shape[1] or valid.ndim != 3 or not valid.shape[-1]:
        found = f"{tuple(past_key.shape)} and {tuple(valid.shape)}"
        raise ValueError(f"world_attention: past_key must be (B, T, N, H, D), valid (B, S, W), T and W positive, found {found}")
    past, span = (batch, past_key.shape[1], count, heads, channels), valid.shape[-1]
    floats, tables = (torch.float32, torch.bfloat16), (torch.float32, torch.float16)
    expected: dict[str, tuple[Tensor, tuple[int, ...], tuple[torch.dtype, ...]]] = {
        "query": (query, tuple(query.shape), floats),
        "key": (key, tuple(query.shape), (query.dtype,)),
        "value": (value, tuple(query.shape), (query.dtype,)),
        "past_key": (past_key, past, floats),
        "past_value": (past_value, past, floats),
        "query_weight": (query_weight, (channels,), floats),
        "key_weight": (key_weight, (channels,), floats),
        "own": (own, (count, channels), tables),
        "turns": (turns, (batch, frames, span, count, channels), tables),
        "valid": (valid, (batch, frames, span), (torch.bool,)),
    }
    for name, (tensor, shape, types) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype not in types:
            kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"world_attention: {name} must be {kinds} {shape}, found {found}")
        if tensor.device != query.device:
            raise ValueError(f"world_attention: query is on {query.device}, {name} on {tensor.device}")
