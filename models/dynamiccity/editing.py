"""Editing: a region of space and time is imagined anew, everything outside of it stays as it was, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import reduce
from torch import Tensor

from models.diffusion_sampling import Known
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.hexplane import PLANES, HexPlane
from models.dynamiccity.padded_rollout import roll_out
from models.dynamiccity.world_model import DynamicCityWorldModel
from scenes.grid import Grid, check_occupancy


@dataclass(frozen=True)
class Box:
    """A region: from (included) and to (excluded), None for an open end.

    Attributes:
        frames: numbers of frames.
        x, y, z: metres in the ego frame, forward, left and up; a voxel is inside if its centre is.
    """

    frames: tuple[float | None, float | None] = (None, None)
    x: tuple[float | None, float | None] = (None, None)
    y: tuple[float | None, float | None] = (None, None)
    z: tuple[float | None, float | None] = (None, None)

    def cells(self, grid: Grid, frames: int) -> Tensor:
        """Which cells of a clip are inside, bool (T, X, Y, Z); ValueError if none is."""
        numbers = torch.arange(frames, dtype=torch.float64)
        t, x, y, z = (
            _between(centres, ends)
            for centres, ends in (
                (numbers, self.frames),
                (grid.x_centres, self.x),
                (grid.y_centres, self.y),
                (grid.z_centres, self.z),
            )
        )
        inside = t[:, None, None, None] & x[:, None, None] & y[:, None] & z
        if not bool(inside.any()):
            raise ValueError(f"{self}: holds no cell of {frames} frames on a grid of {grid.shape}")
        return inside


def _between(centres: Tensor, ends: tuple[float | None, float | None]) -> Tensor:
    low, high = (-torch.inf if ends[0] is None else ends[0]), (torch.inf if ends[1] is None else ends[1])
    return (centres >= low) & (centres < high)


def touched(region: Tensor) -> Tensor:
    """Cells of the map that a region bool (B, T, X, Y, Z) has a part in, bool (B, 1, H, W).

    A plane's cell stands for a line or a column of the clip, and is touched if any of that is in the region.
    """
    cells = reduce(region, "b (t i) (x j) (y k) (z l) -> b t x y z", "max", i=2, j=2, k=2, l=2).float()
    shadows = [cells.amax([1 + "txyz".index(axis) for axis in "txyz" if axis not in name]) for name in PLANES]
    return roll_out(HexPlane(*(shadow.unsqueeze(1) for shadow in shadows))) > 0


@torch.no_grad()
def edit(
    model: DynamicCityWorldModel,
    occupancy: Tensor,
    region: Tensor,
    seeds: Tensor,
    conditions: Conditions | None = None,
    *,
    steps: Tensor | None = None,
) -> Tensor:
    """A window uint8 (B, T, X, Y, Z) with its region, bool of that shape, imagined anew; outside of it no cell changes.

    Planes are replaced where the region does not touch them, so what is imagined fits its surroundings; cells outside of the
    region that share a touched line are put back after decoding. seeds, steps: int64 (B,). conditions: of the whole window, see
    `DynamicCityWorldModel.tell` for those that follow from its motion. `resamplings` above 1 in the model's sampler make the
    region fit better, at that cost.
    """
    check_occupancy(occupancy, model.grid)
    if occupancy.shape[1] != model.window or region.shape != occupancy.shape or region.dtype != torch.bool:
        expected = f"occupancy and a bool region (B, {model.window}, X, Y, Z)"
        given = f"{tuple(occupancy.shape)} and {region.dtype} {tuple(region.shape)}"
        raise ValueError(f"edit: expected {expected}, found {given}")
    known = Known(model.encode(occupancy), ~touched(region.to(torch.uint8)))
    decoded = model.decode(model.sample(conditions or Conditions(), seeds.to(occupancy.device), steps, known))
    return torch.where(region, decoded, occupancy)
