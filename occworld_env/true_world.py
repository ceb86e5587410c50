"""What stands in for the world model where the world is true: its measures, and its codes where it has a tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor

from models.interface import Chunk, Rollout, WorldModel
from models.world_model import LearnedWorldModel
from scenes.grid import MINI

HISTORY_FRAMES = 8  # of the bundled `mini`, so that starts are the same


class TrueWorld(WorldModel):
    """Grid, clock and history of a world model, of `mini` by default, without its imagination.

    Attributes:
        tokenizer: turns what is shown into codes, those that the world model itself would give for it; None without one.
    """

    def __init__(self, like: WorldModel | None = None) -> None:
        super().__init__()
        self.grid, self.dt, self.chunk_frames, self.history_frames = MINI, 0.25, 2, HISTORY_FRAMES
        self.token_shape, self.num_codes, self.tokenizer = None, 0, None
        if like is not None:
            self.grid, self.dt = like.grid, like.dt
            self.chunk_frames, self.history_frames = like.chunk_frames, like.history_frames
        if isinstance(like, LearnedWorldModel):
            self.token_shape, self.num_codes, self.tokenizer = like.token_shape, like.num_codes, like.tokenizer

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; only the codes of the last chunk are kept, where there are any."""
        codes = self.show(occupancy[:, -self.chunk_frames :]).codes
        return Rollout({"seeds": seeds.clone()} | ({} if codes is None else {"codes": codes}))

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """Raises RuntimeError: how a true world goes on is not for a world model to say."""
        raise RuntimeError("TrueWorld: steps come from ReferenceSimulator, which knows the scene")

    @torch.no_grad()
    def show(self, voxels: Tensor) -> Chunk:
        """A chunk of true occupancy uint8 (B, F, X, Y, Z), with its codes where there is a tokenizer."""
        if self.tokenizer is None:
            return Chunk(codes=None, voxels=voxels)
        return Chunk(codes=self.tokenizer.snap(self.tokenizer.encode(voxels))[0], voxels=voxels)
