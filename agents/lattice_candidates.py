"""The candidates of the lattice planner: ways to drive on beside the route, driven ahead by the environment's own vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.driver import Setting
from agents.planner import Array, Situation
from agents.pure_pursuit import SPACING, curve_speed, line_through
from occworld_env.reward import discomfort
from occworld_env.vehicle import Vehicle, drive
from scenes.motion import to_local


@dataclass(frozen=True)
class LatticeOptions:
    """Which candidates there are: each of the offsets with each of the accelerations.

    Attributes:
        offsets: metres to the left of the route.
        accelerations: m/s^2; each is held until the car stands or drives at the wanted speed.
        steps: of the environment that are looked ahead.
        look_ahead: seconds that the point pursued lies ahead, within 4 to 14 m.
        lateral: lateral acceleration that the wanted speed is lowered to in curves, m/s^2.
    """

    offsets: tuple[float, ...] = (0.0, 0.75, -0.75, 1.5, -1.5, 3.0, -3.0)
    accelerations: tuple[float, ...] = (-6.0, -4.0, -2.5, -1.0, 0.0, 1.0, 2.0)
    steps: int = 8
    look_ahead: float = 1.2
    lateral: float = 2.2


@dataclass(frozen=True)
class Candidates:
    """K ways to drive on in each of B worlds over H steps of T frames in all, in the ego frame of now.

    Attributes:
        poses: of the rear axle at each frame, metres and radians (B, K, T, 3).
        speed: at each frame, m/s (B, K, T).
        arc: along the route at each frame, metres (B, K, T), counted from the ego.
        deviation: from the route at each frame, metres (B, K, T).
        discomfort: of each step (B, K, H), see `occworld_env.reward.discomfort`.
        acceleration, steering: commanded in the first step, m/s^2 and radians (B, K).
    """

    poses: Tensor
    speed: Tensor
    arc: Tensor
    deviation: Tensor
    discomfort: Tensor
    acceleration: Tensor
    steering: Tensor


def drive_candidates(now: Situation, options: LatticeOptions, setting: Setting) -> Candidates:
    """All candidates; each step has one acceleration and one front wheel angle, as a step of the environment has."""
    lines = np.stack([line_through(points) for points in _route(now)])
    wanted = np.minimum(now.target_speed, [curve_speed(line, options.lateral) for line in lines])
    kinds = torch.cartesian_prod(_tensor(options.offsets), _tensor(options.accelerations))
    worlds, count = len(lines), len(kinds)
    line, goal = _tensor(lines).repeat_interleave(count, 0), _tensor(wanted).repeat_interleave(count)
    offset, gain = kinds.repeat(worlds, 1).unbind(-1)
    state = (now.speed, now.acceleration, now.steering, now.yaw_rate)
    start = torch.zeros(worlds * count, 3, dtype=torch.float64)
    car = Vehicle(start, *(_tensor(value).repeat_interleave(count) for value in state))
    commands, paths, rough = [], [], []
    for _ in range(options.steps):
        acceleration = gain.minimum((goal - car.speed) / (setting.frames * setting.frame_dt))
        commands.append((acceleration, _pursue(line, offset, car, options.look_ahead, setting.config.bicycle.wheelbase)))
        paths.append(drive(car, lambda *_: commands[-1], setting.frames, setting.frame_dt, setting.config))
        rough.append(discomfort(car, paths[-1]))
        car = paths[-1].end()
    poses = torch.cat([path.frames(setting.frames) for path in paths], dim=1)
    every = paths[0].speed.shape[1] // setting.frames
    speed = torch.cat([path.speed[:, every - 1 :: every] for path in paths], dim=1)
    deviation, nearest = torch.cdist(poses[..., :2], line).min(dim=-1)
    parts = (poses, speed, nearest * SPACING, deviation, torch.stack(rough, dim=1), *commands[0])
    return Candidates(*(part.reshape(worlds, count, *part.shape[1:]) for part in parts))


def _pursue(line: Tensor, offset: Tensor, car: Vehicle, look_ahead: float, wheelbase: float) -> Tensor:
    """Front wheel angle (N,) of the arc to the point ahead on line (N, M, 2), moved to the left by offset (N,)."""
    here = (line - car.pose[:, None, :2]).norm(dim=-1).argmin(dim=-1)
    distance = (look_ahead * car.speed).clamp(4.0, 14.0)
    ahead = (here + (distance / SPACING).long()).clamp(max=line.shape[1] - 2)
    each = torch.arange(len(line))
    point, after = line[each, ahead], line[each, ahead + 1]
    along = (after - point) / SPACING
    left = torch.stack((-along[:, 1], along[:, 0]), dim=-1)
    goal = to_local(car.pose, (point + offset.unsqueeze(-1) * left).unsqueeze(1)).squeeze(1)
    curvature = 2 * goal[:, 1] / goal.square().sum(-1).clamp(min=1.0)
    return torch.atan(wheelbase * curvature)


def _route(now: Situation) -> Array:
    """Points of the route in the ego frame (B, N, 2), the first one nearest to the ego; `Situation.route` begins at the ego."""
    foot = -now.deviation[:, None] * np.stack((np.sin(now.heading), np.cos(now.heading)), axis=-1)
    return np.concatenate((foot[:, None], now.route[:, 1:]), axis=1)


def _tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
