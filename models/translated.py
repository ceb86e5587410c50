"""A world model of other classes than Occ3D-nuScenes', in which the environment and the planners think."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.interface import Chunk, Rollout, WorldModel
from scenes.grid import CLASSES, COLOURS
from scenes.label_sets import from_occ3d, to_occ3d


class TranslatedWorldModel(WorldModel):
    """Another world model whose history is translated into its classes, and what it imagines out of them.

    Raises ValueError where a class of the model's grid is unknown to `scenes.label_sets`, or one of ours has none there.
    """

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        to_occ3d(torch.arange(model.grid.num_classes, dtype=torch.uint8), model.grid)
        from_occ3d(torch.arange(len(CLASSES), dtype=torch.uint8), model.grid)
        self.model, self.grid = model, replace(model.grid, classes=CLASSES, colours=COLOURS)
        self.dt, self.chunk_frames, self.history_frames = model.dt, model.chunk_frames, model.history_frames
        self.token_shape, self.num_codes = model.token_shape, model.num_codes

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; occupancy is in classes of Occ3D-nuScenes."""
        return self.model.start(from_occ3d(occupancy, self.model.grid), motion, seeds)

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`; voxels are in classes of Occ3D-nuScenes."""
        return self._translated(self.model.advance(rollout, motion, route, decode=decode))

    def generate(self, motion: Tensor, seeds: Tensor) -> Chunk:
        """See `WorldModel.generate`; voxels are in classes of Occ3D-nuScenes."""
        return self._translated(self.model.generate(motion, seeds))

    def _translated(self, chunk: Chunk) -> Chunk:
        if chunk.voxels is None:
            return chunk
        return replace(chunk, voxels=to_occ3d(chunk.voxels, self.model.grid))
