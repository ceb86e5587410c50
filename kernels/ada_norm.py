"""Layer normalisation modulated by a condition, and the gated residual before it: the glue of blocks with adaLN-Zero."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CHANNELS = 4096
EPSILON = 1e-6


def ada_norm(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Layer norm of x without weights of its own, times (1 + scale) plus shift: (M, N, C), differentiable once.

    x: (M, N, C), M sequences of N tokens with C <= 4096 channels. scale, shift: (M, C), one modulation for all tokens of a
    sequence. All float32 or bfloat16 on one device, the arithmetic is float32. dtype: type of the result, by default that of x.
    Raises ValueError where the shapes, types or devices do not fit.
    """
    _check("ada_norm", x, None, scale=scale, shift=shift)
    if on_triton(x):
        from kernels.ada_norm_triton import AdaNorm

        return AdaNorm.apply(x, scale, shift, dtype or x.dtype)
    return ada_norm_torch(x, scale, shift, dtype)


def gated_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + gate * y: (M, N, C) in the type of x, differentiable once.

    x, y: (M, N, C). gate: (M, C). All float32 or bfloat16 on one device, the arithmetic is float32. Raises ValueError where the
    shapes, types or devices do not fit.
    """
    _check("gated_residual", x, y, gate=gate)
    if on_triton(x):
        from kernels.ada_norm_triton import GatedResidual

        return GatedResidual.apply(x, y, gate)
    return gated_residual_torch(x, y, gate)


def gated_residual_norm(
    x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The new residual stream x + gate * y, in the type of x, and `ada_norm` of it, in one pass over memory.

    Arguments as in `gated_residual` and `ada_norm`; C <= 4096. dtype: type of the second result, by default that of x. Raises
    ValueError where the shapes, types or devices do not fit.
    """
    _check("gated_residual_norm", x, y, gate=gate, scale=scale, shift=shift)
    if on_triton(x):
        from kernels.ada_norm_triton import GatedResidualNorm

        return GatedResidualNorm.apply(x, y, gate, scale, shift, dtype or x.dtype)
    return gated_residual_norm_torch(x, y, gate, scale, shift, dtype)


def ada_norm_torch(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The definition of `ada_norm` in plain torch."""
    normalised = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], eps=EPSILON)
    return (normalised * (1 + scale.float().unsqueeze(1)) + shift.float().unsqueeze(1)).to(dtype or x.dtype)


def gated_residual_torch(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """The definition of `gated_residual` in plain torch."""
    return (x.float() + gate.float().unsqueeze(1) * y.float()).to(x.dtype)


def gated_residual_norm_torch(
    x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The definition of `gated_residual_norm` in plain torch: the one after the other."""
    residual = gated_residual_torch(x, y, gate)
    return residual, ada_norm_torch(residual, scale, shift, dtype)


def _check(name: str, x: Tensor, y: Tensor | None, **modulations: Tensor) -> None:
    """Raise ValueError where the arguments of one of the functions here do not fit."""
    if x.ndim != 3 or not 1 <= x.shape[2] <= MAX_CHANNELS:
        raise ValueError(f"{name}: expected x (M, N, C) with 1 to {MAX_CHANNELS} channels, found {tuple(x.shape)}")
    expected: dict[str, tuple[Tensor, tuple[int, ...]]]
    expected = {key: (value, (x.shape[0], x.shape[2])) for key, value in modulations.items()}
    if y is not None:
        expected["y"] = (y, tuple(x.shape))
    for key, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise ValueError(f"{name}: {key} must be {shape} beside x {tuple(x.shape)}, found {tuple(value.shape)}")
    for key, value in {"x": x, **{key: value for key, (value, _) in expected.items()}}.items():
        if value.dtype not in (torch.float32, torch.bfloat16) or value.device != x.device:
            found = f"{value.dtype} on {value.device}"
            raise ValueError(f"{name}: {key} must be float32 or bfloat16 on {x.device}, found {found}")
