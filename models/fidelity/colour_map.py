"""Occupancy as a colour map seen from above, the image that 2D features are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.grid import Grid


def top_classes(occupancy: Tensor, grid: Grid) -> Tensor:
    """Class of the highest occupied voxel of each column, free where there is none: uint8 (...) from occupancy (..., Z)."""
    level = torch.arange(1, occupancy.shape[-1] + 1, dtype=torch.uint8, device=occupancy.device)
    top = ((occupancy != grid.free) * level).amax(-1, keepdim=True)
    return occupancy.gather(-1, (top.long() - 1).clamp(min=0)).squeeze(-1)


def colour_map(occupancy: Tensor, grid: Grid) -> Tensor:
    """RGB image of each frame from above, float32 (N, 3, X, Y), -1 to 1, from occupancy uint8 (N, X, Y, Z)."""
    colours = torch.tensor(grid.colours, dtype=torch.float32, device=occupancy.device) / 127.5 - 1
    return colours[top_classes(occupancy, grid).long()].movedim(-1, 1)
