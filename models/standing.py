"""What stood in the last frame of the history still stands: a memory of it that a rollout does not change.

Codes and learned trust lose what is one voxel thin, a post or a fence, within a second or two, and a car would drive through
where it was. What stands does not go away, so where a rollout shows nothing, that frame decides. Only that frame, which is
true: obstacles that the model imagined may be revised.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import gather_columns
from models.interface import Rollout
from models.warp import lattice
from scenes.grid import STATIC_OBSTACLES, Grid
from scenes.motion import accumulate, relative


def nothing_stands(grid: Grid, batch: int, device: torch.device) -> dict[str, Tensor]:
    """The memory's part of a rollout's state: static obstacles uint8 (B, X, Y, Z), else free, and their pose (B, 3)."""
    return {
        "standing": torch.full((batch, *grid.shape), grid.free, dtype=torch.uint8, device=device),
        "standing_pose": torch.zeros(batch, 3, dtype=torch.float64, device=device),
    }


def remember_standing(rollout: Rollout, frame: Tensor, grid: Grid) -> None:
    """Remember the static obstacles of a true frame uint8 (B, X, Y, Z), the last one that the rollout has seen."""
    stands = torch.isin(frame, torch.tensor(STATIC_OBSTACLES, dtype=frame.dtype, device=frame.device))
    rollout["standing"] = frame.masked_fill(~stands, grid.free)
    rollout["standing_pose"] = rollout["above_poses"][:, -1].clone()


def keep_standing(rollout: Rollout, voxels: Tensor, motion: Tensor, grid: Grid) -> Tensor:
    """New frames uint8 (B, F, X, Y, Z) under motion (B, F, 3), with what is remembered where they show nothing."""
    poses = accumulate(motion, rollout["above_poses"][:, -1])
    here = relative(rollout["standing_pose"].unsqueeze(1), poses)
    return torch.where(voxels == grid.free, gather_columns(rollout["standing"], here, lattice(grid), grid.free), voxels)
