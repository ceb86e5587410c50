"""What every planner offers, and what it reads out of an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from occworld_env.config import EnvConfig
from occworld_env.observation import LIGHT_RANGE, ROUTE_AHEAD, VECTOR_FIELDS, YAW_RATE_SCALE
from occworld_env.simulator import Simulator
from scenes.grid import Grid

Array = np.ndarray
Observation = Mapping[str, Array]
Environment = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Interface:
    """What a planner sees and gives, in the words of `occworld_env.EnvConfig`: `observation` and `action`."""

    observation: str = "bev"
    action: str = "control"


USUAL = Interface()


class Planner(Protocol):
    """Something that drives, in a single environment or in a batch of worlds.

    A planner may also have `attach(env)`, see `Attachable`, and `interface`, an `Interface`, if that is not the `USUAL` one.
    """

    def reset(self) -> None:
        """Forget everything: a new episode begins in every world. Where worlds of a batch end one by one, see `begins`."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """Action of a single environment, for `control` float32 (2,); of a batch, (B, 2); see `occworld_env.actions`."""


@runtime_checkable
class Attachable(Protocol):
    """A planner that wants to know the environment it drives: the size of its car, its scenes, or its world model."""

    def attach(self, env: Environment) -> None:
        """Called once, before the first `reset`, with a single or vector environment; ValueError if it cannot be driven."""


def attach(planner: Planner, env: Environment) -> Planner:
    """The planner, told which environment it drives if it wants to know."""
    if isinstance(planner, Attachable):
        planner.attach(env)
    return planner


def interface_of(planner: Planner) -> Interface:
    """What the planner's environment has to show and take."""
    return getattr(planner, "interface", USUAL)


def simulator_of(env: Environment) -> Simulator:
    """The simulator behind an environment; raises ValueError where there is none."""
    simulator = getattr(env.unwrapped, "simulator", None)
    if simulator is None:
        found = type(env.unwrapped).__name__
        raise ValueError(f"env: expected an environment with a `simulator`, as OccSora-v0 has, found {found}")
    return simulator


def require_control(simulator: Simulator, planner: str) -> None:
    """Raise ValueError where the environment takes other actions than the `control` that the planner so named gives."""
    if simulator.config.action != "control":
        raise ValueError(f"{planner}: expected an environment with action='control', found {simulator.config.action!r}")


def begins(info: Mapping[str, Any], worlds: int) -> Array:
    """Which worlds begin an episode with this info, bool (B,): a vector environment resets a world in the step that ends it."""
    return np.broadcast_to(np.atleast_1d(info.get("time", np.inf)) == 0, (worlds,))


def episode_random(info: Mapping[str, Any], seed: int, worlds: int) -> list[np.random.Generator]:
    """A generator for each of the worlds, decided by seed, episode and time alone, so that neighbours do not matter."""
    episodes = np.broadcast_to(np.atleast_1d(info["seed"]), (worlds,))
    times = np.broadcast_to(np.atleast_1d(info["time"]), (worlds,))
    keys = ((seed, int(episode) % 2**63, round(1000 * float(time))) for episode, time in zip(episodes, times, strict=True))
    return [np.random.default_rng(key) for key in keys]


@dataclass(frozen=True)
class Situation:
    """The vector part of an observation in metres and seconds, for B worlds, ego frame.

    Attributes:
        speed: m/s (B,).
        target_speed: m/s (B,).
        acceleration: along the car, m/s^2 (B,).
        steering: front wheel angle, radians (B,).
        yaw_rate: rad/s (B,).
        deviation: distance to the route, metres, positive to the left of it (B,).
        heading: ego heading minus route heading, radians (B,).
        route: points on the route ahead (B, N, 2), the first one where the ego is.
        left: metres of route ahead, 100 for more (B,).
        light: metres to a red or yellow traffic light on the route, infinity for none (B,).
    """

    speed: Array
    target_speed: Array
    acceleration: Array
    steering: Array
    yaw_rate: Array
    deviation: Array
    heading: Array
    route: Array
    left: Array
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
        acceleration=vector[:, at["acceleration"]] * config.bicycle.max_braking,
        steering=vector[:, at["steering"]] * config.bicycle.max_steering,
        yaw_rate=vector[:, at["yaw_rate"]] * YAW_RATE_SCALE,
        deviation=vector[:, at["deviation"]] * config.offroute_distance,
        heading=vector[:, at["heading"]] * np.pi,
        route=route,
        left=vector[:, at["route_left"]] * 100.0,
        light=np.where(stop, vector[:, at["light_distance"]] * LIGHT_RANGE, np.inf),
    )


def control(acceleration: Array, steering: Array, config: EnvConfig) -> Array:
    """The `control` action, float32 (B, 2), for accelerations (B,) in m/s^2 and front wheel angles (B,) in radians."""
    bicycle = config.bicycle
    pedal = np.where(acceleration >= 0, acceleration / bicycle.max_acceleration, acceleration / bicycle.max_braking)
    return np.clip(np.stack((pedal, steering / bicycle.max_steering), axis=-1), -1, 1).astype(np.float32)
