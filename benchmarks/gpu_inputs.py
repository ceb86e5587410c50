"""Rows of what networks read: class ids embedded and put through a layer, and the channels of the transformer's tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import unfused
from gpu_job import Job
from gpu_rows import Case, Work, compiled, lines, run_cases
from kernel_costs import COSTS
from torch import Tensor

from kernels import Draw, Told, class_embedding, token_inputs
from kernels.token_inputs import token_inputs_torch

__all__ = ["cases", "lines", "run"]

WORLDS, CLASSES = 64, 19
PLACES = {"base": (100**2, 128), "mini": (48**2, 64)}  # places a world, voxels a place
FLOW_VOXELS = 20
TOKENS = {"base": 625, "mini": 144}
LATENT, KNOWN, ROUTE = 64, 4, 128
_SAMPLE = 256  # places whose layer is taken in float64


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """The layers of encoder, blend and flow, and the tokens of a denoising step."""
    for dtype in (torch.bfloat16, torch.float32):
        for preset, (places, voxels) in PLACES.items():
            for layer, ids, dim, outputs in (
                ("encoder", voxels, 8, 96),
                ("blend", voxels, 4, 96),
                ("flow", FLOW_VOXELS, 6, 64),
            ):
                shape = (40 if job.quick else WORLDS * places, ids, dim, outputs)
                make = partial(_embedding, job, shape, dtype)
                yield Case("class_embedding", f"{layer}, {preset}, {WORLDS} worlds", shape, dtype, make)
        for preset, count in TOKENS.items():
            size = (2, 10) if job.quick else (WORLDS, count)
            yield Case("token_inputs", f"{preset}, {WORLDS} worlds", size, dtype, partial(_tokens, job, size, dtype))


def _embedding(job: Job, shape: tuple[int, ...], dtype: torch.dtype) -> Work:
    places, voxels, dim, outputs = shape

    def normal(*size: int, fan: int = 1) -> Tensor:
        return (torch.randn(size, device=job.device) / math.sqrt(fan)).to(dtype)

    ids = torch.randint(0, CLASSES, (places, voxels), device=job.device, dtype=torch.uint8)
    layer = (normal(CLASSES, dim), normal(outputs, voxels * dim, fan=voxels * dim), normal(outputs))
    table, weight, bias = (part.float() for part in layer)
    added = torch.einsum("ce,ove->vco", table, weight.unflatten(1, (voxels, dim)))
    added[0] += bias
    bag = partial(unfused.class_sums, ids, added.flatten(0, 1).to(dtype))

    def error() -> float:
        """At some of the places, relative."""
        exact = unfused.class_embedding(ids[:_SAMPLE], *(part.double() for part in layer))
        found = class_embedding(ids, *layer)[:_SAMPLE].double()
        return float((found - exact).norm() / exact.norm())

    cost = COSTS["class_embedding"](ids, *layer)
    rivals = {"embedded voxels": partial(unfused.class_embedding, ids, *layer), "embedding bag": bag}
    work = Work(partial(class_embedding, ids, *layer), rivals, cost.bytes, cost.flops, cost.rate, error)
    work.compiled["compiled"] = lambda: partial(compiled(unfused.class_embedding), ids, *layer)
    return work


def _tokens(job: Job, size: tuple[int, int], dtype: torch.dtype) -> Work:
    worlds, count = size
    seeds, ones = torch.arange(worlds, device=job.device), torch.ones(worlds, device=job.device)
    warped, known = (torch.rand(worlds, count, width, device=job.device) for width in (LATENT, KNOWN))
    route = torch.randint(0, 2, (worlds, count, ROUTE), device=job.device, dtype=torch.uint8)
    draw, told = Draw(seeds, seeds, 0), Told(warped, known, route, ones, ones)
    given = (draw, told, dtype)

    def error() -> float:
        """The largest difference from what a CPU gives, over the largest number."""
        exact = token_inputs_torch(Draw(seeds.cpu(), seeds.cpu(), 0), Told(*(part.cpu() for part in told)), dtype).double()
        return float((token_inputs(*given).cpu().double() - exact).abs().max() / exact.abs().max())

    cost = COSTS["token_inputs"](*given)
    rivals = {"noise, then side by side": partial(unfused.token_inputs, *given)}
    work = Work(partial(token_inputs, *given), rivals, cost.bytes, cost.flops, cost.rate, error)

    def joined() -> Any:
        """With noise that is there already, which a compiled rival is spared to draw."""
        noise = torch.randn_like(warped)
        return partial(compiled(unfused.side_by_side), noise, told, dtype)

    work.compiled["side by side compiled, noise given"] = joined
    return work
