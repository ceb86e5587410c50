"""Depthwise 5x5 convolution and layer normalisation of maps with channels last: how a ConvNeXt block begins."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CHANNELS = 512
TAPS = 5  # along each side of the convolution
EPSILON = 1e-5


def depthwise_norm(
    x: Tensor, kernel: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    """Layer norm over channels of each channel's own 5x5 convolution: (B, H, W, C), differentiable once.

    x: (B, H, W, C), C <= 512, zero outside of the map. kernel: weight (C, 1, 5, 5), a correlation as in torch, and bias (C,).
    norm: weight (C,) and bias (C,). All float32 or bfloat16 on one device, the arithmetic is float32 whatever autocast says.
    dtype: type of the result, by default that of x. Raises ValueError where the shapes, types or devices do not fit.
    """
    _check(x, kernel, norm)
    if on_triton(x):
        from kernels.depthwise_norm_triton import DepthwiseNorm

        return DepthwiseNorm.apply(x, *kernel, *norm, dtype or x.dtype)
    return depthwise_norm_torch(x, kernel, norm, dtype)


def depthwise_norm_torch(
    x: Tensor, kernel: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    """The definition of `depthwise_norm` in plain torch."""
    channels = x.shape[-1]
    weight, bias, scale, shift = (part.float() for part in (*kernel, *norm))
    with torch.autocast(x.device.type, enabled=False):
        y = torch.nn.functional.conv2d(x.float().permute(0, 3, 1, 2), weight, bias, padding=TAPS // 2, groups=channels)
        y = torch.nn.functional.layer_norm(y.permute(0, 2, 3, 1), (channels,), scale, shift, eps=EPSILON)
    return y.to(dtype or x.dtype)


def _check(x: Tensor, kernel: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor]) -> None:
    """Raise ValueError where the arguments of `depthwise_norm` do not fit."""
    if x.ndim != 4 or not 1 <= x.shape[3] <= MAX_CHANNELS:
        expected = f"x (B, H, W, C) with 1 to {MAX_CHANNELS} channels"
        raise ValueError(f"depthwise_norm: expected {expected}, found {tuple(x.shape)}")
    channels = x.shape[3]
    names = ("kernel", "kernel's bias", "norm", "norm's bias")
    shapes = ((channels, 1, TAPS, TAPS), *[(channels,)] * 3)
    for name, part, shape in zip(names, (*kernel, *norm), shapes, strict=True):
        if part.shape != shape:
            raise ValueError(f"depthwise_norm: {name} must be {shape} beside x {tuple(x.shape)}, found {tuple(part.shape)}")
    for name, part in zip(("x", *names), (x, *kernel, *norm), strict=True):
        if part.dtype not in (torch.float32, torch.bfloat16) or part.device != x.device:
            expected = f"float32 or bfloat16 on {x.device}"
            raise ValueError(f"depthwise_norm: {name} must be {expected}, found {part.dtype} on {part.device}")
