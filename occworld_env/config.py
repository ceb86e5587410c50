"""What can be set about `OccSora-v0`, with units; every field is also a keyword argument of `gymnasium.make`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from scenes.bicycle import Bicycle
from scenes.grid import AGENTS, CLASSES

ACTIONS = ("control", "trajectory", "discrete")
OBSERVATIONS = ("bev", "tokens", "occupancy")
MAX_EPISODE_STEPS = 80  # 40 s at 0.5 s a step


@dataclass(frozen=True)
class RewardWeights:
    """Weight of each reward term; the terms themselves lie in [-1, 1] (see `occworld_env.reward`).

    Attributes:
        progress: metres gained along the route, 1 for a step at the target speed.
        speed: speed above the target, -1 at twice the target.
        deviation: distance to the route, -1 at the off-route limit.
        comfort: how far the nuPlan comfort bounds are exceeded.
        collision: -1 in the step that hits something.
        offroad: -1 in the step that leaves the drivable surface.
        offroute: -1 in the step that leaves the route.
    """

    progress: float = 1.0
    speed: float = 0.5
    deviation: float = 0.3
    comfort: float = 0.2
    collision: float = 20.0
    offroad: float = 10.0
    offroute: float = 10.0


@dataclass(frozen=True)
class EnvConfig:
    """Settings of the environment; its step, `chunk_frames * dt` seconds, comes from the world model.

    `weights` and `bicycle` may be given as mappings of the fields that differ from the defaults.

    Attributes:
        action: "control", "trajectory" or "discrete".
        observation: "bev", "tokens" or "occupancy".
        target_speed: speed to drive at, m/s.
        weights: reward weights.
        bicycle: dimensions and bounds of the car.
        max_steering_rate: bound on the change of the front wheel angle, rad/s.
        max_lateral_acceleration: grip of the tyres, m/s^2; the steering is bounded so that a turn stays below it.
        offroute_distance: distance from the rear axle to the route that ends the episode, metres.
        offroad_share: share not drivable, of that part of the ego's footprint whose surface is known, that ends the episode, in
            (0, 1); where less than a quarter of the footprint is known none does.
        min_route: route that a drawn start must have ahead, metres.
        min_speed: speed of the ego at a drawn start at the least, m/s; a queue that waits rarely starts in an imagined world.
        known_map: whether the world model is told the drivable surface of the scene's map beside the route.
        ego_classes: classes of the tracks that a start is drawn from.
        bank_size: number of start states drawn from the scenes, and kept encoded.
        bank_seed: decides which start states those are.
    """

    action: str = "control"
    observation: str = "bev"
    target_speed: float = 10.0
    weights: RewardWeights = field(default_factory=RewardWeights)
    bicycle: Bicycle = field(default_factory=Bicycle)
    max_steering_rate: float = 0.8
    max_lateral_acceleration: float = 8.0
    offroute_distance: float = 8.0
    offroad_share: float = 0.5
    min_route: float = 50.0
    min_speed: float = 1.0
    known_map: bool = True
    ego_classes: tuple[str, ...] = ("car",)
    bank_size: int = 16
    bank_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _part("weights", self.weights, RewardWeights()))
        object.__setattr__(self, "bicycle", _part("bicycle", self.bicycle, Bicycle()))
        if self.action not in ACTIONS:
            raise ValueError(f"action: expected one of {ACTIONS}, found {self.action!r}")
        if self.observation not in OBSERVATIONS:
            raise ValueError(f"observation: expected one of {OBSERVATIONS}, found {self.observation!r}")
        for name in ("target_speed", "max_steering_rate", "max_lateral_acceleration", "offroute_distance", "min_route"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, found {getattr(self, name)!r}")
        for item in fields(Bicycle):
            if not getattr(self.bicycle, item.name) > 0:
                raise ValueError(f"bicycle: expected a positive {item.name}, found {getattr(self.bicycle, item.name)!r}")
        if not self.min_speed >= 0:
            raise ValueError(f"min_speed: expected 0 or more, found {self.min_speed!r}")
        if not 0 < self.offroad_share < 1:
            raise ValueError(f"offroad_share: expected a number between 0 and 1, found {self.offroad_share!r}")
        if self.bank_size < 1:
            raise ValueError(f"bank_size: expected at least 1, found {self.bank_size!r}")
        agents = tuple(CLASSES[index] for index in AGENTS)
        unknown = [name for name in self.ego_classes if name not in agents]
        if unknown or not self.ego_classes:
            raise ValueError(f"ego_classes: expected some of {agents}, found {self.ego_classes!r}")


def make_config(config: EnvConfig | None, overrides: Mapping[str, Any]) -> EnvConfig:
    """`config`, or the default one, with the fields named in `overrides`; raises TypeError on a name that is no field.

    A mapping for `weights` or `bicycle` changes some fields of what `config` has there.
    """
    known = {item.name for item in fields(EnvConfig)}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise TypeError(f"OccSora-v0 has no keyword argument {unknown[0]!r}; known are {sorted(known)}")
    values = dict(overrides)
    base = config or EnvConfig()
    for name in {"weights", "bicycle"} & values.keys():
        values[name] = _part(name, values[name], getattr(base, name))
    if "ego_classes" in values:
        values["ego_classes"] = tuple(values["ego_classes"])
    return replace(base, **values)


def _part(name: str, value: Any, base: Any) -> Any:
    """The dataclass that `value` is, or `base` with the fields that it maps to numbers; raises TypeError on anything else."""
    kind = type(base).__name__
    if isinstance(value, type(base)):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a {kind} or a mapping of its fields, found {value!r}")
    known = [item.name for item in fields(base)]
    for key, number in value.items():
        if key not in known:
            raise TypeError(f"{name}: {kind} has no field {key!r}; known are {known}")
        if not isinstance(number, Real):
            raise TypeError(f"{name}: expected a number for {key!r}, found {number!r}")
    return replace(base, **value)
