"""Pure pursuit: follow the route at the target speed, slower in bends, blind to everything on it.

Coulter, Implementation of the Pure Pursuit Path Tracking Algorithm (1992): the front wheels are turned to the arc that leads
from the rear axle to a point of the line that lies some way ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.driver import Driver
from agents.parameters import require_positive
from agents.planner import Array, Situation

SPACING = 0.5  # metres between the points of a line
LENGTH = 60.0  # metres of a line: the route is seen for 40, and what looks ahead by seconds needs more


@dataclass(frozen=True)
class PursuitParameters:
    """How the line is followed.

    Attributes:
        look_ahead: seconds that the point pursued lies ahead, within 4 to 14 m.
        lateral: lateral acceleration that the speed is lowered to in curves, m/s^2.
        acceleration, braking: bounds on the way to the wanted speed, m/s^2, both positive.
        settle: seconds within which the wanted speed would be reached without bounds.
    """

    look_ahead: float = 1.2
    lateral: float = 2.2
    acceleration: float = 1.8
    braking: float = 2.5
    settle: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "look_ahead", "lateral", "acceleration", "braking", "settle")


class PurePursuit(Driver):
    """A planner for `control` actions that needs the `vector` of the observation alone."""

    name: ClassVar[str] = "pure-pursuit"
    needs_image: ClassVar[bool] = False

    def __init__(self, parameters: PursuitParameters | None = None) -> None:
        super().__init__()
        self._parameters = parameters or PursuitParameters()

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        p, wheelbase = self._parameters, self.setting.config.bicycle.wheelbase
        lines = [line_through(route) for route in now.route]
        steering = [steering_along(line, p.look_ahead * speed, wheelbase) for line, speed in zip(lines, now.speed, strict=True)]
        wanted = np.minimum(now.target_speed, [curve_speed(line, p.lateral) for line in lines])
        return np.clip((wanted - now.speed) / p.settle, -p.braking, p.acceleration), np.array(steering)


def line_through(points: Array) -> Array:
    """The line through points (N, 2), from the first one on, SPACING apart over LENGTH metres: (M, 2).

    Points that coincide count once; the line goes straight on where they end, along the ego's x where there is but one.
    """
    distinct = np.concatenate(([True], np.linalg.norm(np.diff(points, axis=0), axis=-1) > 0.05))
    points = points[distinct]
    last = points[-1] - points[-2] if len(points) > 1 else np.array((1.0, 0.0))
    points = np.concatenate((points, points[-1:] + LENGTH * last / np.linalg.norm(last)))
    arc = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))))
    want = np.arange(0, LENGTH + SPACING / 2, SPACING)
    return np.stack([np.interp(want, arc, points[:, axis]) for axis in (0, 1)], axis=-1)


def steering_along(line: Array, distance: float, wheelbase: float) -> float:
    """Front wheel angle, radians, of the arc from the ego to the point `distance` metres along the line (M, 2) in its frame."""
    goal = line[int(np.clip(distance, 4.0, 14.0) / SPACING)]
    return float(np.arctan(wheelbase * 2 * goal[1] / max(float(goal @ goal), 1.0)))


def curve_speed(line: Array, lateral: float) -> float:
    """Speed in m/s at which the sharpest bend in the next 20 m of a line is taken with this lateral acceleration, m/s^2."""
    stretch = 4.0  # metres over which a bend is measured
    ahead = line[: int(20 / SPACING) : int(stretch / SPACING)]
    yaw = np.unwrap(np.arctan2(*np.diff(ahead, axis=0).T[::-1]))
    bend = np.abs(np.diff(yaw)) / stretch
    return float(np.sqrt(lateral / max(float(bend.max(initial=0.0)), 1e-3)))
