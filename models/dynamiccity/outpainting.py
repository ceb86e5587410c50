"""Outpainting: scenes larger than the grid that the model was trained on, window beside overlapping window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from models.dynamiccity.conditions import Conditions
from models.dynamiccity.editing import edit
from models.dynamiccity.world_model import DynamicCityWorldModel
from scenes.grid import Grid
from scenes.motion import compose, inverse


def larger_grid(grid: Grid, columns: tuple[int, int]) -> Grid:
    """A grid of as many columns (X, Y) about the same middle. Raises ValueError where it is smaller, or its middle falls
    between the columns of the other."""
    more = [wide - own for wide, own in zip(columns, grid.shape, strict=False)]
    if any(extra < 0 or extra % 2 for extra in more):
        raise ValueError(f"outpaint: expected at least {grid.shape[:2]} columns, an even number more, found {columns}")
    x, y, z = grid.origin
    corner = (x - more[0] / 2 * grid.voxel, y - more[1] / 2 * grid.voxel, z)
    return replace(grid, shape=(*columns, grid.shape[2]), origin=corner)


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """First cells of windows that cover a length, each over `overlap` cells of the one before, or more for the last one."""
    starts = list(range(0, max(length - window, 0), window - overlap))
    return [*starts, length - window]


@torch.no_grad()
def outpaint(
    model: DynamicCityWorldModel,
    columns: tuple[int, int],
    motion: Tensor,
    seeds: Tensor,
    conditions: Conditions | None = None,
    *,
    overlap: float = 0.5,
) -> Tensor:
    """A clip of `columns` (X', Y') columns about the ego, uint8 (B, window, X', Y', Z), of motion (B, window, 3).

    Windows are imagined one after another, and what an earlier one shows is never changed: a window is an edit of its part that
    is still empty. conditions: commands, and layouts bool (B, window, X', Y') of the whole. overlap: share of its columns that
    a window has in common with the one before, 0 to below 1. Each window is told the motion of its own middle.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"outpaint: expected an overlap from 0 to below 1, found {overlap}")
    grid, conditions = larger_grid(model.grid, columns), conditions or Conditions()
    canvas = torch.full((len(motion), model.window, *grid.shape), grid.free, dtype=torch.uint8, device=motion.device)
    empty = torch.ones(canvas.shape, dtype=torch.bool, device=motion.device)
    for number, (rows, across) in enumerate(_windows(model.grid, columns, overlap)):
        part = (slice(None), slice(None), rows, across)
        first = (rows.start, across.start)
        beside = [low + cell * grid.voxel - own for low, cell, own in zip(grid.origin, first, model.grid.origin, strict=False)]
        middle = motion.new_tensor([*beside, 0.0])
        told = model.tell(_cut(conditions, part), motion_at(motion, middle))
        steps = torch.full_like(seeds, number)
        canvas[part] = edit(model, canvas[part], empty[part], seeds, told, steps=steps)
        empty[part] = False
    return canvas


def motion_at(motion: Tensor, place: Tensor) -> Tensor:
    """Motion (B, T, 3) of a frame that is fixed to the ego at a pose `place` (3,) in its frame."""
    place = place.to(motion).expand_as(motion)
    return compose(inverse(place), compose(motion, place))


def _windows(grid: Grid, columns: tuple[int, int], overlap: float) -> Iterator[tuple[slice, slice]]:
    """Columns of the windows, row by row."""
    height, width = grid.shape[:2]
    common = [min(round(overlap * window), window - 1) for window in (height, width)]
    for row in window_starts(columns[0], height, common[0]):
        for column in window_starts(columns[1], width, common[1]):
            yield slice(row, row + height), slice(column, column + width)


def _cut(conditions: Conditions, part: tuple[slice, ...]) -> Conditions:
    """The part of layouts that a window sees."""
    layouts = {name: value[part] for name in ("drivable", "vehicles") if (value := getattr(conditions, name)) is not None}
    return replace(conditions, **layouts)
