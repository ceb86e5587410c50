"""What planners of `control` actions have in common: the environment's settings, and one batch of worlds in metres."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from agents.planner import (
    Array,
    Environment,
    Observation,
    Situation,
    begins,
    control,
    read_vector,
    require_control,
    simulator_of,
)
from occworld_env.config import EnvConfig
from occworld_env.simulator import Simulator
from scenes.grid import MINI, Grid

_CAR = (4.6, 1.85, 1.4)  # length, width, and centre ahead of the rear axle, metres: the car of a planner that is not attached


class Setting:
    """What a planner knows beside its observations; without a simulator that of `OccSora-v0` as it is made by default.

    Attributes:
        grid: of the observation. config: of the environment. frame_dt: seconds between frames. frames: in a step.
    """

    def __init__(self, simulator: Simulator | None = None) -> None:
        self._simulator = simulator
        self.grid: Grid = MINI if simulator is None else simulator.grid
        self.config = EnvConfig() if simulator is None else simulator.config
        self.frame_dt = 0.25 if simulator is None else simulator.model.dt
        self.frames = 2 if simulator is None else simulator.frames

    def boxes(self, worlds: int) -> Array:
        """Length, width and centre ahead of the rear axle of the egos that drive now, metres (B, 3)."""
        if self._simulator is None:
            return np.tile(_CAR, (worlds, 1))
        return self._simulator.state["box"].cpu().numpy()


class Driver(ABC):
    """Base of the planners that drive by the observation: `drive` is given all worlds, however many there are."""

    name: ClassVar[str]
    needs_image: ClassVar[bool] = True

    def __init__(self) -> None:
        self.setting = Setting()

    def attach(self, env: Environment) -> None:
        """See `Attachable`."""
        simulator = simulator_of(env)
        require_control(simulator, self.name)
        if self.needs_image and simulator.config.observation != "bev":
            raise ValueError(
                f"{self.name}: expected an environment with observation='bev', found {simulator.config.observation!r}"
            )
        self.setting = Setting(simulator)

    def reset(self) -> None:  # noqa: B027
        """See `Planner.reset`; by default there is nothing to forget."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`."""
        vector = np.asarray(observation["vector"])
        now = read_vector(np.atleast_2d(vector), self.setting.grid, self.setting.config)
        images = np.asarray(observation["image"]) if self.needs_image else np.empty(0)
        if vector.ndim == 1:
            images = images[None]
        acceleration, steering = self.drive(now, images, begins(info, len(now.speed)))
        action = control(acceleration, steering, self.setting.config)
        return action[0] if vector.ndim == 1 else action

    @abstractmethod
    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """Acceleration in m/s^2 (B,) and front wheel angle in radians (B,).

        images: uint8 (B, 7, X, Y), see `occworld_env.observation.bev`. begins: bool (B,), see `planner.begins`.
        """
