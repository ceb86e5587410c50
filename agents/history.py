"""What each world has shown lately, so that a world model can be told of it: to imagine what a true world will do."""

from __future__ import annotations

import torch
from torch import Tensor

from models.interface import WorldModel
from occworld_env.simulator import Simulator
from scenes.motion import motion_from_poses
from scenes.render import render


class History:
    """The last frames of each world of a simulator, as `WorldModel.start` takes them.

    Before an episode's start they are those of the recording. `update` has to be called at every step.

    Attributes:
        occupancy: uint8 (N, T, X, Y, Z), every frame in its own ego frame. poses: of these in the world, float64 (N, T, 3).
        steps: of the environment, at the last update (N,).
    """

    def __init__(self, simulator: Simulator, model: WorldModel) -> None:
        """Raises ValueError where grid and clock of the model are not those of the simulator."""
        own = simulator.model
        for name in ("grid", "dt", "chunk_frames"):
            if getattr(model, name) != getattr(own, name):
                found = f"{getattr(own, name)} and {getattr(model, name)}"
                raise ValueError(f"model: expected the {name} of the environment in the model to imagine with, found {found}")
        self._simulator, self._model = simulator, model
        worlds, frames, device = simulator.num_worlds, model.history_frames, simulator.device
        self.occupancy = torch.full((worlds, frames, *model.grid.shape), model.grid.free, dtype=torch.uint8, device=device)
        self.poses = torch.zeros(worlds, frames, 3, dtype=torch.float64, device=device)
        self.steps = torch.full((worlds,), -1)

    @property
    def motion(self) -> Tensor:
        """The pose of each ego frame in the one before, float32 (N, T, 3), the first one zero."""
        return motion_from_poses(self.poses)

    def update(self) -> None:
        """Take note of the last step; raises RuntimeError where one was missed."""
        steps = self._simulator.state["steps"].cpu()
        moved = (steps == self.steps + 1) & (steps > 0)
        missed = ~moved & (steps != self.steps) & (steps > 0)
        if missed.any():
            worlds = missed.nonzero().flatten().tolist()
            raise RuntimeError(f"History: worlds {worlds} have gone on by more than a step since the last action")
        for world in (steps == 0).nonzero().flatten().tolist():
            self._recall(world)
        if moved.any():
            self._append(moved.to(self._simulator.device))
        self.steps = steps

    def _recall(self, world: int) -> None:
        """The recorded frames before the start of a world's episode."""
        state, model = self._simulator.state, self._model
        scene, ego = self._simulator.scenes[int(state["scene"][world])], int(state["ego"][world])
        times = float(state["start"][world]) + model.dt * torch.arange(1 - model.history_frames, 1, dtype=torch.float64)
        poses = scene.ego_poses(ego, times.clamp(min=0.0)).cpu()
        self.occupancy[world] = render(scene, poses, times, model.grid, ego=ego).to(self.occupancy.device)
        self.poses[world] = poses.to(self.poses.device)

    def _append(self, moved: Tensor) -> None:
        """The frames of the last step, in the worlds where moved, bool (N,), is true."""
        frames, path = self._model.chunk_frames, self._simulator.path
        every = path.shape[1] // frames
        for kept, new in ((self.occupancy, self._simulator.state["voxels"]), (self.poses, path[:, every - 1 :: every])):
            kept[moved] = torch.cat((kept[moved], new[moved]), dim=1)[:, -kept.shape[1] :]
