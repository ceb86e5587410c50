"""Attention over a moving window without the kernel: rotate the past once a chunk, then torch's fastest fused attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

USES = 3  # of a rollout's past: two denoising steps and the writing of the cache
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass
class Inputs:
    """Arguments of `world_attention` for B sequences of S frames with T past frames; complex factors for the rivals."""

    query: Tensor
    key: Tensor
    value: Tensor
    past_key: Tensor
    past_value: Tensor
    query_weight: Tensor
    key_weight: Tensor
    own: Tensor
    turns: Tensor
    valid: Tensor
    first: int

    @property
    def phases(self) -> tuple[Tensor, Tensor]:
        """own and turns as complex factors, complex64 (N, D / 2) and (B, S, W, N, D / 2)."""
        own, turns = (
            torch.view_as_complex(part.float().unflatten(-1, (-1, 2)).contiguous()) for part in (self.own, self.turns)
        )
        return own, turns

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of `world_attention`."""
        return tuple(vars(self).values())


def make(shape: tuple[int, ...], batch: int, frames: int, dtype: torch.dtype, device: str, ragged: bool) -> Inputs:
    """Random inputs: a cache of W frames for one new frame, or sequences that are their own past."""
    tokens, heads, channels, window = shape
    inner = (tokens, heads, channels)
    table = torch.float16 if dtype == torch.bfloat16 else torch.float32

    def turns(*size: int) -> Tensor:
        angle = 6 * torch.randn(*size, channels // 2, device=device)
        return torch.stack((angle.cos(), angle.sin()), dim=-1).flatten(-2).to(table)

    new = torch.randn(batch, frames, tokens, 3, heads, channels, device=device).to(dtype).unbind(3)
    past = torch.randn(2, batch, window if frames == 1 else frames, *inner, device=device).to(dtype).unbind(0)
    order = torch.arange(frames, device=device)[:, None] - window + torch.arange(window, device=device)
    seen = (order >= 0).expand(batch, -1, -1) if frames > 1 else torch.ones(batch, 1, window, dtype=torch.bool, device=device)
    if ragged:
        length = torch.arange(batch, device=device)[:, None, None] % (window + 1)
        seen = seen & (torch.arange(window, device=device) >= window - length)
    weights = (torch.ones(channels, device=device), torch.ones(channels, device=device))
    tables = (turns(tokens), turns(batch, frames, window, tokens))
    return Inputs(*new, *past, *weights, *tables, seen.contiguous(), 0 if frames == 1 else -window)


def turn(x: Tensor, phase: Tensor) -> Tensor:
    """Rotate the pairs of x (..., N, H, D) by complex factors (..., N, D / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phase.unsqueeze(-2)).flatten(-2).to(x.dtype)


def turn_real(x: Tensor, phase: Tensor) -> Tensor:
    """The same in real numbers, which torch.compile can fuse."""
    factors = torch.view_as_real(phase).unsqueeze(-3)
    (even, odd), (cos, sin) = x.float().unflatten(-1, (-1, 2)).unbind(-1), factors.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def rollout_rival(given: Inputs, compiled: bool) -> Callable[[], Tensor]:
    """A chunk without the kernel: the rotated past lies in a buffer whose end takes the new frame's own keys at every use.

    So the past is rotated once, and never copied again. A mask is passed only where some world has a short history.
    """
    batch, _, tokens, heads, channels = given.query.shape
    span = given.valid.shape[-1] * tokens
    own, turns = (part.clone() for part in given.phases)
    mask = None
    if not bool(given.valid.all()):
        seen = given.valid[:, 0].repeat_interleave(tokens, dim=1)
        mask = nn.functional.pad(seen, (0, tokens), value=True)[:, None, None].expand(-1, 1, tokens, -1).contiguous()
    size = (batch, span + tokens, heads, channels)
    keys, values = (torch.empty(size, dtype=given.query.dtype, device=given.query.device) for _ in range(2))
    rotate = turn_real if compiled else turn

    def prepare() -> None:
        for line, past in ((keys, given.past_key), (values, given.past_value)):
            line[:, :span] = rotate(past, turns[:, 0]).flatten(1, 2)

    def use() -> Tensor:
        query, key = (
            nn.functional.rms_norm(part[:, 0].float(), (channels,), weight, 1e-6).to(part.dtype)
            for part, weight in ((given.query, given.query_weight), (given.key, given.key_weight))
        )
        keys[:, span:], values[:, span:] = rotate(key, own), rotate(given.value[:, 0], own)
        line = (part.transpose(1, 2) for part in (rotate(query, own), keys, values))
        attended = nn.functional.scaled_dot_product_attention(*line, attn_mask=mask)
        return rotate(attended.transpose(1, 2), own.conj().resolve_conj())

    prepare, use = (torch.compile(prepare), torch.compile(use)) if compiled else (prepare, use)

    def chunk() -> Tensor:
        prepare()
        return [use() for _ in range(USES)][-1].unsqueeze(1)

    return chunk


def training_rival(given: Inputs, compiled: bool) -> Callable[[], Tensor]:
    """A layer over sequences without the kernel: every window laid out and rotated, then fused attention with a mask."""
    (batch, frames, tokens, _, channels), window = given.query.shape, given.valid.shape[-1]
    own, turns = (part.clone() for part in given.phases)
    mask = nn.functional.pad(given.valid.flatten(0, 1).repeat_interleave(tokens, dim=1), (0, tokens), value=True)
    mask = mask[:, None, None].expand(-1, 1, tokens, -1).contiguous()
    rotate = turn_real if compiled else turn

    def slide(part: Tensor) -> Tensor:
        line = torch.cat((part.new_zeros(batch, window, *part.shape[2:]), part), dim=1)
        return torch.stack([line[:, i : i + window] for i in range(frames)], dim=1)

    def layer() -> Tensor:
        query, key = (
            nn.functional.rms_norm(part.float(), (channels,), weight, 1e-6).to(part.dtype)
            for part, weight in ((given.query, given.query_weight), (given.key, given.key_weight))
        )
        query, key, value = (rotate(part, own).flatten(0, 1) for part in (query, key, given.value))
        past = (rotate(slide(part), turns).flatten(0, 1).flatten(1, 2) for part in (given.past_key, given.past_value))
        keys, values = (torch.cat(pair, dim=1) for pair in zip(past, (key, value), strict=True))
        line = (part.transpose(1, 2) for part in (query, keys, values))
        attended = nn.functional.scaled_dot_product_attention(*line, attn_mask=mask)
        return rotate(attended.transpose(1, 2), own.conj().resolve_conj()).unflatten(0, (batch, frames))

    return torch.compile(layer) if compiled else layer


def trained(given: Inputs, layer: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The layer's forward and backward pass as one call."""
    leaves = given.arguments[:7]
    for leaf in leaves:
        leaf.requires_grad_()
    slope = torch.randn_like(given.query)

    def both() -> Tensor:
        result = layer()
        torch.autograd.grad(result, leaves, slope)
        return result.detach()

    return both
