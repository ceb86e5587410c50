"""What a rollout has shown, kept in world axes: a scrolling map around the ego, so that nothing is resampled twice.

A frame that is carried along from frame to frame loses half a voxel of position at every step, and after some seconds a kerb
has wandered off. The map holds each cell as it was first shown; a new frame looks it up once, by the composed pose, and the
cells in which it then differs are written back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import Lattice, gather_columns
from models.interface import Rollout
from models.warp import UNKNOWN, lattice
from scenes.grid import Grid, is_agent
from scenes.motion import relative, rotate


def map_size(grid: Grid) -> int:
    """Cells N along each side: the grid fits in, however the ego is turned."""
    low = torch.tensor(grid.origin[:2])
    far = torch.maximum(low.abs(), (low + torch.tensor(grid.shape[:2]) * grid.voxel).abs())
    return 2 * (math.ceil(float(far.norm()) / grid.voxel) + 1) + grid.shape[0] % 2


def empty_map(grid: Grid, batch: int, device: torch.device) -> dict[str, Tensor]:
    """The map's part of a rollout's state: cells uint8 (B, N, N, Z), and the pose of the map (B, 3) in the rollout's world.

    The pose is that of an ego frame whose grid lies in the middle of the map, cell upon cell.
    """
    size = map_size(grid)
    return {
        "map": torch.full((batch, size, size, grid.shape[2]), UNKNOWN, dtype=torch.uint8, device=device),
        "map_pose": torch.zeros(batch, 3, dtype=torch.float64, device=device),
    }


def recall(rollout: Rollout, poses: Tensor, grid: Grid) -> Tensor:
    """What the map holds of frames at world poses (B, F, 3): uint8 (B, F, X, Y, Z), UNKNOWN where nothing was shown yet."""
    here = relative(rollout["map_pose"].unsqueeze(1), poses.to(torch.float64))
    return gather_columns(rollout["map"], here, lattice(grid, _margin(rollout, grid)), UNKNOWN)


def memorise(rollout: Rollout, voxels: Tensor, pose: Tensor, grid: Grid) -> None:
    """Write a frame uint8 (B, X, Y, Z) seen from world pose (B, 3) into the map, where it differs from what the map holds.

    A map that holds nothing yet is laid under the frame, so that the frame enters it as it is. Agents that are not in view
    may be anywhere by now, so their cells become unknown.
    """
    fresh = (rollout["map"] == UNKNOWN).flatten(1).all(1, keepdim=True)
    rollout["map_pose"] = torch.where(fresh, pose, rollout["map_pose"])
    _follow(rollout, pose, grid)
    differs = voxels != recall(rollout, pose.unsqueeze(1), grid).squeeze(1)
    agents_near = F.max_pool2d(is_agent(voxels).any(-1).float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0
    told = torch.cat((voxels, differs.to(torch.uint8), agents_near.unsqueeze(-1).to(torch.uint8)), dim=-1)
    margin = _margin(rollout, grid)
    corner = grid.origin[0] - margin[0] * grid.voxel, grid.origin[1] - margin[1] * grid.voxel
    cells = Lattice((rollout["map"].shape[1], rollout["map"].shape[2]), grid.voxel, corner, (-margin[0], -margin[1]))
    found = gather_columns(told, relative(pose, rollout["map_pose"]).unsqueeze(1), cells, UNKNOWN).squeeze(1)
    shown, differs, agents_near = found.split((grid.shape[2], grid.shape[2], 1), dim=-1)
    held, seen = rollout["map"], shown[..., :1] != UNKNOWN
    agent = is_agent(held)
    write = seen & ((held == UNKNOWN) | (differs == 1) | (agent & (agents_near == 0)))
    rollout["map"] = torch.where(write, shown, held.masked_fill(agent & ~seen, UNKNOWN))


def _follow(rollout: Rollout, pose: Tensor, grid: Grid) -> None:
    """Scroll the map by whole cells until its middle is within half a voxel of the ego at pose (B, 3)."""
    size = rollout["map"].shape[1]
    shift = (relative(rollout["map_pose"], pose)[:, :2] / grid.voxel).round()
    index = torch.arange(size, device=pose.device)
    rows, columns = (index + shift[:, axis, None].long() for axis in (0, 1))
    inside = ((rows >= 0) & (rows < size)).unsqueeze(2) & ((columns >= 0) & (columns < size)).unsqueeze(1)
    source = rows.clamp(0, size - 1).unsqueeze(2) * size + columns.clamp(0, size - 1).unsqueeze(1)
    cells = rollout["map"].flatten(1, 2)
    moved = cells.gather(1, source.flatten(1).unsqueeze(-1).expand(-1, -1, cells.shape[-1])).reshape(rollout["map"].shape)
    rollout["map"] = moved.masked_fill(~inside.unsqueeze(-1), UNKNOWN)
    step = rotate(shift * grid.voxel, rollout["map_pose"][:, 2])
    rollout["map_pose"] = torch.cat((rollout["map_pose"][:, :2] + step, rollout["map_pose"][:, 2:]), dim=-1)


def _margin(rollout: Rollout, grid: Grid) -> tuple[int, int]:
    """Cells of the map on each side of a grid that lies in its middle, along both axes."""
    size = rollout["map"].shape[1]
    return (size - grid.shape[0]) // 2, (size - grid.shape[1]) // 2
