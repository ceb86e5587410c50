"""Rows of the counter-based normals, against torch.randn and against their definition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from gpu_job import Job
from gpu_rows import Case, Work, lines, run_cases

from kernels import philox_normal
from kernels.noise import philox_normal_torch

__all__ = ["cases", "lines", "run"]

SHAPES = ((64, 144 * 64, "mini, 64 worlds"), (64, 625 * 64, "base, 64 worlds"), (1024, 144 * 64, "1024 worlds"))


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """What worlds draw at a step."""
    for worlds, size, what in SHAPES:
        shape = (min(worlds, 8), min(size, 1024)) if job.quick else (worlds, size)
        yield Case("philox_normal", what, shape, torch.float32, partial(_draw, job, shape))


def _draw(job: Job, shape: tuple[int, int]) -> Work:
    worlds, size = shape
    seeds = torch.arange(worlds) * 0x9E3779B97F4A7C1 % (1 << 62)
    given = (seeds.to(job.device), seeds.to(job.device), 1, (size,))

    def error() -> float:
        """The largest difference from what a CPU draws."""
        return float((philox_normal(*given).cpu() - philox_normal_torch(seeds, seeds, 1, (size,))).abs().max())

    rivals = {
        "randn": partial(torch.randn, worlds, size, device=job.device),
        "definition": partial(philox_normal_torch, *given),
    }
    return Work(partial(philox_normal, *given), rivals, 4 * worlds * size, 0, "float32", error)
