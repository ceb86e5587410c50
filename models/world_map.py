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

from models.interface import Rollout
from models.warp import UNKNOWN
from scenes.grid import Grid, is_agent
from scenes.motion import relative, rotate, to_local, transform


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
    (batch, frames), size = poses.shape[:2], rollout["map"].shape[1]
    here = relative(rollout["map_pose"].unsqueeze(1), poses.to(torch.float64))
    centres = grid.column_centres(poses.device).reshape(1, 1, -1, 2)
    index, inside = _map_index(transform(here, centres), grid, size)
    cells = rollout["map"].flatten(1, 2)
    found = cells.gather(1, index.flatten(1).unsqueeze(-1).expand(-1, -1, grid.shape[2]))
    return found.masked_fill(~inside.flatten(1).unsqueeze(-1), UNKNOWN).reshape(batch, frames, *grid.shape)


def memorise(rollout: Rollout, voxels: Tensor, pose: Tensor, grid: Grid) -> None:
    """Write a frame uint8 (B, X, Y, Z) seen from world pose (B, 3) into the map, where it differs from what the map holds.

    A map that holds nothing yet is laid under the frame, so that the frame enters it as it is. Agents that are not in view
    may be anywhere by now, so their cells become unknown.
    """
    fresh = (rollout["map"] == UNKNOWN).flatten(1).all(1, keepdim=True)
    rollout["map_pose"] = torch.where(fresh, pose, rollout["map_pose"])
    _follow(rollout, pose, grid)
    batch, size = rollout["map"].shape[:2]
    differs = voxels != recall(rollout, pose.unsqueeze(1), grid).squeeze(1)
    agents_near = F.max_pool2d(is_agent(voxels).any(-1).float().unsqueeze(1), 3, stride=1, padding=1).squeeze(1) > 0
    place, seen = _columns_of_map(rollout, pose, grid)

    def at_map(part: Tensor) -> Tensor:
        """(B, X, Y, ...) looked up for each cell of the map, (B, N, N, ...)."""
        flat = part.flatten(1, 2)
        chosen = place.reshape(batch, -1, *[1] * (flat.ndim - 2)).expand(-1, -1, *flat.shape[2:])
        return flat.gather(1, chosen).reshape(batch, size, size, *flat.shape[2:])

    held = rollout["map"]
    agent, seen = is_agent(held), seen.unsqueeze(-1)
    stale = agent & ~at_map(agents_near).unsqueeze(-1)
    write = seen & ((held == UNKNOWN) | at_map(differs) | stale)
    rollout["map"] = torch.where(write, at_map(voxels), held.masked_fill(agent & ~seen, UNKNOWN))


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


def _columns_of_map(rollout: Rollout, pose: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Flat column of the grid seen from pose (B, 3) that each map cell's centre lies in, (B, N, N), and where it is inside."""
    size, (nx, ny, _) = rollout["map"].shape[1], grid.shape
    offset = [(size - cells) // 2 for cells in (nx, ny)]
    along = torch.arange(size, dtype=torch.float64, device=pose.device) + 0.5
    xy = torch.stack(
        torch.meshgrid(*(grid.origin[a] + (along - offset[a]) * grid.voxel for a in (0, 1)), indexing="ij"), dim=-1
    )
    local = to_local(relative(rollout["map_pose"], pose), xy.reshape(1, -1, 2))
    flat, inside = grid.columns_at(local)
    return flat.reshape(-1, size, size), inside.reshape(-1, size, size)


def _map_index(xy: Tensor, grid: Grid, size: int) -> tuple[Tensor, Tensor]:
    """Flat map cell of points (..., 2) given in the map's frame, 0 where they are outside, and whether they are inside."""
    i, j = (
        ((xy[..., axis] - grid.origin[axis]) / grid.voxel).floor().long() + (size - grid.shape[axis]) // 2 for axis in (0, 1)
    )
    inside = (i >= 0) & (j >= 0) & (i < size) & (j < size)
    return (i * size + j).masked_fill(~inside, 0), inside
