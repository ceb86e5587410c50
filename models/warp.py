"""Carrying voxels along rigidly under ego motion: the warp that conditions the transformer, and the baseline it must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import Lattice, gather_columns
from models.interface import Chunk, Rollout, WorldModel
from scenes.grid import Grid, check_occupancy
from scenes.motion import accumulate

UNKNOWN = 255  # marks cells that the source frame did not see


def lattice(grid: Grid, margin: tuple[int, int] = (0, 0)) -> Lattice:
    """The columns of a grid, for rasters that have `margin` more of them before its corner."""
    return Lattice(grid.shape[:2], grid.voxel, grid.origin[:2], margin)


def warp(occupancy: Tensor, pose: Tensor, grid: Grid, fill: int = UNKNOWN) -> Tensor:
    """Occupancy uint8 (N, X, Y, any) as seen from `pose` (N, 3), the new ego frame in the old one; unseen cells become `fill`.

    Nearest voxel column; the ego moves in the plane, so heights stay.
    """
    return gather_columns(occupancy, pose.to(torch.float64).unsqueeze(1), lattice(grid), fill).squeeze(1)


def warp_chunk(last: Tensor, motion: Tensor, grid: Grid, fill: int = UNKNOWN) -> Tensor:
    """The last frame (B, X, Y, Z) carried along motion (B, F, 3): (B, F, X, Y, Z), each warped once by its composed pose."""
    return gather_columns(last, accumulate(motion), lattice(grid), fill)


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
        poses = accumulate(motion, rollout["pose"])
        rollout["pose"] = poses[:, -1]
        if not decode:
            return Chunk(codes=None, voxels=None)
        return Chunk(codes=None, voxels=gather_columns(rollout["photograph"], poses, lattice(self.grid), self.grid.free))
