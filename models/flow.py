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

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t (M, N, C), level t (M,), step size d (M,)) -> predicted clean sample (M, N, C)."""

SMALLEST_STEP = 0.25
_LAST = 1e-3  # velocities are taken at levels of 1 - _LAST at most


def velocity(prediction: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """Velocity towards the predicted clean sample: (M, N, C) from the same shape and levels (M,)."""
    return (prediction - noisy) / (1 - level).clamp(min=_LAST)[:, None, None]


def sample(predict: Predict, noise: Tensor, steps: int) -> Tensor:
    """Clean sample (M, N, C) from noise of that shape in `steps` equal steps, one call of the network each."""
    x = noise
    size = noise.new_full((len(noise),), 1.0 / steps)
    for step in range(steps):
        level = size * step
        prediction = predict(x, level, size)
        x = prediction if step == steps - 1 else x + velocity(prediction, x, level) / steps
    return x


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
