"""Follow the route by pure pursuit, and keep the distance of the intelligent driver model to the nearest voxel ahead on it.

The model is Treiber, Hennecke and Helbing's (2000): free acceleration towards the wanted speed, less what the gap to the
leader and the closing speed demand; above the wanted speed it brakes comfortably, not by the fourth power. The leader is
whatever occupied cell lies nearest in the corridor that the ego's box will sweep along the route; its speed is what its
cells have moved by since the frame before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.planner import Observation, control, read_vector
from occworld_env.config import EnvConfig
from occworld_env.observation import BEV_CHANNELS
from scenes.grid import MINI, Grid

Array = np.ndarray
_STEP = 0.5  # metres between the points of the corridor's middle line
_LEAD_DEPTH = 5.0  # metres along the corridor over which cells are taken for one leader


@dataclass(frozen=True)
class IdmParameters:
    """How the driver drives.

    Attributes:
        headway: seconds kept to the leader.
        standstill: metres kept to a standing leader.
        acceleration: comfortable acceleration, m/s^2.
        braking: comfortable deceleration, m/s^2, positive.
        lateral: lateral acceleration that the speed is lowered to in curves, m/s^2.
        margin: metres added to each side of the ego's box.
        vulnerable_margin: metres added for pedestrians and cyclists.
        look_ahead: seconds that the point pursued lies ahead, within 4 to 14 m.
    """

    headway: float = 1.4
    standstill: float = 2.5
    acceleration: float = 1.8
    braking: float = 2.5
    lateral: float = 2.2
    margin: float = 0.25
    vulnerable_margin: float = 0.8
    look_ahead: float = 0.9


class Idm:
    """A planner for `control` actions on `bev` observations."""

    def __init__(
        self,
        grid: Grid = MINI,
        config: EnvConfig | None = None,
        frame_dt: float = 0.25,
        width: float = 1.85,
        front: float = 3.8,
        parameters: IdmParameters | None = None,
    ) -> None:
        """grid, config, frame_dt: of the environment. width: of the ego, metres. front: of its nose ahead of the rear axle."""
        self._grid, self._config, self._frame_dt = grid, config or EnvConfig(), frame_dt
        self._width, self._front = width, front
        self._parameters = parameters or IdmParameters()
        self._lead_speed: dict[int, float] = {}

    def reset(self) -> None:
        """See `Planner.reset`."""
        self._lead_speed.clear()

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`."""
        vector = np.asarray(observation["vector"])
        single = vector.ndim == 1
        image = np.asarray(observation["image"])
        now = read_vector(np.atleast_2d(vector), self._grid, self._config)
        images = image[None] if single else image
        lines = [_dense(route) for route in now.route]
        steering = np.array([self._steer(line, speed) for line, speed in zip(lines, now.speed, strict=True)])
        acceleration = np.empty(len(lines))
        for world, line in enumerate(lines):
            gap, lead = self._leader(world, images[world], line, now.speed[world])
            light = now.light[world] - self._front
            if light < gap:
                gap, lead = light, 0.0
            wanted = min(now.target_speed[world], self._curve_speed(line))
            acceleration[world] = self._follow(now.speed[world], wanted, gap, lead)
        action = control(acceleration, steering, self._config)
        return action[0] if single else action

    def _steer(self, line: Array, speed: float) -> float:
        """Front wheel angle, radians, of the arc to the point of the line that lies ahead by `look_ahead`."""
        distance = np.clip(self._parameters.look_ahead * speed, 4.0, 14.0)
        goal = line[int(distance / _STEP)]
        curvature = 2 * goal[1] / max(float(goal @ goal), 1.0)
        return float(np.arctan(self._config.bicycle.wheelbase * curvature))

    def _curve_speed(self, line: Array) -> float:
        """Speed in m/s at which the sharpest bend within the next 20 m is taken with the wanted lateral acceleration."""
        ahead = line[: int(20 / _STEP) : int(4 / _STEP)]
        yaw = np.unwrap(np.arctan2(*np.diff(ahead, axis=0).T[::-1]))
        bend = np.abs(np.diff(yaw)) / 4.0
        return float(np.sqrt(self._parameters.lateral / max(float(bend.max(initial=0.0)), 1e-3)))

    def _leader(self, world: int, image: Array, line: Array, speed: float) -> tuple[float, float]:
        """Metres from the ego's nose to the nearest thing in the corridor, infinity for none, and its speed along it, m/s."""
        reach = self._width / 2 + self._parameters.margin + 0.25 * self._grid.voxel
        agents = image[BEV_CHANNELS.index("vehicle")] | image[BEV_CHANNELS.index("vulnerable")]
        static = self._along(image[BEV_CHANNELS.index("static_obstacle")], line, reach)
        moving = self._along(image[BEV_CHANNELS.index("vehicle")], line, reach)
        on_foot = self._along(image[BEV_CHANNELS.index("vulnerable")], line, reach + self._parameters.vulnerable_margin)
        nearest = min((float(arcs.min()) for arcs in (static, moving, on_foot) if len(arcs)), default=np.inf)
        gap = nearest - self._grid.voxel / 2 - self._front
        if not len(moving) or moving.min() > nearest:
            self._lead_speed.pop(world, None)
            return gap, 0.0
        return gap, self._speed_of(world, nearest, agents, image[BEV_CHANNELS.index("agents_before")], line, reach, speed)

    def _speed_of(
        self, world: int, nearest: float, agents: Array, before: Array, line: Array, reach: float, speed: float
    ) -> float:
        """Speed along the line of the vehicle whose rear is `nearest` metres ahead, smoothed over the last steps."""
        here, there = (self._along(raster, line, reach) for raster in (agents, before))
        here = here[here < nearest + _LEAD_DEPTH]
        there = there[(there > nearest - 4.0) & (there < nearest + _LEAD_DEPTH)]
        measured = float(here.mean() - there.mean()) / self._frame_dt if len(there) else speed
        last = self._lead_speed.get(world, measured)
        self._lead_speed[world] = float(np.clip(0.5 * last + 0.5 * measured, 0.0, self._config.bicycle.max_speed))
        return self._lead_speed[world]

    def _along(self, raster: Array, line: Array, reach: float) -> Array:
        """Arcs in metres along the line of the cells of raster (X, Y) within `reach` of it and ahead of the ego's middle."""
        i, j = np.nonzero(raster)
        cells = np.stack((i, j), axis=-1) * self._grid.voxel + (np.asarray(self._grid.origin[:2]) + self._grid.voxel / 2)
        low, high = line.min(axis=0) - reach, line.max(axis=0) + reach
        cells = cells[((cells > low) & (cells < high)).all(axis=1) & (cells[:, 0] > self._front / 2)]
        if not len(cells):
            return np.empty(0)
        offset = np.linalg.norm(cells[:, None] - line[None], axis=-1)
        nearest = offset.argmin(axis=1)
        inside = (offset.min(axis=1) < reach) & (nearest < len(line) - 1)
        return nearest[inside] * _STEP

    def _follow(self, speed: float, wanted: float, gap: float, lead: float) -> float:
        """Acceleration of the intelligent driver model, m/s^2."""
        p = self._parameters
        ratio = speed / max(wanted, 0.1)
        free = 1 - ratio**4 if ratio < 1 else -(p.braking / p.acceleration) * (1 - 1 / ratio**2)
        closing = speed * (speed - lead) / (2 * np.sqrt(p.acceleration * p.braking))
        desired = p.standstill + max(0.0, speed * p.headway + closing)
        wanted_acceleration = p.acceleration * (free - (desired / max(gap, 0.3)) ** 2)
        return float(np.clip(wanted_acceleration, -self._config.bicycle.max_braking, p.acceleration))


def _dense(route: Array) -> Array:
    """The line through points (N, 2) resampled every _STEP metres: (M, 2); straight on where the points end or coincide."""
    step = np.diff(route, axis=0)
    length = np.linalg.norm(step, axis=-1)
    keep = np.concatenate(([True], length > 0.05))
    route = route[keep]
    if len(route) < 2:
        route = np.array([route[0], route[0] + (40.0, 0.0)])
    arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(route, axis=0), axis=-1))))
    want = np.arange(0, max(arc[-1], 16.0), _STEP)
    return np.stack([np.interp(want, arc, route[:, axis]) for axis in (0, 1)], axis=-1)
