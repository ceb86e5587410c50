"""Conditions read off clips and routes: what the ego does, and what is where, seen from above."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import gather_columns
from models.dynamiccity.conditions import COMMANDS
from models.warp import lattice
from scenes.grid import Grid
from scenes.motion import accumulate, relative

STANDING = 0.5  # m/s; slower than this on average is "static"
TURNING = 0.26  # radians, 15 degrees: from this on over a whole clip it is "left" or "right"
_DRIVABLE = ("driveable_surface", "road")
_VEHICLES = ("bus", "car", "construction_vehicle", "motorcycle", "trailer", "truck", "vehicle")


def command_of(motion: Tensor, dt: float) -> Tensor:
    """Number in COMMANDS, int64 (B,), of what the ego does in motion (B, T, 3) with `dt` seconds between frames."""
    standing = motion[..., :2].norm(dim=-1).mean(-1) < STANDING * dt
    turn = motion[..., 2].sum(-1)
    number = torch.full_like(turn, COMMANDS.index("forward"), dtype=torch.int64)
    number = number.masked_fill(turn > TURNING, COMMANDS.index("left"))
    number = number.masked_fill(turn < -TURNING, COMMANDS.index("right"))
    return number.masked_fill(standing, COMMANDS.index("static"))


def class_ids(grid: Grid, names: tuple[str, ...]) -> list[int]:
    """Ids of those classes of a grid that have one of the names."""
    return [number for number, name in enumerate(grid.classes) if name in names]


def layout_of(occupancy: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Which columns hold a drivable surface, and which a vehicle: bool (..., X, Y) each, of occupancy uint8 (..., X, Y, Z).

    The layout of a clip says nothing of ground under objects: there no surface is seen.
    """
    drivable, vehicles = (
        torch.isin(occupancy, torch.tensor(class_ids(grid, names), dtype=torch.uint8, device=occupancy.device)).any(-1)
        for names in (_DRIVABLE, _VEHICLES)
    )
    return drivable, vehicles


def drivable_of_route(route: Tensor, motion: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The known drivable surface in every frame, bool (B, T, X, Y), and which worlds know of any, bool (B,).

    route: raster uint8 (B, 2, X, Y) in the ego frame of the last of T frames, see `WorldModel.advance`. motion: (B, T, 3).
    """
    poses = accumulate(motion)
    places = relative(poses[:, -1:], poses)
    known = route[:, 1].bool()
    return gather_columns(known.unsqueeze(-1), places, lattice(grid), fill=0).squeeze(-1), known.flatten(1).any(1)
