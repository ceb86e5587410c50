"""Rectified flow with a few-step (shortcut) objective, in terms of the clean sample.

A noisy sample at level t is x_t = (1 - t) * noise + t * x, with t = 0 pure noise and t = 1 clean. The network predicts x from
x_t, t and the step size d it is about to take; the velocity that follows is (prediction - x_t) / (1 - t). At d = 0 it
learns the flow itself; at d = 1/4, 1/2 and 1 it learns that one step of d equals two steps of d / 2 (shortcut models,
arXiv 2410.12557, in the clean-sample form of arXiv 2509.24527).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kernels import Draw, philox_normal

Toward = tuple[Tensor, float]

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t (M, N, C), level t (M,), step size d (M,)) -> predicted clean sample (M, N, C)."""

PredictOnTheWay = Callable[[Tensor | Draw, Toward | None, Tensor, Tensor], Tensor]
"""The same for x_t = x + s * (p - x), from x (M, N, C) or the noise of a draw, and (p, s) or None for x itself."""

SMALLEST_STEP = 0.25
_LAST = 1e-3  # velocities are taken at levels of 1 - _LAST at most


def velocity(prediction: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """Velocity towards the predicted clean sample: (M, N, C) from the same shape and levels (M,)."""
    return (prediction - noisy) / (1 - level).clamp(min=_LAST)[:, None, None]


def sample(predict: PredictOnTheWay, draw: Draw, steps: int) -> Tensor:
    """Clean sample (M, N, C) from the noise of a draw in `steps` equal steps, one call of the network each.

    A step ends at x + s * (prediction - x), with s = 1 / (steps left). The network's first layer takes it so, and draws the
    noise itself, so that up to two steps need neither as a tensor.
    """
    size = torch.full((len(draw.seeds),), 1.0 / steps, device=draw.seeds.device)
    noisy: Tensor | Draw = draw
    toward: Toward | None = None
    for step in range(steps):
        prediction = predict(noisy, toward, size * step, size)
        if toward is not None:
            x = philox_normal(*draw, tuple(prediction.shape[1:])) if isinstance(noisy, Draw) else noisy
            noisy = x + toward[1] * (toward[0] - x)
        toward = prediction, 1.0 / (steps - step)
    return prediction


def draw_levels(count: int, shortcuts: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Levels t and step sizes d, float32 (count,) each: the first `shortcuts` learn large steps, the others (d = 0) the flow.

    A shortcut of size d starts at a multiple of d. The flow's levels are uniform, but a quarter of them are exactly 0, where
    the first of few steps begins.
    """
    size = torch.zeros(count)
    power = torch.randint(0, 3, (shortcuts,), generator=generator)
    size[:shortcuts] = 0.5**power
    level = torch.rand(count, generator=generator)
    level[shortcuts:] *= torch.rand(count - shortcuts, generator=generator) > 0.25
    start = (level[:shortcuts] / size[:shortcuts]).floor() * size[:shortcuts]
    level[:shortcuts] = start
    return level, size


def shortcut_target(teacher: Predict, noisy: Tensor, level: Tensor, size: Tensor) -> Tensor:
    """Clean sample (M, N, C) that a step of `size` should point at: where two steps of half the size lead.

    A half of the smallest step is taken as a step of the flow itself (size 0).
    """
    half = size / 2
    told = torch.where(half < SMALLEST_STEP, torch.zeros_like(half), half)
    first = velocity(teacher(noisy, level, told), noisy, level)
    middle = noisy + first * half[:, None, None]
    second = velocity(teacher(middle, level + half, told), middle, level + half)
    return noisy + (first + second) / 2 * (1 - level)[:, None, None]
