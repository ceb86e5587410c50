"""What every planner offers, and what it reads out of an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from occworld_env.config import EnvConfig
from occworld_env.observation import LIGHT_RANGE, ROUTE_AHEAD, VECTOR_FIELDS
from scenes.grid import Grid

Array = np.ndarray
Observation = Mapping[str, Array]


class Planner(Protocol):
    """Something that drives `control` actions, in a single environment or in a batch of worlds."""

    def reset(self) -> None:
        """Forget everything: a new episode begins in every world."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """Action, float32 (2,) for a single environment's observation, (B, 2) for a batch; see `occworld_env.actions`."""


@dataclass(frozen=True)
class Situation:
    """The vector part of an observation in metres and seconds, for B worlds, ego frame.

    Attributes:
        speed: m/s (B,).
        target_speed: m/s (B,).
        route: points on the route ahead (B, N, 2), the first one where the ego is.
        light: metres to a red or yellow traffic light on the route, infinity for none (B,).
    """

    speed: Array
    target_speed: Array
    route: Array
    light: Array


def read_vector(vector: Array, grid: Grid, config: EnvConfig) -> Situation:
    """The situation told by vector, float32 (B, V), of an environment with this grid and these settings."""
    at = {name: index for index, name in enumerate(VECTOR_FIELDS)}
    vector = np.asarray(vector, dtype=np.float64)
    scale = grid.shape[0] * grid.voxel / 2
    ahead = np.stack(
        [[vector[:, at[f"route_{axis}_{distance:.0f}"]] * scale for axis in "xy"] for distance in ROUTE_AHEAD], axis=0
    )
    route = np.concatenate((np.zeros((len(vector), 1, 2)), ahead.transpose(2, 0, 1)), axis=1)
    stop = vector[:, at["light_red"]] + vector[:, at["light_yellow"]] > 0.5
    return Situation(
        speed=vector[:, at["speed"]] * config.bicycle.max_speed,
        target_speed=vector[:, at["target_speed"]] * config.bicycle.max_speed,
        route=route,
        light=np.where(stop, vector[:, at["light_distance"]] * LIGHT_RANGE, np.inf),
    )


def control(acceleration: Array, steering: Array, config: EnvConfig) -> Array:
    """The `control` action, float32 (B, 2), for accelerations (B,) in m/s^2 and front wheel angles (B,) in radians."""
    bicycle = config.bicycle
    pedal = np.where(acceleration >= 0, acceleration / bicycle.max_acceleration, acceleration / bicycle.max_braking)
    return np.clip(np.stack((pedal, steering / bicycle.max_steering), axis=-1), -1, 1).astype(np.float32)
