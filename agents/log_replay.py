"""Drive as the recorded ego of the scene drove from the same start; where its recording ends, along the route, blind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.planner import Array, Environment, Observation, control, require_control, simulator_of
from agents.pure_pursuit import PurePursuit
from occworld_env.simulator import Simulator
from scenes.motion import relative

_AHEAD = 1.0  # seconds to the recorded pose that is aimed at: two steps, since aiming at the end of one lets the speed swing
_STANDING = 0.5  # metres to the pose aimed at below which the wheels stay straight


class LogReplay:
    """A planner that has to be attached, since only the environment knows the recording."""

    def __init__(self) -> None:
        self._simulator: Simulator | None = None
        self._beyond = PurePursuit()

    def attach(self, env: Environment) -> None:
        """See `Attachable`."""
        self._simulator = simulator_of(env)
        require_control(self._simulator, "log")
        self._beyond.attach(env)

    def reset(self) -> None:
        """See `Planner.reset`; there is nothing to forget."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`; info: `pose`, `speed`, `start` and `time` of the environment's."""
        if self._simulator is None:
            raise ValueError("log: attach the planner to its environment first, whose scenes hold the recording")
        action = np.atleast_2d(self._beyond.act(observation, info)).copy()
        poses, speeds = np.atleast_2d(info["pose"]), np.atleast_1d(info["speed"])
        times = np.atleast_1d(info["start"] + info["time"])
        scenes, egos = (self._simulator.state[name].tolist() for name in ("scene", "ego"))
        for world, (scene, ego) in enumerate(zip(scenes, egos, strict=True)):
            recorded, time = self._simulator.scenes[scene], float(times[world]) + _AHEAD
            if time <= recorded.ego_span(ego)[1] + 1e-6:
                goal = recorded.ego_poses(ego, torch.tensor([time])).cpu()[0]
                there = relative(torch.from_numpy(poses[world]), goal).numpy()
                action[world] = self._towards(there, float(speeds[world]))
        return action if np.ndim(observation["vector"]) == 2 else action[0]

    def _towards(self, goal: Array, speed: float) -> Array:
        """The action that leads to goal (3,), in the ego frame, in _AHEAD seconds: constant acceleration along an arc."""
        assert self._simulator is not None
        chord = float(np.hypot(goal[0], goal[1]))
        length = np.sign(goal[0]) * chord / np.sinc(goal[2] / (2 * np.pi))
        curvature = 2 * goal[1] / chord**2 if chord > _STANDING else 0.0
        acceleration = 2 * (length - speed * _AHEAD) / _AHEAD**2
        config = self._simulator.config
        return control(np.array(acceleration), np.arctan(config.bicycle.wheelbase * curvature), config)
