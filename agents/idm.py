"""Follow the route by pure pursuit, and keep the distance of the intelligent driver model to the nearest voxel ahead on it.

The model is Treiber, Hennecke and Helbing's (2000): free acceleration towards the wanted speed, less what the gap to the
leader and the closing speed demand; above the wanted speed it brakes comfortably, not by the fourth power. The leader is
whatever occupied cell lies nearest in the corridor that the ego's box will sweep along the route; its speed is what its
cells have moved by since the frame before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.driver import Driver
from agents.parameters import require_positive
from agents.planner import Array, Situation
from agents.pure_pursuit import SPACING, curve_speed, line_through, steering_along
from occworld_env.observation import BEV_CHANNELS, ROUTE_AHEAD

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
    look_ahead: float = 1.2

    def __post_init__(self) -> None:
        require_positive(self, "acceleration", "braking", "lateral", "look_ahead")


class Idm(Driver):
    """A planner for `control` actions on `bev` observations."""

    name: ClassVar[str] = "idm"

    def __init__(self, parameters: IdmParameters | None = None) -> None:
        super().__init__()
        self._parameters = parameters or IdmParameters()
        self._lead_speed: dict[int, float] = {}

    def reset(self) -> None:
        """See `Planner.reset`."""
        self._lead_speed.clear()

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        p, config = self._parameters, self.setting.config
        boxes = self.setting.boxes(len(images))
        acceleration, steering = np.empty(len(images)), np.empty(len(images))
        for world, image in enumerate(images):
            if begins[world]:
                self._lead_speed.pop(world, None)
            line, speed = line_through(now.route[world]), float(now.speed[world])
            steering[world] = steering_along(line, p.look_ahead * speed, config.bicycle.wheelbase)
            corridor = line[: max(2, int(min(now.left[world], ROUTE_AHEAD[-1]) / SPACING))]
            gap, lead = self._leader(world, image, corridor, speed, boxes[world])
            light = float(now.light[world]) - _front(boxes[world])
            if light < gap:
                gap, lead = light, 0.0
            wanted = min(float(now.target_speed[world]), curve_speed(line, p.lateral))
            acceleration[world] = self._follow(speed, wanted, gap, lead)
        return acceleration, steering

    def _leader(self, world: int, image: Array, line: Array, speed: float, box: Array) -> tuple[float, float]:
        """Metres from the ego's nose to the nearest thing in the corridor, infinity for none, and its speed along it, m/s."""
        voxel, front = self.setting.grid.voxel, _front(box)
        reach = box[1] / 2 + self._parameters.margin + 0.25 * voxel
        wide = reach + self._parameters.vulnerable_margin
        layer = dict(zip(BEV_CHANNELS, image, strict=True))
        static, moving = (self._along(layer[name], line, reach, front) for name in ("static_obstacle", "vehicle"))
        on_foot = self._along(layer["vulnerable"], line, wide, front)
        nearest = min((float(arcs.min()) for arcs in (static, moving, on_foot) if len(arcs)), default=np.inf)
        gap = nearest - voxel / 2 - front
        if not len(moving) or moving.min() > nearest:
            self._lead_speed.pop(world, None)
            return gap, 0.0
        agents = self._along(layer["vehicle"] | layer["vulnerable"], line, reach, front)
        before = self._along(layer["agents_before"], line, reach, front)
        return gap, self._speed_of(world, nearest, agents, before, speed)

    def _speed_of(self, world: int, nearest: float, here: Array, there: Array, speed: float) -> float:
        """Speed along the line of the vehicle whose rear is `nearest` metres ahead, smoothed over the last steps.

        here, there: arcs of the cells of all agents now and in the frame before.
        """
        here = here[here < nearest + _LEAD_DEPTH]
        there = there[(there > nearest - 4.0) & (there < nearest + _LEAD_DEPTH)]
        measured = float(here.mean() - there.mean()) / self.setting.frame_dt if len(there) else speed
        last = self._lead_speed.get(world, measured)
        self._lead_speed[world] = float(np.clip(0.5 * last + 0.5 * measured, 0.0, self.setting.config.bicycle.max_speed))
        return self._lead_speed[world]

    def _along(self, raster: Array, line: Array, reach: float, front: float) -> Array:
        """Arcs in metres along the line of the cells of raster (X, Y) within `reach` of it and ahead of the ego's middle."""
        grid = self.setting.grid
        cells = (np.argwhere(raster) + 0.5) * grid.voxel + np.asarray(grid.origin[:2])
        low, high = line.min(axis=0) - reach, line.max(axis=0) + reach
        cells = cells[((cells > low) & (cells < high)).all(axis=1) & (cells[:, 0] > front / 2)]
        if not len(cells):
            return np.empty(0)
        offset = np.linalg.norm(cells[:, None] - line[None], axis=-1)
        nearest = offset.argmin(axis=1)
        inside = (offset.min(axis=1) < reach) & (nearest < len(line) - 1)
        return nearest[inside] * SPACING

    def _follow(self, speed: float, wanted: float, gap: float, lead: float) -> float:
        """Acceleration of the intelligent driver model, m/s^2."""
        p = self._parameters
        ratio = speed / max(wanted, 0.1)
        free = 1 - ratio**4 if ratio < 1 else -(p.braking / p.acceleration) * (1 - 1 / ratio**2)
        closing = speed * (speed - lead) / (2 * np.sqrt(p.acceleration * p.braking))
        desired = p.standstill + max(0.0, speed * p.headway + closing)
        wanted_acceleration = p.acceleration * (free - (desired / max(gap, 0.3)) ** 2)
        return float(np.clip(wanted_acceleration, -self.setting.config.bicycle.max_braking, p.acceleration))


def _front(box: Array) -> float:
    """Metres from the rear axle to the nose of a car (3,), see `Setting.boxes`."""
    return float(box[2] + box[0] / 2)
