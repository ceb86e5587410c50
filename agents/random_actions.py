"""Uniformly random pedal and wheel at every step: the floor that every planner must be above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.planner import Environment, Observation, episode_random, require_control, simulator_of


class RandomActions:
    """Draws each action from seed, episode and time alone: the same drive in any batch."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def attach(self, env: Environment) -> None:
        """See `Attachable`."""
        require_control(simulator_of(env), "random")

    def reset(self) -> None:
        """See `Planner.reset`; there is nothing to forget."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> np.ndarray:
        """See `Planner.act`; info: `seed` and `time` of the environment's."""
        worlds = np.shape(observation["vector"])[:-1]
        drawn = [generator.uniform(-1, 1, 2) for generator in episode_random(info, self._seed, int(np.prod(worlds)))]
        return np.array(drawn, dtype=np.float32).reshape(*worlds, 2)
