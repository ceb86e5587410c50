"""What of the voxels matters to a car that drives over them: the ground under it and the obstacles in its way, as rasters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from scenes.grid import AGENTS, DRIVABLE, FLAT, FREE, STATIC_OBSTACLES, Grid

LOWEST, HIGHEST = 0.3, 2.0  # metres above ground between which an obstacle hits the car
NO_CLASS = -1

# Kinds of obstacles. An agent is matched with agents of its own kind, since generated cars and trucks change places.
STATIC, VEHICLE, PEDESTRIAN, CYCLE = 1, 2, 3, 4
_KIND = dict.fromkeys(("bus", "car", "construction_vehicle", "trailer", "truck"), VEHICLE)
_KIND |= {"pedestrian": PEDESTRIAN, "bicycle": CYCLE, "motorcycle": CYCLE}
TOP_SPEED = {VEHICLE: 20.0, PEDESTRIAN: 3.0, CYCLE: 12.0}  # m/s, for how far an agent can have gone


@dataclass(frozen=True)
class Surface:
    """What is at each voxel column, rasters of equal leading shape (..., X, Y), uint8.

    Attributes:
        ground: class id of the surface, free where unknown.
        obstacle: class id of what stands between LOWEST and HIGHEST above ground, free where nothing does.
    """

    ground: Tensor
    obstacle: Tensor


def obstacle_layers(grid: Grid) -> list[int]:
    """Voxel layers whose centre lies between LOWEST and HIGHEST above ground."""
    return [index for index, z in enumerate(grid.z_centres.tolist()) if LOWEST <= z < HIGHEST - 1e-6]


def look_down(voxels: Tensor, grid: Grid) -> Surface:
    """Surface (..., X, Y) of occupancy uint8 (..., X, Y, Z); of two obstacles in a column the lower one is named."""
    flat_or_free = class_table(grid, (*FLAT, FREE), voxels.device)
    obstacle = torch.full_like(voxels[..., 0], FREE)
    for layer in reversed(obstacle_layers(grid)):
        here = voxels[..., layer]
        obstacle = torch.where(flat_or_free[here.long()], obstacle, here)
    below = voxels[..., grid.ground_index]
    flat = class_table(grid, FLAT, voxels.device)[below.long()]
    return Surface(ground=below.masked_fill(~flat, FREE), obstacle=obstacle)


@lru_cache(maxsize=16)
def class_table(grid: Grid, ids: tuple[int, ...], device: torch.device) -> Tensor:
    """Look-up table bool (num_classes,): true for the class ids given; kept, so nobody may write to it."""
    table = torch.zeros(grid.num_classes, dtype=torch.bool)
    table[list(ids)] = True
    return table.to(device)


def kind_table(grid: Grid) -> Tensor:
    """Look-up table int64 (num_classes,) from class id to kind of obstacle; 0 for what is none."""
    table = torch.zeros(grid.num_classes, dtype=torch.int64)
    table[list(STATIC_OBSTACLES)] = STATIC
    for index in AGENTS:
        table[index] = _KIND[grid.classes[index]]
    return table


@dataclass(frozen=True)
class Reach:
    """The part of a grid that the car can touch within one step, and look-up tables, on one device.

    Attributes:
        grid: the grid.
        distance: metres from the ego to each side.
        device: where the tables live.
    """

    grid: Grid
    distance: float
    device: torch.device

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns of the grid within reach."""
        axes = (self.grid.x_centres, self.grid.y_centres)
        near = [(axis.abs() <= self.distance).nonzero().flatten().tolist() or [0] for axis in axes]
        return slice(near[0][0], near[0][-1] + 1), slice(near[1][0], near[1][-1] + 1)

    @cached_property
    def centres(self) -> Tensor:
        """Centres of the columns within reach, (N, 2) metres in the ego frame, float32."""
        return self.grid.column_centres()[self.box].reshape(-1, 2).to(self.device, torch.float32)

    @cached_property
    def kinds(self) -> Tensor:
        """See `kind_table`."""
        return kind_table(self.grid).to(self.device)

    @cached_property
    def flat(self) -> Tensor:
        """Look-up table int64 (num_classes,): 1 drivable, -1 other flat ground, 0 anything else."""
        table = torch.zeros(self.grid.num_classes, dtype=torch.int64)
        table[list(FLAT)] = -1
        table[DRIVABLE] = 1
        return table.to(self.device)

    def crop(self, raster: Tensor) -> Tensor:
        """The columns within reach of raster (..., X, Y): (..., N)."""
        return raster[(..., *self.box)].flatten(-2)
