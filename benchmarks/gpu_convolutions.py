"""Rows of the two halves of a ConvNeXt block, on the maps of the presets, against layers of torch with channels last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import unfused
from gpu_job import Job
from gpu_rows import Case, Work, compiled, lines, run_cases
from kernel_costs import COSTS
from torch import Tensor

from kernels import depthwise_norm, feed_forward

__all__ = ["cases", "lines", "run"]

MAPS = ((100, 96, "base"), (50, 160, "base"), (25, 256, "base"), (48, 96, "mini"), (24, 160, "mini"), (12, 256, "mini"))
WORLDS = (64, 1)
_TAPS, _SAMPLE = 5, 4096  # places whose feed-forward is taken in float64
KERNELS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "depthwise_norm": (depthwise_norm, unfused.depthwise_norm),
    "feed_forward": (feed_forward, unfused.feed_forward),
}


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """Both kernels on every map, of many worlds and of one."""
    for dtype in (torch.bfloat16, torch.float32):
        for worlds in WORLDS:
            for side, channels, preset in MAPS:
                shape = (1, 7, 7, channels) if job.quick else (worlds, side, side, channels)
                what = f"{preset}, {worlds} worlds" if worlds > 1 else f"{preset}, one world"
                for kernel in KERNELS:
                    yield Case(kernel, what, shape, dtype, partial(_work, job, kernel, shape, dtype))


def _given(job: Job, kernel: str, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Random arguments of a kernel, weights as large as they begin."""
    channels = shape[-1]

    def normal(*size: int, fan: int = 1) -> Tensor:
        return (torch.randn(size, device=job.device) / math.sqrt(fan)).to(dtype)

    x = normal(*shape)
    if kernel == "depthwise_norm":
        return x, (normal(channels, 1, _TAPS, _TAPS, fan=_TAPS**2), normal(channels)), (normal(channels), normal(channels))
    widen = normal(2 * channels, channels, fan=channels), normal(2 * channels)
    return x, normal(*shape), widen, (normal(channels, 2 * channels, fan=2 * channels), normal(channels))


def _wide(kernel: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments for one world, or some of its places, in float64."""
    few = [part[:1] for part in given[:1]] if kernel == "depthwise_norm" else [p.flatten(0, 2)[:_SAMPLE] for p in given[:2]]
    return (*(part.double() for part in few), *(tuple(p.double() for p in pair) for pair in given[len(few) :]))


def _work(job: Job, kernel: str, shape: tuple[int, ...], dtype: torch.dtype) -> Work:
    (kernel_of, torch_of), given = KERNELS[kernel], _given(job, kernel, shape, dtype)

    def error() -> float:
        """Of some of the result, relative."""
        exact = torch_of(*_wide(kernel, given)).flatten()
        found = kernel_of(*given).flatten()[: len(exact)].double()
        return float((found - exact).norm() / exact.norm())

    cost = COSTS[kernel](*given)
    work = Work(partial(kernel_of, *given), {"eager": partial(torch_of, *given)}, cost.bytes, cost.flops, cost.rate, error)
    work.compiled["compiled"] = lambda: partial(compiled(torch_of), *given)
    return work
