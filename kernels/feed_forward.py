"""The second half of a ConvNeXt block: widen the channels, GELU, narrow them again, add what the block began with."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton
from kernels.gelu import gelu

MAX_CHANNELS = 256


def feed_forward(x: Tensor, y: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> Tensor:
    """x + narrow(gelu(widen(y))), GELU in its tanh form: (..., C) in the type of x, differentiable once.

    x, y: (..., C), C <= 256. widen: weight (H, C) and bias (H,). narrow: weight (C, H) and bias (C,). All float32 or bfloat16
    on one device. Factors of the two products are of the type of y, whatever autocast says. On a GPU sums, GELU and the
    addition are float32, and the H hidden channels never reach memory. Raises ValueError where the shapes, types or devices do
    not fit.
    """
    _check(x, y, widen, narrow)
    if on_triton(x):
        from kernels.feed_forward_triton import FeedForward

        return FeedForward.apply(x, y, *widen, *narrow)
    return feed_forward_torch(x, y, widen, narrow)


def feed_forward_torch(x: Tensor, y: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> Tensor:
    """The definition of `feed_forward` in plain torch."""
    return (x + branch_torch(y, *widen, *narrow)).to(x.dtype)


def branch_torch(y: Tensor, weight: Tensor, bias: Tensor, back: Tensor, back_bias: Tensor) -> Tensor:
    """What `feed_forward` adds to x, in the type of y; weight (H, C) and bias (H,), back (C, H) and back_bias (C,)."""
    linear = torch.nn.functional.linear
    with torch.autocast(y.device.type, enabled=False):
        hidden = gelu(linear(y, weight.to(y.dtype), bias.to(y.dtype)))
        return linear(hidden, back.to(y.dtype), back_bias.to(y.dtype))


def _check(x: Tensor, y: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> None:
    """Raise ValueError where the arguments of `feed_forward` do not fit."""
    if x.ndim == 0 or not 1 <= x.shape[-1] <= MAX_CHANNELS:
        raise ValueError(f"feed_forward: expected x (..., C) with 1 to {MAX_CHANNELS} channels, found {tuple(x.shape)}")
    if y.shape != x.shape:
        raise ValueError(f"feed_forward: y must be {tuple(x.shape)} as x is, found {tuple(y.shape)}")
    channels, hidden = x.shape[-1], len(widen[1])
    found = [tuple(part.shape) for part in (*widen, *narrow)]
    if found != [(hidden, channels), (hidden,), (channels, hidden), (channels,)]:
        raise ValueError(f"feed_forward: widen (H, C) (H,) and narrow (C, H) (C,) must fit x {tuple(x.shape)}, found {found}")
    names = ("x", "y", "widen", "widen's bias", "narrow", "narrow's bias")
    for name, part in zip(names, (x, y, *widen, *narrow), strict=True):
        if part.dtype not in (torch.float32, torch.bfloat16) or part.device != x.device:
            expected = f"float32 or bfloat16 on {x.device}"
            raise ValueError(f"feed_forward: {name} must be {expected}, found {part.dtype} on {part.device}")
