"""Carrying the last frame along: what stands moves rigidly under the ego's motion, agents also drive on at their velocity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.warp import warp_chunk
from scenes.grid import Grid, is_agent
from scenes.motion import accumulate, to_local, transform


def carry_chunk(last: Tensor, velocity: Tensor, motion: Tensor, grid: Grid, dt: float) -> Tensor:
    """The last frame (B, X, Y, Z) carried along motion (B, F, 3): uint8 (B, F, X, Y, Z), UNKNOWN where it saw nothing.

    velocity: (B, F, X, Y, 2), mean velocity over ground of the agent in each column until new frame f, m/s in the axes of the
    last ego frame. Cells that agents leave become free.
    """
    agent = is_agent(last)
    frames = warp_chunk(last.masked_fill(agent, grid.free), motion, grid)
    moved = move_agents(last.masked_fill(~agent, grid.free), velocity, motion, grid, dt)
    return torch.where(moved != grid.free, moved, frames)


def move_agents(agents: Tensor, velocity: Tensor, motion: Tensor, grid: Grid, dt: float) -> Tensor:
    """Agents alone, uint8 (B, X, Y, Z), driven on with their velocity and seen from the new frames: (B, F, X, Y, Z).

    A column of a new frame looks back along the velocity of the agent that lands on it, or on a column beside it, so that an
    agent keeps its shape and has no holes.
    """
    (batch, frames), (nx, ny, nz) = motion.shape[:2], grid.shape
    poses = accumulate(motion).float().reshape(batch * frames, 3)
    seconds = dt * torch.arange(1, frames + 1, device=motion.device, dtype=torch.float32)
    step = (velocity * seconds[:, None, None, None]).reshape(batch * frames, nx * ny, 2)
    columns = agents.reshape(batch, 1, nx * ny, nz).expand(-1, frames, -1, -1).reshape(batch * frames, nx * ny, nz)
    occupied = (columns != grid.free).any(-1)
    centres = grid.column_centres(motion.device, torch.float32).reshape(1, nx * ny, 2)

    target, inside = grid.columns_at(to_local(poses, centres + step))
    number = torch.arange(1, nx * ny + 1, device=motion.device).expand(len(poses), -1)
    landed = torch.zeros(len(poses), nx * ny, dtype=torch.int64, device=motion.device)
    landed.scatter_reduce_(1, target, number * (inside & occupied), reduce="amax")
    beside = F.max_pool2d(landed.reshape(-1, 1, nx, ny).float(), 3, stride=1, padding=1).reshape(landed.shape).long()
    who = torch.where(landed > 0, landed, beside)

    back = step.gather(1, (who - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, 2))
    source, inside = grid.columns_at(transform(poses, centres) - back)
    found = columns.gather(1, source.unsqueeze(-1).expand(-1, -1, nz))
    found = found.masked_fill(~(inside & (who > 0)).unsqueeze(-1), grid.free)
    return found.reshape(batch, frames, nx, ny, nz)
