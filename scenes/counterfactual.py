"""Ego paths through a scene: the recorded one, and others that leave it by braking, accelerating, swerving, crashing.

Models trained on recorded driving alone dream safe outcomes of unsafe actions. But the agents of a scene follow fixed tracks
and do not react, so a path is used for two seconds at most after it has left the recorded one, and it ends at an impact, or
where it is asked to go on, soon after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from scenes.bicycle import Bicycle
from scenes.grid import FREE
from scenes.impact import CLEARANCE, first_impact
from scenes.motion import interpolate, relative, to_local, transform
from scenes.scene import Scene

HORIZON = 2.0  # seconds that a path is used after it has left the recorded one
STEP = 0.1  # seconds between the poses that are driven and tested for impact
_SIDEWAYS = 5.0  # m/s^2, bound on lateral acceleration
_NOTICEABLE = 0.5  # seconds before the end by which a path departs
_TO_HIT = 1.4  # the same for a path that is to hit something


class PathKind(StrEnum):
    """How an ego path is made."""

    RECORDED = "recorded"
    BRAKE = "brake"
    ACCELERATE = "accelerate"
    SWERVE = "swerve"
    LEAVE_ROAD = "leave_road"
    HIT = "hit"


PERTURBED = tuple(kind for kind in PathKind if kind is not PathKind.RECORDED)


@dataclass(frozen=True)
class EgoPath:
    """Where an ego is, and when.

    Attributes:
        poses: rear axle in world coordinates, float64 (T, 3).
        times: seconds, float64 (T,).
        kind: how the path was made.
        departed_at: time in seconds at which it leaves the recorded path, or None.
        impact: whether it hits something.
    """

    poses: Tensor
    times: Tensor
    kind: PathKind
    departed_at: float | None = None
    impact: bool = False


@dataclass
class _Ride:
    """The state a driver sees: pose (x, y, yaw) of the rear axle, speed in m/s, seconds since departure, time."""

    pose: Tensor
    speed: float
    since: float
    time: float


Driver = Callable[[_Ride], tuple[float, float]]  # acceleration in m/s^2, curvature in 1/m


def recorded_path(scene: Scene, ego: int, start_time: float, frames: int, dt: float) -> EgoPath:
    """The recorded path of track `ego`: `frames` poses, dt seconds apart, from `start_time` on."""
    times = start_time + torch.arange(frames, dtype=torch.float64) * dt
    return EgoPath(scene.ego_poses(ego, times), times, PathKind.RECORDED)


def counterfactual_path(
    scene: Scene,
    ego: int,
    start_time: float,
    frames: int,
    dt: float,
    kind: PathKind,
    generator: np.random.Generator,
    beyond: float = 0.0,
) -> EgoPath:
    """A path of `frames` poses, dt seconds apart, that follows track `ego` and leaves it in its last two seconds.

    The moment of departure and how it is driven are drawn from `generator`. The path ends by `start_time + (frames - 1) * dt`,
    or `beyond` seconds after an impact before that, as if nothing had been hit; it begins that much earlier or later. For
    `PathKind.RECORDED` it is the recorded path. Raises ValueError if the ego is not there from two seconds before `start_time`
    to the latest such end.
    """
    if kind is PathKind.RECORDED:
        return recorded_path(scene, ego, start_time, frames, dt)
    latest = start_time + (frames - 1) * dt
    first, last = scene.ego_span(ego)
    if start_time - HORIZON < first - 1e-6 or latest + beyond > last + 1e-6:
        raise ValueError(
            f"track {ego} is there from {first:g} to {last:g} s; a path from {start_time:g} to {latest + beyond:g} s needs it"
            f" from {start_time - HORIZON:g} s on"
        )
    least = _TO_HIT if kind is PathKind.HIT else _NOTICEABLE
    departure = latest - min(generator.uniform(least, HORIZON), latest - start_time)
    driven = _drive(scene, ego, departure, kind, generator, HORIZON + beyond)
    moments = departure + torch.arange(len(driven), dtype=torch.float64) * STEP
    struck = first_impact(scene, driven, moments, ego)
    impact = struck is not None and float(moments[struck]) <= latest
    end = float(moments[struck]) + beyond if struck is not None and impact else latest
    times = end - torch.arange(frames - 1, -1, -1, dtype=torch.float64) * dt
    recorded = scene.ego_poses(ego, times).cpu()
    after = times > departure
    poses = torch.where(after[:, None], interpolate(driven, (times - departure) / STEP), recorded)
    return EgoPath(poses.to(scene.tracks.poses.device), times, kind, departure, impact)


def _drive(scene: Scene, ego: int, departure: float, kind: PathKind, generator: np.random.Generator, seconds: float) -> Tensor:
    """World poses (N, 3) of the rear axle, STEP apart, for some seconds from the moment of departure on."""
    before = torch.tensor([departure - STEP, departure], dtype=torch.float64)
    poses = scene.ego_poses(ego, before).cpu()
    move = relative(poses[0], poses[1])
    ride = _Ride(poses[1], max(float(move[0]) / STEP, 0.0), 0.0, departure)
    bicycle = Bicycle(max_speed=max(20.0, ride.speed))
    driver = _driver(scene, ego, ride, kind, generator)
    path = [ride.pose]
    for step in range(1, math.ceil(seconds / STEP - 1e-9) + 1):
        acceleration, curvature = driver(ride)
        bound = _SIDEWAYS / max(ride.speed, 1.0) ** 2
        steering = math.atan(bicycle.wheelbase * min(max(curvature, -bound), bound))
        speed, pull, wheel = torch.tensor((ride.speed, acceleration, steering), dtype=torch.float64)
        pose, speed = bicycle.step(ride.pose, speed, pull, wheel, STEP)
        ride = _Ride(pose, float(speed), step * STEP, departure + step * STEP)
        path.append(pose)
    return torch.stack(path)


def _driver(scene: Scene, ego: int, ride: _Ride, kind: PathKind, generator: np.random.Generator) -> Driver:
    follow = _follow(scene.routes[ego].cpu())
    side = 1.0 if generator.random() < 0.5 else -1.0
    push = generator.uniform(0.5, 3.0) if ride.speed < 3.0 else generator.uniform(-2.0, 2.0)
    sideways = generator.uniform(1.5, _SIDEWAYS)
    if kind is PathKind.BRAKE:
        braking = generator.uniform(2.0, 6.0)
        return lambda now: (-braking, follow(now))
    if kind is PathKind.ACCELERATE:
        pull = generator.uniform(1.5, 3.0)
        return lambda now: (pull, follow(now))
    if kind is PathKind.SWERVE:
        period = generator.uniform(1.2, 3.0)
        return lambda now: (push, follow(now) + side * _bend(sideways, now) * math.sin(2 * math.pi * now.since / period))
    if kind is PathKind.HIT:
        aim = _target(scene, ego, ride, generator)
        if aim is not None:
            return lambda now: (1.0 + abs(push) / 2, _towards(now.pose, aim(now.time)))
    return lambda now: (push, side * _bend(sideways, now) * min(now.since / 0.4, 1.0))


def _bend(sideways: float, now: _Ride) -> float:
    """Curvature in 1/m that gives this lateral acceleration in m/s^2, within what a car can turn."""
    return min(sideways / max(now.speed, 1.0) ** 2, 0.2)


def _follow(route: Tensor) -> Callable[[_Ride], float]:
    """Steers along the route (M, 2), by the point of it that the car reaches in a second or so."""

    def curvature(now: _Ride) -> float:
        local = to_local(now.pose, route)
        reach = max(4.0, now.speed)
        ahead = ((local[:, 0] > 0) & (local.norm(dim=-1) >= reach)).nonzero()
        nearest = int(local.norm(dim=-1).argmin())
        ahead = ahead[ahead >= nearest]
        return _curvature(local[int(ahead[0])]) if len(ahead) else 0.0

    return curvature


def _towards(pose: Tensor, point: Tensor) -> float:
    return _curvature(to_local(pose, point[None])[0])


def _curvature(point: Tensor) -> float:
    """Curvature in 1/m of the arc from the car's rear axle to a point (2,) in its frame."""
    return 2 * float(point[1]) / max(float((point**2).sum()), 4.0)


def _target(scene: Scene, ego: int, ride: _Ride, generator: np.random.Generator) -> Callable[[float], Tensor] | None:
    """Something ahead that the car can hit in time: where it is at a given time, or None where there is nothing."""
    ahead = torch.linspace(0.4, HORIZON, 5, dtype=torch.float64)
    index = (ride.time + ahead).clamp(max=scene.duration) / scene.dt
    agents = to_local(ride.pose, interpolate(scene.tracks.poses.cpu(), index)[..., :2])
    there = scene.tracks.valid.cpu()[:, index.round().long()]
    near = (there & _within_reach(agents, ride.speed, ahead)).any(1)
    near[ego] = False
    chosen = near.nonzero().squeeze(1)
    if len(chosen) and generator.random() < 0.7:
        agent = int(chosen[int(generator.integers(len(chosen)))])
        return lambda time: interpolate(scene.tracks.poses[agent].cpu(), torch.tensor([time / scene.dt]))[0, :2]
    spots = torch.stack(torch.meshgrid(torch.arange(3.0, 40.0), torch.arange(-12.0, 12.5, 0.5), indexing="ij"), dim=-1)
    world = transform(ride.pose, spots.reshape(-1, 2).to(torch.float64))
    static = scene.static
    i, j, inside = static.cells(world.to(static.ground.device))
    solid = ((static.standing[:, i, j] != FREE) & (static.bottom[:, i, j] < CLEARANCE * 10)).any(0) & inside
    chosen = (solid.cpu() & _within_reach(spots.reshape(-1, 2), ride.speed, torch.tensor(HORIZON))).nonzero().squeeze(1)
    if not len(chosen):
        return None
    spot = world[int(chosen[int(generator.integers(len(chosen)))])]
    return lambda time: spot


def _within_reach(local: Tensor, speed: float, seconds: Tensor) -> Tensor:
    """Which points (..., 2) in the car's frame it can get to within `seconds` (...) without turning too sharply."""
    distance = local.norm(dim=-1)
    bend = 2 * local[..., 1].abs() / distance.square().clamp(min=1.0)
    sharpest = min(_SIDEWAYS / max(speed, 1.0) ** 2, 0.15)
    return (local[..., 0] > 3.0) & (distance < speed * seconds + 2.0) & (bend < sharpest)
