"""What the transformer reads of each token, side by side, in the type of its matrix product; noise is drawn on the way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.dispatch import on_triton
from kernels.noise import philox_normal_torch

FLAGS = 2  # a token's last two channels tell whether it has a warped past, and a route


class Draw(NamedTuple):
    """Noise by its counter, as `philox_normal` takes it: seeds and steps int64 (M,), and the number of the draw in the step."""

    seeds: Tensor
    steps: Tensor
    number: int


class Told(NamedTuple):
    """What tokens are told besides the noisy latents.

    Attributes:
        warped: latents of the carried past, float32 or bfloat16 (M, N, C).
        known: share of each part of a token that the past has seen, float32 or bfloat16 (M, N, K).
        route: route raster cut by tokens, uint8 (M, N, R).
        has_warp: float32 (M,), warped and known count where it is above 0, and are zeros elsewhere.
        has_route: float32 (M,), the same for route.
    """

    warped: Tensor
    known: Tensor
    route: Tensor
    has_warp: Tensor
    has_route: Tensor


def token_inputs(
    noisy: Tensor | Draw, told: Told, dtype: torch.dtype = torch.float32, toward: tuple[Tensor, float] | None = None
) -> Tensor:
    """Channels (noisy, warped, known, route, flag of the warp, flag of the route) of each token: (M, N, 2 C + K + R + 2).

    noisy: latents (M, N, C), float32 or bfloat16, or the draw that `philox_normal` would give for shape (N, C). toward: a
    prediction (M, N, C) and a share s, which turn noisy x into x + s * (prediction - x): the next sample of a flow that is
    straight. dtype: float32 or bfloat16, type of the result; the arithmetic is float32. No gradient passes. Raises ValueError
    where the shapes, types or devices do not fit.
    """
    _check(noisy, told, dtype, toward)
    with torch.no_grad():
        if on_triton(told.warped):
            from kernels.token_inputs_triton import token_inputs_triton

            return token_inputs_triton(noisy, told, dtype, toward)
        return token_inputs_torch(noisy, told, dtype, toward)


@torch.no_grad()
def token_inputs_torch(
    noisy: Tensor | Draw, told: Told, dtype: torch.dtype = torch.float32, toward: tuple[Tensor, float] | None = None
) -> Tensor:
    """The definition of `token_inputs` in plain torch."""
    shape = told.warped.shape
    x = philox_normal_torch(*noisy, tuple(shape[1:])) if isinstance(noisy, Draw) else noisy.float()
    if toward is not None:
        x = x + toward[1] * (toward[0].float() - x)
    warp, route = ((flag > 0)[:, None, None].to(dtype) for flag in (told.has_warp, told.has_route))
    past, known, raster = (part.to(dtype) for part in (told.warped, told.known, told.route))
    ends = (flag.expand(-1, shape[1], 1) for flag in (warp, route))
    return torch.cat((x.to(dtype), past * warp, known * warp, raster * route, *ends), dim=-1)


def _check(noisy: Tensor | Draw, told: Told, dtype: torch.dtype, toward: tuple[Tensor, float] | None) -> None:
    """Raise ValueError where the arguments of `token_inputs` do not fit."""
    shape = tuple(told.warped.shape)
    if len(shape) != 3 or dtype not in (torch.float32, torch.bfloat16):
        found = f"warped {shape} and {dtype}"
        raise ValueError(f"token_inputs: expected warped (M, N, C) and dtype float32 or bfloat16, found {found}")
    floats, words = (torch.float32, torch.bfloat16), (torch.int64,)
    expected: dict[str, tuple[Tensor, tuple[int, ...], tuple[torch.dtype, ...]]] = {
        "warped": (told.warped, shape, floats),
        "known": (told.known, (*shape[:2], *told.known.shape[2:3]), floats),
        "route": (told.route, (*shape[:2], *told.route.shape[2:3]), (torch.uint8,)),
        "has_warp": (told.has_warp, shape[:1], floats[:1]),
        "has_route": (told.has_route, shape[:1], floats[:1]),
    }
    if isinstance(noisy, Draw):
        expected |= {"seeds": (noisy.seeds, shape[:1], words), "steps": (noisy.steps, shape[:1], words)}
    else:
        expected["noisy"] = (noisy, shape, floats)
    if toward is not None:
        expected["prediction"] = (toward[0], shape, floats)
    for name, (value, size, types) in expected.items():
        if tuple(value.shape) != size or value.dtype not in types or value.device != told.warped.device:
            kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
            found = f"{value.dtype} {tuple(value.shape)} on {value.device}"
            raise ValueError(f"token_inputs: {name} must be {kinds} {size} on {told.warped.device}, found {found}")
