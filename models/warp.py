"""Carrying voxels along rigidly under ego motion: the warp that conditions the transformer, and the baseline it must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from models.interface import Chunk, Rollout, WorldModel
from scenes.grid import Grid, check_occupancy
from scenes.motion import accumulate, transform

UNKNOWN = 255  # marks cells that the source frame did not see


def warp(occupancy: Tensor, pose: Tensor, grid: Grid, fill: int = UNKNOWN) -> Tensor:
    """Occupancy uint8 (N, X, Y, any) as seen from `pose` (N, 3), the new ego frame in the old one; unseen cells become `fill`.

    Nearest voxel column; the ego moves in the plane, so heights stay.
    """
    count, nx, ny, nz = occupancy.shape
    centres = grid.column_centres(pose.device).reshape(1, nx * ny, 2)
    flat, inside = grid.columns_at(transform(pose.to(torch.float64), centres))
    columns = occupancy.reshape(count, nx * ny, nz).gather(1, flat.unsqueeze(-1).expand(-1, -1, nz))
    return columns.masked_fill(~inside.unsqueeze(-1), fill).reshape(count, nx, ny, nz)


def warp_chunk(last: Tensor, motion: Tensor, grid: Grid, fill: int = UNKNOWN) -> Tensor:
    """The last frame (B, X, Y, Z) carried along motion (B, F, 3): (B, F, X, Y, Z), each warped once by its composed pose."""
    batch, frames = motion.shape[:2]
    poses = accumulate(motion).reshape(batch * frames, 3)
    warped = warp(last.repeat_interleave(frames, dim=0), poses, grid, fill)
    return warped.reshape(batch, frames, *last.shape[1:])


class WarpWorldModel(WorldModel):
    """The baseline 'warp the last frame': the world is a photograph that the ego drives through; unseen cells are free."""

    def __init__(self, grid: Grid, dt: float = 0.25, chunk_frames: int = 2) -> None:
        super().__init__()
        self.grid, self.dt, self.chunk_frames = grid, dt, chunk_frames
        self.history_frames = chunk_frames
        self.token_shape, self.num_codes = None, 0

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; only the last frame is kept, and warped once by the composed pose at each step."""
        check_occupancy(occupancy, self.grid)
        pose = torch.zeros(len(occupancy), 3, dtype=torch.float64, device=occupancy.device)
        return Rollout({"photograph": occupancy[:, -1].clone(), "pose": pose, "seeds": seeds.clone()})

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`."""
        batch, frames = motion.shape[:2]
        poses = accumulate(motion, rollout["pose"])
        rollout["pose"] = poses[:, -1]
        if not decode:
            return Chunk(codes=None, voxels=None)
        voxels = warp(rollout["photograph"].repeat_interleave(frames, dim=0), poses.reshape(-1, 3), self.grid, self.grid.free)
        return Chunk(codes=None, voxels=voxels.reshape(batch, frames, *self.grid.shape))
