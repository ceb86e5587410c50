"""A lattice planner: lateral offsets from the route times accelerations, driven ahead with the car's own bounds, the best one taken.

Each candidate is a policy, not a curve: pure pursuit of the route moved to the side, at one acceleration up to the wanted
speed. It is driven ahead by the environment's own vehicle, so that nothing is promised that the car cannot do, and scored as
the environment rewards, with collisions looked for in the forecast of what is seen now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from agents.driver import Driver, Setting
from agents.forecast import clearance
from agents.planner import Array, Situation
from agents.pure_pursuit import SPACING, curve_speed, line_through
from occworld_env.observation import BEV_CHANNELS
from occworld_env.reward import discomfort
from occworld_env.vehicle import Vehicle, drive
from scenes.motion import to_local, transform

_DISCS = 5  # of the ego's width, along its box


@dataclass(frozen=True)
class LatticeParameters:
    """What is tried, and how it is judged.

    Attributes:
        offsets: metres to the left of the route.
        accelerations: m/s^2; each is held until the car stands or drives at the wanted speed.
        steps: of the environment that are looked ahead.
        look_ahead: seconds that the point pursued lies ahead, within 4 to 14 m.
        lateral: lateral acceleration that the speed is lowered to in curves, m/s^2.
        margin: metres between the ego's side and the middle of an obstacle's cell that count as a collision.
        comfortable_margin: metres that keep a distance of taste; what is missing of them costs `nearness` a step.
        doubt: part of its weight that a collision loses with each step that it lies further ahead.
        red: cost of passing a red or yellow light.
    """

    offsets: tuple[float, ...] = (-3.0, -1.5, -0.75, 0.0, 0.75, 1.5, 3.0)
    accelerations: tuple[float, ...] = (-6.0, -4.0, -2.5, -1.0, 0.0, 1.0, 2.0)
    steps: int = 8
    look_ahead: float = 0.9
    lateral: float = 2.2
    margin: float = 0.3
    comfortable_margin: float = 1.0
    nearness: float = 0.3
    doubt: float = 0.1
    red: float = 10.0


@dataclass(frozen=True)
class Candidates:
    """K ways to drive on in each of B worlds, T frames long, in the ego frame of now.

    Attributes:
        poses: rear axle (B, K, T, 3). speed: m/s (B, K, T). discomfort: of each step (B, K, H), see `reward.discomfort`.
        arc: metres along the route's line (B, K, T). deviation: metres from it (B, K, T).
        acceleration, steering: what is commanded in the first step, m/s^2 and radians (B, K).
    """

    poses: Tensor
    speed: Tensor
    discomfort: Tensor
    arc: Tensor
    deviation: Tensor
    acceleration: Tensor
    steering: Tensor


class Lattice(Driver):
    """A planner for `control` actions on `bev` observations."""

    name: ClassVar[str] = "lattice"

    def __init__(self, parameters: LatticeParameters | None = None) -> None:
        super().__init__()
        self._parameters = parameters or LatticeParameters()

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        candidates = self.candidates(now)
        scores = np.stack([self._score(world, image, now, candidates) for world, image in enumerate(images)])
        best = scores.argmax(axis=1)
        worlds = np.arange(len(best))
        return candidates.acceleration.numpy()[worlds, best], candidates.steering.numpy()[worlds, best]

    def candidates(self, now: Situation) -> Candidates:
        """All candidates of B worlds, each step with one acceleration and one front wheel angle, as the environment has it."""
        p, setting = self._parameters, self.setting
        lines = torch.from_numpy(np.stack([line_through(points) for points in _route(now)]))
        wanted = np.minimum(now.target_speed, [curve_speed(line, p.lateral) for line in lines.numpy()])
        offset, gain = (part.flatten() for part in torch.meshgrid(*map(_tensor, (p.offsets, p.accelerations)), indexing="ij"))
        count, worlds = len(offset), len(lines)
        lines, goal_speed = lines.repeat_interleave(count, 0), _tensor(wanted).repeat_interleave(count)
        offset, gain = offset.repeat(worlds), gain.repeat(worlds)
        state = (now.speed, now.acceleration, now.steering, now.yaw_rate)
        car = Vehicle(
            torch.zeros(worlds * count, 3, dtype=torch.float64), *(_tensor(v).repeat_interleave(count) for v in state)
        )
        path_poses, path_speed, rough, first = [], [], [], None
        for _ in range(p.steps):
            pedal = gain.minimum((goal_speed - car.speed) / (setting.frames * setting.frame_dt))
            wheel = self._pursue(lines, offset, car)
            first = first or (pedal, wheel)
            path = drive(car, lambda *_, command=(pedal, wheel): command, setting.frames, setting.frame_dt, setting.config)
            rough.append(discomfort(car, path))
            every = path.poses.shape[1] // setting.frames
            path_poses.append(path.frames(setting.frames))
            path_speed.append(path.speed[:, every - 1 :: every])
            car = path.end()
        poses = torch.cat(path_poses, dim=1)
        away = torch.cdist(poses[..., :2], lines)
        deviation, nearest = away.min(dim=-1)
        parts = (poses, torch.cat(path_speed, dim=1), torch.stack(rough, dim=1), nearest * SPACING, deviation, *first)
        return Candidates(*(part.reshape(worlds, count, *part.shape[1:]) for part in parts))

    def _pursue(self, lines: Tensor, offset: Tensor, car: Vehicle) -> Tensor:
        """Front wheel angle (N,) of the arc to a point ahead on lines (N, M, 2), moved to the left by offset (N,)."""
        here = (lines - car.pose[:, None, :2]).norm(dim=-1).argmin(dim=-1)
        look = (self._parameters.look_ahead * car.speed).clamp(4.0, 14.0)
        ahead = (here + (look / SPACING).long()).clamp(max=lines.shape[1] - 2)
        each = torch.arange(len(lines))
        point, after = lines[each, ahead], lines[each, ahead + 1]
        left = (after - point)[:, [1, 0]] * _tensor((-1.0, 1.0)) / SPACING
        goal = to_local(car.pose, (point + offset.unsqueeze(-1) * left).unsqueeze(1)).squeeze(1)
        curvature = 2 * goal[:, 1] / goal.square().sum(-1).clamp(min=1.0)
        return torch.atan(self.setting.config.bicycle.wheelbase * curvature)

    def _score(self, world: int, image: Array, now: Situation, candidates: Candidates) -> Array:
        """What the environment would reward each candidate of one world with, if the forecast were true: (K,)."""
        p, setting, weights = self._parameters, self.setting, self.setting.config.weights
        box = setting.boxes(len(now.speed))[world]
        poses, arc = candidates.poses[world], candidates.arc[world].numpy()
        frames = poses.shape[1]
        times = setting.frame_dt * np.arange(1, frames + 1)
        discs = torch.zeros(_DISCS, 2, dtype=torch.float64)
        discs[:, 0] = torch.linspace(-0.5, 0.5, _DISCS, dtype=torch.float64) * (box[0] - box[1]) + box[2]
        place = transform(poses, discs).numpy()  # (K, T, discs, 2)
        space = _look_up(clearance(image, setting.grid, setting.frame_dt, times), place, self.setting) - box[1] / 2
        grass = _look_up(np.repeat(image[[BEV_CHANNELS.index("other_flat")]] / 255.0, frames, axis=0), place, self.setting)
        gap, off = space.min(axis=-1), grass.mean(axis=-1)
        before = np.concatenate((np.zeros((len(arc), 1)), arc[:, setting.frames - 1 :: setting.frames]), axis=1)
        ideal = setting.config.target_speed * setting.frames * setting.frame_dt
        reward = weights.progress * np.clip(np.diff(before, axis=1) / ideal, -1, 1)
        reward -= weights.deviation * self._steps(candidates.deviation[world].numpy()) / setting.config.offroute_distance
        reward -= weights.comfort * candidates.discomfort[world].numpy()
        reward -= p.nearness * self._steps(np.clip(1 - (gap - p.margin) / (p.comfortable_margin - p.margin), 0, 1))
        crash = self._steps(gap < p.margin) > 0
        leave = self._steps(off > setting.config.offroad_share) > 0
        over = crash | leave | self._runs_red(arc, now, world, float(box[2] + box[0] / 2))
        alive = np.cumsum(over, axis=1) == 0
        end = np.cumsum(over, axis=1) * over == 1
        cost = weights.collision * crash + weights.offroad * (leave & ~crash) + p.red * ~(crash | leave)
        fade = (1 - p.doubt) ** np.arange(p.steps)
        return (alive * reward - end * cost * fade).sum(axis=1)

    def _runs_red(self, arc: Array, now: Situation, world: int, front: float) -> Array:
        """In which steps the nose is beyond the line of a red or yellow light that one can still stop at, bool (K, H)."""
        gap = now.light[world] - front
        needed = now.speed[world] ** 2 / (2 * self.setting.config.bicycle.max_braking)
        return self._steps((arc > gap) & (gap > needed)) > 0

    def _steps(self, frames: Array) -> Array:
        """The largest of the frames (K, T) of each step: (K, H)."""
        return frames.reshape(len(frames), -1, self.setting.frames).max(axis=-1)


def _tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _route(now: Situation) -> Array:
    """Points of the route in the ego frame (B, N, 2), from the one nearest to the ego on; `Situation.route` begins at the ego."""
    foot = -now.deviation[:, None] * np.stack((np.sin(now.heading), np.cos(now.heading)), axis=-1)
    return np.concatenate((foot[:, None], now.route[:, 1:]), axis=1)


def _look_up(maps: Array, place: Array, setting: Setting) -> Array:
    """Values of maps (T, X, Y), between the cells' centres, at place (K, T, D, 2) in metres: (K, T, D)."""
    index = (place - np.asarray(setting.grid.origin[:2])) / setting.grid.voxel - 0.5
    frame = np.broadcast_to(np.arange(len(maps))[:, None], place.shape[:-1])
    return ndimage.map_coordinates(maps, (frame, index[..., 0], index[..., 1]), order=1, mode="nearest")
