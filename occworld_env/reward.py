"""Reward terms of a step, and the comfort bounds of nuPlan that one of them is about."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from occworld_env.config import EnvConfig, RewardWeights
from occworld_env.vehicle import Path, Vehicle

TERMS = tuple(item.name for item in fields(RewardWeights))


@dataclass(frozen=True)
class ComfortBounds:
    """The six bounds of nuPlan's `ego_is_comfortable`.

    nuPlan smooths by Savitzky-Golay filters over a whole drive. Here accelerations and yaw rate are taken at each integration
    step, and jerk and yaw acceleration are the largest change over half a second, divided by it.

    Attributes:
        braking: least longitudinal acceleration, m/s^2.
        acceleration: largest longitudinal acceleration, m/s^2.
        lateral: largest lateral acceleration to either side, m/s^2.
        jerk: largest change of the acceleration vector, m/s^3.
        longitudinal_jerk: largest change of the longitudinal acceleration, m/s^3.
        yaw_rate: rad/s.
        yaw_acceleration: rad/s^2.
    """

    braking: float = -4.05
    acceleration: float = 2.40
    lateral: float = 4.89
    jerk: float = 8.37
    longitudinal_jerk: float = 4.13
    yaw_rate: float = 0.95
    yaw_acceleration: float = 1.93


NUPLAN = ComfortBounds()
_SPAN = 0.5  # seconds over which jerk and yaw acceleration are taken; the whole step where that is shorter


def discomfort(start: Vehicle, path: Path, bounds: ComfortBounds = NUPLAN) -> Tensor:
    """How far the bounds are exceeded in a step, float64 (B,): 0 inside all, 1 where each is exceeded by its own size."""
    count = path.speed.shape[1]
    span = min(max(round(_SPAN / path.dt), 1), count)
    lateral = path.speed * path.yaw_rate

    def change(before: Tensor, along: Tensor) -> Tensor:
        """What a quantity, (B,) at the start and (B, S) along the path, changes by from each span to the next, per second."""
        ends = torch.cat((before.unsqueeze(1), along[:, span - 1 :: span]), dim=1)
        return ends.diff(dim=1) / (span * path.dt)

    jerk, side_jerk = change(start.acceleration, path.acceleration), change(start.speed * start.yaw_rate, lateral)
    longitudinal = torch.maximum(path.acceleration / bounds.acceleration, path.acceleration / bounds.braking)
    parts = (
        longitudinal.amax(-1),
        lateral.abs().amax(-1) / bounds.lateral,
        torch.hypot(jerk, side_jerk).amax(-1) / bounds.jerk,
        jerk.abs().amax(-1) / bounds.longitudinal_jerk,
        path.yaw_rate.abs().amax(-1) / bounds.yaw_rate,
        change(start.yaw_rate, path.yaw_rate).abs().amax(-1) / bounds.yaw_acceleration,
    )
    return (torch.stack(parts, dim=-1) - 1.0).clamp(0.0, 1.0).mean(-1)


def reward_terms(
    progress: Tensor,
    speed: Tensor,
    deviation: Tensor,
    discomfort: Tensor,
    events: dict[str, Tensor],
    time: float,
    config: EnvConfig,
) -> dict[str, Tensor]:
    """The weighted terms, float64 (B,) each, in the order of `TERMS`; the reward is their sum.

    progress: metres gained along the route. speed: m/s. deviation: metres from the route. discomfort: see `discomfort`.
    events: bool (B,) for "collision", "offroad" and "offroute". time: seconds of the step.
    """
    raw = {
        "progress": (progress / (config.target_speed * time)).clamp(-1.0, 1.0),
        "speed": -((speed - config.target_speed) / config.target_speed).clamp(0.0, 1.0),
        "deviation": -(deviation.abs() / config.offroute_distance).clamp(0.0, 1.0),
        "comfort": -discomfort,
        **{name: -events[name].double() for name in ("collision", "offroad", "offroute")},
    }
    return {name: raw[name] * getattr(config.weights, name) + 0.0 for name in TERMS}  # + 0.0: no negative zeros
