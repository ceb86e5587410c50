"""The reference world: the simulator of `OccSora-v0` with true dynamics in place of a world model's imagination."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.interface import Chunk, Rollout
from occworld_env.config import EnvConfig
from occworld_env.dynamics import Dynamics, LiveSumo, Replay
from occworld_env.loading import ModelSource, SceneSource, load_world_model
from occworld_env.simulator import Simulator
from occworld_env.starts import Start, StartBank, StartKey, UnusableStartError
from occworld_env.step_result import StepResult
from occworld_env.true_world import TrueWorld
from scenes.render import draw_agents, render_static
from scenes.scene import Scene
from scenes.sumo_town import open_town, recipe_of

DYNAMICS = ("sumo", "replay")
_BEYOND = 20.0  # metres beyond the grid's corner within which the parts of road users are asked for


class ReferenceBank(StartBank):
    """The starts of `OccSora-v0`, but for those from which the true world cannot go on for a step."""

    simulator: ReferenceSimulator

    def get(self, key: StartKey, min_route: float = 10.0, min_speed: float = 0.0) -> Start:
        """See `StartBank.get`."""
        self.simulator.check_start(key)
        return super().get(key, min_route, min_speed)


class ReferenceSimulator(Simulator):
    """N true worlds; live SUMO runs in a process for each, log replay in this one.

    Attributes:
        dynamics: "sumo", "replay", or None for SUMO in towns that it can make again and replay in all other scenes.
    """

    model: TrueWorld

    def __init__(
        self,
        world_model: ModelSource = None,
        scenes: SceneSource = None,
        config: EnvConfig | None = None,
        *,
        dynamics: str | None = None,
        **rest: Any,
    ) -> None:
        """world_model: whose grid, clock, history and codes these worlds have, by default those of `mini` and no codes."""
        if dynamics is not None and dynamics not in DYNAMICS:
            raise ValueError(f"dynamics: expected None or one of {DYNAMICS}, found {dynamics!r}")
        if world_model is None and config is not None and config.observation == "tokens":
            raise ValueError("observation: 'tokens' of the reference world need world_model=, the model whose codes they are")
        self.dynamics = dynamics
        super().__init__(world_model, scenes, config, capture=False, **rest)

    def _load(self) -> None:
        super()._load()
        self.bank = ReferenceBank(self.model, self.scenes, self.config, self.reach, self.precise)
        self.bank.simulator = self
        shape, voxel, (x, y, _) = self.grid.shape, self.grid.voxel, self.grid.origin
        corner = max(abs(x), abs(x + shape[0] * voxel)), max(abs(y), abs(y + shape[1] * voxel))
        self._radius = float(torch.tensor(corner).norm()) + _BEYOND
        self._worlds: list[Dynamics | None] = [None] * self.num_worlds
        self._driven: list[list[Tensor]] = [[] for _ in range(self.num_worlds)]

    def _load_model(self) -> TrueWorld:
        if self._model_source is None:
            return TrueWorld()
        return TrueWorld(load_world_model(self._model_source, self.device))

    def dynamics_of(self, scene: Scene) -> str:
        """ "sumo" or "replay": what steps this scene."""
        return self.dynamics or ("replay" if recipe_of(scene) is None else "sumo")

    def check_start(self, key: StartKey) -> None:
        """Raise UnusableStartError where the true world cannot go on from a moment for a step."""
        scene = self.scenes[key.scene]
        if self.dynamics_of(scene) == "replay":
            if not Replay.fits(scene, key.start, self.step_seconds):
                raise UnusableStartError(f"{scene.name}: the recording ends {scene.duration - key.start:.2f} s after the start")
        elif abs(math.remainder(self.model.dt, scene.dt)) > 1e-6:
            steps = f"{scene.name} has steps of {scene.dt:g} s, which do not divide the {self.model.dt:g} s between frames"
            raise ValueError(f"dynamics: {steps}; use dynamics='replay'")
        elif abs(math.remainder(key.start, scene.dt)) > 1e-6:
            expected = f"a start at a multiple of {scene.dt:g} s, SUMO's step"
            raise UnusableStartError(f"{scene.name}: expected {expected}, found {key.start} s")

    def _put(self, chosen: list[int], state: Rollout, rollout: Rollout) -> None:
        super()._put(chosen, state, rollout)
        for row, world in enumerate(chosen):
            self._begin(world, _key(state, row))

    def _begin(self, world: int, key: StartKey) -> None:
        """A new drive in a world; what went on there before ends."""
        if (last := self._worlds[world]) is not None:
            last.close()
        scene, dt = self.scenes[key.scene], self.model.dt
        if self.dynamics_of(scene) == "replay":
            self._worlds[world] = Replay(scene, key.ego, key.start, dt, self.frames)
        else:
            try:
                town = open_town(scene)
            except ImportError as error:
                raise ImportError(f"{error}; or use dynamics='replay', where nobody reacts") from error
            self._worlds[world] = LiveSumo(town, key.ego, key.start, dt, self._radius)
        self._driven[world] = []

    def step(self, action: Tensor) -> StepResult:
        """See `Simulator.step`; a world whose recording ends is truncated."""
        result = super().step(action)
        over = torch.tensor([world is not None and world.over for world in self._worlds], device=self.device)
        return replace(result, truncated=(result.truncated | over) & ~result.terminated)

    def _imagine(self, state: Rollout, rollout: Rollout, motion: Tensor, frames: Tensor, raster: Tensor) -> Chunk:
        """What is truly there: nothing of it is imagined."""
        lines = torch.cat((state["pose"].unsqueeze(1), frames), dim=1).cpu()
        worlds = [world for world in self._worlds if world is not None]
        for world, line, driven in zip(worlds, lines, self._driven, strict=True):
            world.send(line[0], line[1:])
            driven.append(line)
        shown = [render_static(world.scene.static, line[1:], self.grid) for world, line in zip(worlds, lines, strict=True)]
        for voxels, world, line in zip(shown, worlds, lines, strict=True):
            tracks, index, ego = world.receive()
            draw_agents(voxels, tracks, line[1:], index, self.grid, ego)
        with self.precise():
            return self.model.show(torch.stack(shown).to(self.device))

    def get_state(self) -> dict[str, Any]:
        """See `Simulator.get_state`; the true worlds are told by where their egos drove."""
        return super().get_state() | {"driven": [list(driven) for driven in self._driven]}

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """See `Simulator.set_state`; the drives so far are driven again, which takes a few milliseconds a step."""
        super().set_state(saved)
        for index, lines in enumerate(saved["driven"] if self.state.tensors else []):
            self._begin(index, _key(self.state, index))
            world = self._worlds[index]
            assert world is not None, "a drive begins above"
            for line in lines:
                world.send(line[0], line[1:])
                world.receive()
            self._driven[index] = list(lines)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"dynamics": self.dynamics}

    def close(self) -> None:
        """End the drives; may be called again. Towns wait on for other simulators of this process."""
        for world in self._worlds:
            if world is not None:
                world.close()


def _key(state: Rollout, row: int) -> StartKey:
    """The moment at which the episode of a world began."""
    return StartKey(int(state["scene"][row]), int(state["ego"][row]), float(state["start"][row]))
