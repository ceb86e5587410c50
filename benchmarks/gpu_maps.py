"""Rows of what the step does with maps: connected components of agents, and columns looked up under a pose."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import unfused
from gpu_job import Job
from gpu_rows import Case, Work, compiled, lines, run_cases
from kernel_costs import COSTS
from torch import Tensor

from kernels import connected_components, gather_columns
from kernels.columns import gather_columns_torch
from kernels.components import connected_components_torch
from models.warp import UNKNOWN, lattice
from models.world_map import map_size
from scenes.grid import AGENTS, MINI, OCC3D, Grid

__all__ = ["cases", "lines", "run"]

GRIDS = {"base": OCC3D, "mini": MINI}
WORLDS, FRAMES = 64, 2
_BLOCK, _BUSY = 8, 0.15  # cells along a side of what agents are made of, and how many of such places hold one


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """Both kernels on the grids of both presets; columns from the map of a rollout, and flat ones from another frame."""
    worlds = 2 if job.quick else WORLDS
    for name, grid in GRIDS.items():
        what = f"{name}, {WORLDS} worlds"
        shape = (worlds, *((24, 24) if job.quick else grid.shape[:2]))
        yield Case("connected_components", what, shape, torch.int64, partial(_components, job, shape))
        side, height = map_size(grid), grid.shape[2]
        for kind, raster, frames in (
            ("map", (worlds, side, side, height), FRAMES),
            ("from above", (worlds, *grid.shape[:2], 1), 1),
        ):
            make = partial(_columns, job, grid, raster, frames)
            yield Case("gather_columns", f"{what}, {kind}", raster, torch.uint8, make)


def agents(job: Job, shape: tuple[int, ...]) -> Tensor:
    """Class of the agent in each cell, int64 (N, X, Y), -1 where none: squares of one class, some of which touch."""
    worlds, rows, columns = shape
    coarse = torch.rand(worlds, rows // _BLOCK, columns // _BLOCK, device=job.device) < _BUSY
    known = torch.tensor(AGENTS, device=job.device)
    drawn = known[torch.randint(len(known), coarse.shape, device=job.device)]
    classes = torch.where(coarse, drawn, -1)
    return classes.repeat_interleave(_BLOCK, 1).repeat_interleave(_BLOCK, 2)


def _components(job: Job, shape: tuple[int, ...]) -> Work:
    classes = agents(job, shape)

    def error() -> float:
        """Share of labels that are not those of the definition on a CPU."""
        return float((connected_components(classes).cpu() != connected_components_torch(classes.cpu())).float().mean())

    cost = COSTS["connected_components"](classes)
    rivals = {
        "pooling until settled": partial(unfused.connected_components, classes),
        "definition": partial(connected_components_torch, classes),
    }
    return Work(partial(connected_components, classes), rivals, cost.bytes, cost.flops, cost.rate, error)


def _columns(job: Job, grid: Grid, raster: tuple[int, ...], frames: int) -> Work:
    columns = torch.randint(0, grid.num_classes, raster, device=job.device, dtype=torch.uint8)
    poses = torch.randn(raster[0], frames, 3, device=job.device, dtype=torch.float64)
    margin = ((raster[1] - grid.shape[0]) // 2, (raster[2] - grid.shape[1]) // 2)
    given = (columns, poses, lattice(grid, margin), UNKNOWN)

    def error() -> float:
        """Share of cells that are not those of the definition on a CPU, whose sines may differ in the last bit."""
        exact = gather_columns_torch(columns.cpu(), poses.cpu(), *given[2:])
        return float((gather_columns(*given).cpu() != exact).float().mean())

    cost = COSTS["gather_columns"](*given)
    rivals = {"definition": partial(gather_columns_torch, *given)}
    work = Work(partial(gather_columns, *given), rivals, cost.bytes, cost.flops, cost.rate, error)
    work.compiled["compiled definition"] = lambda: partial(compiled(gather_columns_torch), *given)
    return work
