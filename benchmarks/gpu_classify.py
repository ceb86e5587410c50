"""Rows of the classes of voxels: a decoder's last layers and the argmax, fused, against two linear layers and argmax."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import unfused
from gpu_job import Job
from gpu_rows import Case, Work, compiled, lines, run_cases
from torch import Tensor

from kernels import classify_voxels

__all__ = ["cases", "lines", "run"]

# worlds, places a world, voxels a place
PLACES = (
    (64, 10_000, 128, "base, 64 worlds"),
    (64, 2304, 64, "mini, 64 worlds"),
    (1, 10_000, 128, "base, one world"),
    (1, 2304, 64, "mini, one world"),
)
CHANNELS, CLASS_DIM, CLASSES = 96, 8, 18
_SAMPLE = 64  # places whose logits are taken in float64


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """With and without carried ids."""
    for dtype in (torch.bfloat16, torch.float32):
        for worlds, count, voxels, what in PLACES:
            shape = (40, voxels) if job.quick else (worlds * count, voxels)
            for carried in (True, False):
                name = "classify_voxels" + (", carried" if carried else "")
                yield Case(name, what, shape, dtype, partial(_classify, job, shape, carried, dtype))


def _classify(job: Job, shape: tuple[int, int], carried: bool, dtype: torch.dtype) -> Work:
    count, voxels = shape

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=job.device).to(dtype)

    rows = voxels * CLASS_DIM
    layers = (normal(rows, CHANNELS) / 10, normal(rows)), (normal(CLASSES, CLASS_DIM), normal(CLASSES))
    held = torch.randint(0, CLASSES + 1, shape, device=job.device, dtype=torch.uint8)
    given = (normal(count, CHANNELS), *layers, *((normal(*shape), held) if carried else (None, None)))

    def error() -> float:
        """How far the float64 logit of the chosen class lies below the highest at the worst, over the logits' deviation."""
        part = [None if item is None else item[:_SAMPLE] for item in (given[0], *given[3:])]
        places, trust, ids = (item.double() if item is not None and item.is_floating_point() else item for item in part)
        weights, classes = (tuple(item.double() for item in layer) for layer in layers)
        logits = unfused.logits_of(places, weights, classes, trust, ids)
        chosen = classify_voxels(*given)[:_SAMPLE].long().unsqueeze(-1)
        return float((logits.amax(-1) - logits.gather(-1, chosen).squeeze(-1)).max() / logits.std())

    rivals = {"eager": partial(unfused.classify_voxels, *given)}
    moved = count * CHANNELS * dtype.itemsize + count * voxels * (1 + (1 + dtype.itemsize if carried else 0))
    flops = 2 * count * voxels * CLASS_DIM * CHANNELS
    rate = "tf32/3" if dtype == torch.float32 else "bfloat16"
    work = Work(partial(classify_voxels, *given), rivals, moved, flops, rate, error)
    work.compiled["compiled"] = lambda: partial(compiled(unfused.classify_voxels), *given)
    return work
